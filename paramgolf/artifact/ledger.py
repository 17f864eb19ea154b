"""Where the bytes of an artifact go, and what to say when there are too many."""

from collections.abc import Sequence
from typing import NamedTuple

from paramgolf.artifact.header import KIND_IDS, ROLE_IDS, UNCOMPRESSED, read_artifact_header
from paramgolf.artifact.slots import Coder, coder_of
from paramgolf.errors import OverBytes

OVERHEAD = "overhead"
"""Group and kind of what is not a stream: the header with its checksums."""


class LedgerRow(NamedTuple):
    """The bytes of one stream, or of the overhead."""

    group: str
    """Role of the parameters, `all`, or `overhead`."""
    kind: str
    """What the numbers are: floats, halves, scales, codes, wide codes, or `header`."""
    coder: str
    """Class of the coder; `-` where nothing is compressed."""
    size: int
    """Bytes in the artifact."""
    raw_size: int
    """Bytes decoded; 8 · size / raw_size are the bits that an int8 code takes."""


def artifact_ledger(data: bytes, coders: Sequence[Coder] = ()) -> list[LedgerRow]:
    """A row for each stream of the artifact `data` and a last one for the rest; sizes add up to `len(data)`.

    Reads the header only; `coders` are named before the registered ones. Raises `ArtifactError` when it is damaged.
    """
    header, start = read_artifact_header(data)
    rows = []
    for entry in header.streams:
        role = ROLE_IDS[entry.label.role]
        coder = "-" if entry.coder == UNCOMPRESSED else type(coder_of(entry.coder, coders)).__name__
        kind = KIND_IDS[entry.label.kind].value
        rows.append(LedgerRow(role.value if role else "all", kind, coder, entry.size, entry.raw_size))
    return [*rows, LedgerRow(OVERHEAD, "header", "-", start, start)]


def check_budget(total_bytes: int, code_bytes: int, budget: int, ledger: Sequence[LedgerRow]) -> None:
    """Raise `OverBytes` when `total_bytes`, code included, exceed `budget`: by how much, and what weighs most."""
    if total_bytes <= budget:
        return
    weights = [(f"{row.group} {row.kind}", row.size) for row in ledger]
    heaviest = sorted([*weights, ("code", code_bytes)], key=lambda item: item[1], reverse=True)[:4]
    shares = ", ".join(f"{name} {size:,} ({size / total_bytes:.1%})" for name, size in heaviest)
    raise OverBytes(
        f"{total_bytes:,} bytes are {total_bytes - budget:,} over the budget of {budget:,}",
        evidence=f"heaviest: {shares}",
        fix="paramgolf analyze bytes ARTIFACT shows every stream; store the heaviest in fewer bits or shrink it",
    )

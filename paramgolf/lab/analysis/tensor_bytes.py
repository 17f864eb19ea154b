"""Where the bytes of an artifact go: by tensor, role and kind, beside the entropy of what is kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from paramgolf.artifact.arrangement import Expected, label_of, pieces_of
from paramgolf.artifact.container import expected_of, unpack
from paramgolf.artifact.header import StreamLabel, TermForm, read_artifact_header
from paramgolf.config import from_toml
from paramgolf.errors import UsageError
from paramgolf.folder import RunFolder
from paramgolf.lab.estimate import outline
from paramgolf.lab.launch import load_techniques
from paramgolf.run import Run
from paramgolf.stored import Piece


class ByteRow(NamedTuple):
    """One array of one tensor."""

    tensor: str
    role: str
    kind: str
    """What the numbers are: codes, scales, halves, ..."""
    numbers: int
    raw: int
    """Bytes before coding."""
    entropy: int
    """Bytes at the order-0 entropy of this array alone, the table of frequencies left out."""
    share: int
    """Its share, by entropy, of the bytes of the stream it stands in."""


def tensor_bytes(data: bytes, expected: Mapping[str, Expected]) -> list[ByteRow]:
    """A row for every array in the artifact `data`, in order of declaration.

    Shares add up to the artifact less its header. Raises `ArtifactError` for a file that is not such an artifact.
    """
    header, _ = read_artifact_header(data)
    sizes = {entry.label: entry.size for entry in header.streams}
    stored = unpack(data, expected)
    found: list[tuple[StreamLabel, ByteRow]] = []
    for name, weight in stored.items():
        shape, role = expected[name]
        for term in weight.terms:
            pieces = pieces_of(TermForm(term.identity, term.settings), shape)
            for piece, array in zip(pieces, term.arrays(), strict=True):
                found.append((label_of(piece, role), byte_row(name, role.value, piece, array)))
    totals: dict[StreamLabel, int] = {}
    for label, item in found:
        totals[label] = totals.get(label, 0) + (item.entropy or 1)
    return [
        item._replace(share=round(sizes.get(label, 0) * (item.entropy or 1) / totals[label])) for label, item in found
    ]


def byte_row(name: str, role: str, piece: Piece, array: Tensor) -> ByteRow:
    """The row of `array`, its share still open."""
    return ByteRow(name, role, piece.kind.value, array.numel(), piece.size, entropy_bytes(array), 0)


def entropy_bytes(array: Tensor) -> int:
    """Order-0 entropy of the numbers of `array`, bytes; their bit patterns are the symbols."""
    if array.numel() == 0:
        return 0
    width = array.element_size()
    as_integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[width]
    counts = array.contiguous().view(as_integer).unique(return_counts=True)[1].double()
    shares = counts / counts.sum()
    return round(float(-(shares * shares.log2()).sum()) * array.numel() / 8)


def grouped_bytes(rows: list[ByteRow], by: str) -> list[ByteRow]:
    """`rows` added up by `role` and kind, or by `tensor`, largest first."""
    groups: dict[tuple[str, str, str], list[ByteRow]] = {}
    for item in rows:
        key = ("", item.role, item.kind) if by == "role" else (item.tensor, item.role, item.kind)
        groups.setdefault(key, []).append(item)
    added = [
        ByteRow(
            *key,
            sum(item.numbers for item in group),
            sum(item.raw for item in group),
            sum(item.entropy for item in group),
            sum(item.share for item in group),
        )
        for key, group in groups.items()
    ]
    return sorted(added, key=lambda item: item.share, reverse=True)


class ArtifactBytes(NamedTuple):
    """An artifact taken apart."""

    rows: list[ByteRow]
    size: int
    header: int
    """Bytes before the first stream."""


def artifact_bytes_of(path: Path, config: Path | None = None) -> ArtifactBytes:
    """The rows of the artifact at `path`, a file or a run's folder; the config beside it says what model it is of.

    Raises `UsageError` when there is no artifact or no config, `ArtifactError` when it is damaged.
    """
    file = RunFolder(path).artifact if path.is_dir() else path
    settings = config or file.parent / "config.toml"
    if not file.exists():
        raise UsageError(f"{path} holds no artifact", fix=f"paramgolf export {path}")
    if not settings.exists():
        raise UsageError(
            f"nothing says what model {file} is of", evidence=f"no {settings}", fix="--config FILE, its run's"
        )
    load_techniques()
    run = from_toml(Run, settings.read_text(encoding="utf-8"))
    data = file.read_bytes()
    rows = tensor_bytes(data, expected_of(outline(run)))
    return ArtifactBytes(rows, len(data), read_artifact_header(data)[1])

"""The validation split as one stream of tokens, with the bytes that each of them stands for.

The byte counts come from the tokenizer's table (D6) or from byte sidecars (D8), and are checked against the
text that the ids decode to: bits per byte is only as true as its denominator. Sidecars made here agree with it document
by document, published ones only nearly: they count the text before NFKC and before runs of white space are joined.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramgolf.batch import BOS
from paramgolf.data.bytecount import ByteTable
from paramgolf.data.caseops import is_added
from paramgolf.data.shards import Ids, open_shard, open_sidecar, sidecar_of
from paramgolf.data.tokenizers import CaseOpsTokenizer, Tokenizer
from paramgolf.errors import DataError, UsageError

SIDECAR_TOLERANCE = 0.01
"""How far the sum of a published sidecar may lie from the decoded text. Measured: 0.09 % on encyclopedia and web text.
Counting operators as text makes 9 % (PR #2071), characters cut in parts 4 % (PR #1289)."""


class ValStream(NamedTuple):
    """N tokens, of which all but the first are targets."""

    tokens: Ids
    """(N,) uint16."""
    target_bytes: NDArray[np.int32]
    """(N - 1,) bytes of text that `tokens[i + 1]` stands for after `tokens[i]`."""


def validation_stream(
    shards: Sequence[Path],
    tokenizer: Tokenizer,
    *,
    sidecars: Sequence[Path] = (),
    length: int | None = None,
    verify: bool = True,
) -> ValStream:
    """The whole split in `shards`, in order, nothing dropped.

    `length` cuts the stream as the challenge does (D7), to a multiple of `length` targets. `verify` decodes
    every document and compares bytes; it costs about 0.1 s for a million tokens. Raises `DataError` for
    damaged shards, ids outside the vocabulary, sidecars that are missing, unused or do not fit, and at the
    first document whose text disagrees.
    """
    if not shards:
        raise DataError("there are no validation shards", fix="paramgolf data prepare --help")
    table = tokenizer.byte_table()
    require_sidecars_fit(shards, sidecars, table, tokenizer.name)
    tokens = np.concatenate([open_shard(path, vocab=tokenizer.vocab).map() for path in shards])
    target_bytes = sidecar_bytes(tokens, sidecars, tokenizer) if sidecars else table.count(tokens[:-1], tokens[1:])
    if verify:
        verify_bytes(ValStream(tokens, target_bytes), tokenizer, table)
    usable = len(target_bytes) if length is None else multiple_of(length, len(target_bytes))
    return ValStream(tokens[: usable + 1], target_bytes[:usable])


def multiple_of(length: int, targets: int) -> int:
    """The largest multiple of `length` in `targets`; `UsageError` when there is none."""
    if not 0 < length <= targets:
        raise UsageError(f"a stream of {targets:,} targets cannot be cut to multiples of {length:,}")
    return targets // length * length


def require_sidecars_fit(shards: Sequence[Path], sidecars: Sequence[Path], table: ByteTable, name: str) -> None:
    """Raise `DataError` unless sidecars are given exactly where there are any, and operators have one."""
    unused = [path for path in map(sidecar_of, shards) if path.exists() and path not in sidecars]
    if unused:
        raise DataError(
            "byte sidecars exist but are not used",
            evidence=f"{unused[0]}: without it operators count as text, about 9 % too many bytes (PR #2071)",
            fix="pass the sidecars, or move them away if the shards were made without the case transform",
        )
    if not sidecars and table.is_caseop.any():
        raise DataError(
            f"tokenizer {name} has operators of the case transform, but the shards have no byte sidecars",
            evidence=f"operators: ids {np.flatnonzero(table.is_caseop).tolist()}; there is no {sidecar_of(shards[0])}",
            fix="paramgolf data fetch --help, to get the val_bytes files beside the val files",
        )
    if sidecars and len(sidecars) != len(shards):
        raise DataError(
            f"{len(shards)} validation shards have {len(sidecars)} byte sidecars",
            fix=f"paramgolf data check {shards[0].parent}",
        )


def sidecar_bytes(tokens: Ids, sidecars: Sequence[Path], tokenizer: Tokenizer) -> NDArray[np.int32]:
    """(N - 1,) bytes of each target from `sidecars`. Raises `DataError` when they do not belong to `tokens`."""
    table = tokenizer.byte_table()
    counts = np.concatenate([open_sidecar(path).map() for path in sidecars])
    fix = f"paramgolf data check {sidecars[0].parent}"
    if len(counts) != len(tokens):
        raise DataError(
            "the byte sidecars do not belong to the validation shards",
            evidence=f"{len(counts):,} byte counts for {len(tokens):,} tokens",
            fix=fix,
        )
    textless = table.is_boundary[tokens]
    if isinstance(tokenizer, CaseOpsTokenizer):
        textless |= is_added(tokens, table, tokenizer.escape)
    wrong = np.flatnonzero(textless & (counts != 0))
    if len(wrong):
        place = int(wrong[0])
        raise DataError(
            "a byte sidecar gives bytes to tokens that stand for no text",
            evidence=f"token {place:,}, id {tokens[place]}, has {counts[place]} bytes; so have {len(wrong):,} in all",
            fix=fix,
        )
    return counts[1:].astype(np.int32)


def verify_bytes(stream: ValStream, tokenizer: Tokenizer, table: ByteTable) -> None:
    """Decode every document and compare its UTF-8 length with its byte counts.

    Raises `DataError` naming the first document that disagrees, or for a stream without BOS. Where there
    are operators only the sums are compared: a published sidecar counts the text before normalization.
    """
    caseops = bool(table.is_caseop.any())
    counted = true = 0
    for document in val_documents(stream):
        text = tuple(tokenizer.decode(run) for run in visible_runs(document.ids, table))
        length = sum(len(part.encode()) for part in text)
        if not caseops and length != document.counted:
            raise disagreement(document, length, "".join(text))
        counted, true = counted + document.counted, true + length
    if abs(counted - true) > SIDECAR_TOLERANCE * true:
        raise DataError(
            "the byte sidecars disagree with the text",
            evidence=f"they count {counted:,} bytes, the decoded text has {true:,}",
            fix="get the validation files again: paramgolf data fetch --help",
        )


class ValDocument(NamedTuple):
    """One document of a validation stream."""

    number: int
    """From 0."""
    start: int
    """Place of its BOS in the stream."""
    ids: Ids
    """Its tokens after BOS."""
    counted: int
    """The bytes that the stream gives them."""


def val_documents(stream: ValStream) -> Iterator[ValDocument]:
    """The documents of `stream` in order. Raises `DataError` when it does not begin with BOS."""
    starts = np.flatnonzero(stream.tokens == BOS)
    if not len(starts) or starts[0] != 0:
        raise DataError(
            "the validation stream does not begin with a document",
            evidence=f"its first id is {stream.tokens[0]}, BOS is {BOS}; it holds {len(starts):,} BOS",
            fix="prepare the data again with BOS before each document (PR #1736), first shard first",
        )
    ends = np.append(starts[1:], len(stream.tokens))
    sums = np.concatenate(([0], np.cumsum(stream.target_bytes, dtype=np.int64)))
    counted = sums[ends - 1] - sums[starts]
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        yield ValDocument(number, start, stream.tokens[start + 1 : end], int(counted[number]))


def visible_runs(ids: Ids, table: ByteTable) -> list[Ids]:
    """`ids` cut at tokens that have no text (unknown, control), which are left out.

    The unknown token has a sign in decoded text but stands for bytes that nobody knows: they count as none.
    """
    cuts = np.flatnonzero(table.is_boundary[ids])
    if not len(cuts):
        return [ids]
    return [run[1:] if index else run for index, run in enumerate(np.split(ids, cuts))]


def disagreement(document: ValDocument, true: int, text: str) -> DataError:
    """The error for a document whose byte counts are not the length of its text."""
    broken = "; it decodes to broken UTF-8 (U+FFFD)" if "\ufffd" in text else ""
    return DataError(
        f"byte counts disagree with the text of validation document {document.number}",
        evidence=f"counted {document.counted:,} bytes, the text has {true:,}{broken};"
        f" it starts at token {document.start:,} and reads {text[:80]!r}",
        fix="the tokenizer is not the one that made these shards, or its table is wrong: paramgolf data check",
    )

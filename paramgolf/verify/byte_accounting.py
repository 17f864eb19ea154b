"""Check 6, bytes: what bits per byte are divided by, against the text that the tokens decode to.

The judge decodes every document and takes the length of its UTF-8; where a count differs it says by how much and, when
one of the known mistakes explains the difference to the byte, which.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramgolf.data.bytecount import SPACE_PIECE, ByteTable, caseops_source_bytes
from paramgolf.data.tokenizers import Tokenizer
from paramgolf.data.validation import ValStream, val_documents, visible_runs
from paramgolf.verify.predictor import Ints
from paramgolf.verify.ruling import Ruling, failed, passed

BYTES = "byte accounting"
OFFICIAL_BYTES = 151_078_222
"""UTF-8 bytes of the official validation split of 50,000 documents (audit #1916)."""
OFFICIAL_SLACK = 0.005
"""The scores of the baseline imply 0.26 % more, those of three later logs (sp1024, sp8192, CaseOps) differ by less than
0.003 %; a wrong count is off by 4 % or more."""
OFFICIAL_TOKENS = (62_021_632, 63_779_840, 45_508_608, 45_514_752, 40_540_160, 47_851_520, 47_853_343, 151_130_112)
"""Validation targets of the official exports: sp1024 (two), sp4096 (two), sp8192, CaseOps (two), bytes (D2)."""
SIDECAR_SLACK = 0.05
"""Share by which a sidecar may differ from the decoded text: it counts the text before NFKC."""


class ByteClaim(NamedTuple):
    """How a target counts its bytes."""

    total: int
    per_target: Ints | None = None
    """(N - 1,) bytes of each target, where they are known."""
    sidecar: bool = False
    """Whether the counts come from a byte sidecar (CaseOps)."""
    rounding: int = 0
    """How far `total` may be off, where it was worked out from rounded scores."""


class TrueBytes(NamedTuple):
    """What the tokens decode to."""

    per_document: Ints
    starts: Ints
    """Places of BOS."""

    @property
    def total(self) -> int:
        """Bytes of the whole stream."""
        return int(self.per_document.sum())


def check_bytes(tokens: Ints, tokenizer: Tokenizer, claim: ByteClaim) -> list[Ruling]:
    """Whether the claimed bytes are those of the text. `tokens` (N,) is the whole stream, BOS first."""
    true = true_bytes(tokens, tokenizer)
    table = tokenizer.byte_table()
    caseops = bool(table.is_caseop.any())
    sums = (
        f"counted {claim.total:,} bytes, the decoded text has {true.total:,} ({claim.total / max(true.total, 1):.4f})"
    )
    known = explained(claim.total - true.total, tokens, tokenizer, table)
    if caseops:
        close = abs(claim.total - true.total) <= SIDECAR_SLACK * true.total
        if claim.sidecar and close and not known:
            said = "the byte sidecar agrees with the text without operators"
            return [passed(BYTES, said, sums, "sidecar", "bytes_true")]
        if not claim.sidecar and claim.total != true.total:
            said = "operators of the case transform are counted as text: there is no byte sidecar"
            return [failed(BYTES, said, sums, "sidecar", "bytes_true")]
    wrong = wrong_documents(true, claim, tokens) if not (caseops and claim.sidecar) else np.zeros(0, np.int64)
    if abs(claim.total - true.total) <= claim.rounding and not len(wrong):
        return [passed(BYTES, "the bytes are those of the decoded text", sums, "bytes_true")]
    said, keys = known or ("the bytes are not those of the decoded text", ("bytes_true",))
    evidence = sums
    if len(wrong):
        first = int(wrong[0])
        counted = (
            claimed_documents(claim.per_target, true.starts, len(tokens)) if claim.per_target is not None else None
        )
        of_first = (
            f": counted {int(counted[first]):,}, has {int(true.per_document[first]):,}" if counted is not None else ""
        )
        evidence += f"; {len(wrong):,} of {len(true.starts):,} documents differ, the first is {first}"
        evidence += f" at token {int(true.starts[first]):,}{of_first}"
    return [failed(BYTES, said, evidence, *keys)]


def true_bytes(tokens: Ints, tokenizer: Tokenizer) -> TrueBytes:
    """UTF-8 bytes of every document, by decoding it. Raises `DataError` for a stream that does not begin with BOS."""
    table = tokenizer.byte_table()
    caseops = bool(table.is_caseop.any())
    ids = tokens.astype(np.uint16)
    counted = table.count(ids[:-1], ids[1:])
    lengths, starts = [], []
    for document in val_documents(ValStream(ids, counted)):
        text = [tokenizer.decode(run) for run in visible_runs(document.ids, table)]
        if any("\ufffd" in part for part in text):
            # Bytes that are no UTF-8: each stands for itself, and not for the three of the sign for them.
            lengths.append(document.counted)
        else:
            lengths.append(sum(caseops_source_bytes(part) if caseops else len(part.encode()) for part in text))
        starts.append(document.start)
    return TrueBytes(np.array(lengths, np.int64), np.array(starts, np.int64))


def claimed_documents(per_target: Ints, starts: Ints, tokens: int) -> Ints:
    """Claimed bytes by document; the BOS behind a document counts as its last target."""
    sums = np.concatenate(([0], np.cumsum(per_target, dtype=np.int64)))
    ends = np.append(starts[1:], tokens - 1)
    return sums[ends] - sums[starts]


def wrong_documents(true: TrueBytes, claim: ByteClaim, tokens: Ints) -> Ints:
    """Documents whose claimed bytes are not their own; none where only a total is claimed."""
    if claim.per_target is None:
        return np.zeros(0, np.int64)
    return np.flatnonzero(claimed_documents(claim.per_target, true.starts, len(tokens)) != true.per_document)


def explained(surplus: int, tokens: Ints, tokenizer: Tokenizer, table: ByteTable) -> tuple[str, tuple[str, ...]] | None:
    """The known mistake that adds exactly `surplus` bytes, with the rules it breaks."""
    before, target = tokens[:-1], tokens[1:]
    spaces = int((table.has_leading_space[target] & ~table.is_boundary[before]).sum())
    all_spaces = int(table.has_leading_space[target].sum())
    fallback = int(byte_pieces(tokenizer)[target].sum())
    operators = int(table.is_caseop[target].sum())
    bare = int((target == bare_space(tokenizer)).sum())
    told = {
        spaces: ("the space of each word piece is counted twice", ("space_twice", "bytes_true")),
        all_spaces: ("the space of each word piece is counted twice", ("space_twice", "bytes_true")),
        2 * all_spaces: ("spaces count as the three bytes of U+2581", ("space_missing", "bytes_true")),
        2 * bare: ("bare spaces count as three bytes", ("space_missing", "bytes_true")),
        2 * fallback: ("byte-fallback pieces count as the three bytes of U+FFFD", ("replacement_bytes", "bytes_true")),
        3 * operators: ("operators of the case transform count as text", ("sidecar", "bytes_true")),
    }
    return told.get(surplus) if surplus else None


def byte_pieces(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """(vocab,) whether an id is a byte-fallback piece of a SentencePiece model."""
    processor = getattr(tokenizer, "processor", None)
    ids = range(tokenizer.vocab)
    return np.array([processor is not None and processor.is_byte(i) for i in ids], np.bool_)


def bare_space(tokenizer: Tokenizer) -> int:
    """The id of the stand-alone space piece; -1 where there is none."""
    processor = getattr(tokenizer, "processor", None)
    return int(processor.piece_to_id(SPACE_PIECE)) if processor is not None else -1


def implied_bytes(val_loss: float, val_bpb: float, tokens: int) -> int:
    """The denominator behind a pair of scores: bytes = loss / ln 2 · tokens / bpb."""
    return round(val_loss / float(np.log(2)) * tokens / val_bpb) if val_bpb else 0


def official_split(tokens: int) -> bool:
    """Whether that many targets are those of an official export, but for a tail."""
    return any(abs(tokens - known) <= 4096 for known in OFFICIAL_TOKENS)


def check_official_bytes(claim: ByteClaim, tokens: int) -> list[Ruling]:
    """The claimed bytes against those that the official split is known to have, for a count without its data."""
    share = claim.total / OFFICIAL_BYTES
    sums = (
        f"counted {claim.total:,} bytes for {tokens:,} tokens, the official split has {OFFICIAL_BYTES:,} ({share:.4f})"
    )
    if abs(share - 1) <= OFFICIAL_SLACK:
        return [passed(BYTES, "the bytes are those of the official split", sums, "bytes_true")]
    known = [
        (0.15, 0.19, "about as if the space of each word piece counted twice", ("space_twice", "bytes_true")),
        (0.07, 0.12, "about as if operators of the case transform counted as text", ("sidecar", "bytes_true")),
        (0.03, 0.05, "about as if byte-fallback pieces counted three", ("replacement_bytes", "bytes_true")),
    ]
    said, keys = next(
        ((said, keys) for low, high, said, keys in known if low <= share - 1 <= high),
        ("the bytes are not those of the official split", ("bytes_true",)),
    )
    return [failed(BYTES, said, sums, *keys)]

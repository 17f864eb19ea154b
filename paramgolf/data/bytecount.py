"""How many bytes of text each token stands for: the denominator of bits per byte (catalogue D6).

    bytes(x -> y) = base_bytes[y] + (has_leading_space[y] and not is_boundary[x])

for a target `y` after the token `x`. The space that a word piece carries counts unless the token before
it ends nothing visible (the start of a document), because there decoding drops the space too.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor

from paramgolf.errors import DataError

SPACE_PIECE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space: U+2581."""

CASEOPS = "\ue001\ue002\ue003\ue004"
"""The operators of the lossless case transform (D8): TITLE, ALLCAPS, CAPNEXT, ESC."""

CASEOPS_ADDED = re.compile("\ue004[\ue001-\ue004]|[\ue001-\ue003]")
"""One character that the case transform put into the text; after ESC an operator is the text's own."""


@dataclass(frozen=True, eq=False)
class ByteTable:
    """Three tables over the vocabulary, each (vocab,)."""

    base_bytes: NDArray[np.int16]
    """UTF-8 bytes of the piece without its leading space; 0 for control, unknown and unused ids."""
    has_leading_space: NDArray[np.bool_]
    is_boundary: NDArray[np.bool_]
    """Control, unknown and unused ids: no text, and the space after them is not counted."""
    is_caseop: NDArray[np.bool_]
    """Operators of the case transform. They stand for no text, yet their pieces have 3 bytes each, so where
    there are any this table does not give the bytes of the text: the byte sidecar does (PR #2071)."""

    def count(self, previous: NDArray[np.integer], target: NDArray[np.integer]) -> NDArray[np.int32]:
        """Bytes of each `target`, given the token `previous` to it. Same shape as both; ids below `vocab`."""
        counts = self.base_bytes[target].astype(np.int32)
        counts += self.has_leading_space[target] & ~self.is_boundary[previous]
        return counts


def byte_table(processor: SentencePieceProcessor, whose: str = "the vocabulary") -> ByteTable:
    """The table of a SentencePiece model; an error calls it `whose`, the path of its file.

    Raises `DataError` when the vocabulary has no stand-alone space piece: each bare space would fall
    back to three byte pieces and count as three bytes (issue #897).
    """
    vocab = processor.vocab_size()
    if processor.piece_to_id(SPACE_PIECE) == processor.unk_id():
        raise DataError(
            f"{whose} has no stand-alone piece for the space, {SPACE_PIECE!r} (U+2581)",
            evidence=f"its id is that of the unknown piece, {processor.unk_id()}, so bare spaces"
            " would be counted wrongly (issue #897)",
            fix="train the tokenizer again on text that contains spaces: paramgolf data prepare --help",
        )
    base_bytes = np.zeros(vocab, np.int16)
    has_leading_space = np.zeros(vocab, np.bool_)
    is_boundary = np.ones(vocab, np.bool_)
    is_caseop = np.zeros(vocab, np.bool_)
    for index in range(vocab):
        if processor.is_control(index) or processor.is_unknown(index) or processor.is_unused(index):
            continue
        is_boundary[index] = False
        piece = processor.id_to_piece(index)
        has_leading_space[index] = not processor.is_byte(index) and piece.startswith(SPACE_PIECE)
        text = piece[1:] if has_leading_space[index] else piece
        base_bytes[index] = 1 if processor.is_byte(index) else len(text.encode())
        is_caseop[index] = len(piece) == 1 and piece in CASEOPS
    return ByteTable(base_bytes, has_leading_space, is_boundary, is_caseop)


def pure_byte_table(vocab: int, specials: int) -> ByteTable:
    """The table of a vocabulary whose first `specials` ids are special and whose others are one byte each."""
    special = np.arange(vocab) < specials
    none = np.zeros(vocab, np.bool_)
    return ByteTable((~special).astype(np.int16), none, special, none)


def caseops_source_bytes(text: str) -> int:
    """UTF-8 bytes of what `text` was before the case transform: case changes no length, each operator adds 3."""
    return len(text.encode()) - 3 * len(CASEOPS_ADDED.findall(text))

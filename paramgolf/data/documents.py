"""A document: one text with the split it belongs to, cleaned, fingerprinted, and cut when a file is too long."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from paramgolf.data.tokenizers import clean_text

SplitName = Literal["train", "val"]

Marks = tuple[tuple[str, ...], ...]
"""Where a long text may be cut, best places first; the line breaks a mark begins with stay in front of the cut."""

PROSE: Marks = (("\n\n",), ("\n",), (" ",))
PYTHON: Marks = (
    ("\n\ndef ", "\n\nclass ", "\n\nasync def ", "\n\n@"),
    ("\n\n    def ", "\n\n    class ", "\n\n    async def ", "\n\n    @"),
    *PROSE,
)


class Document(NamedTuple):
    """One text of a corpus, as its file gave it."""

    text: str
    split: SplitName | None
    """What the corpus says of it; None where the corpus leaves the choice to the number of validation documents."""
    source: str
    """The file it came from, relative to the corpus."""
    position: int = 0
    """Bytes of the corpus's files read so far, for progress."""


class Cleaned(NamedTuple):
    """What the trainer and the encoder of a tokenizer see of a text."""

    text: str
    repaired: bool
    """Whether invalid UTF-8 was replaced by U+FFFD."""


def clean_document(text: str) -> Cleaned:
    """`clean_text`, and whether it had to replace anything that UTF-8 cannot hold."""
    clean = clean_text(text)
    return Cleaned(clean, clean.count("\ufffd") > text.count("\ufffd"))


def document_hash(text: str) -> bytes:
    """8 bytes that tell a cleaned text from every other one of a corpus."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def share_of(name: str) -> float:
    """A number in [0, 1) drawn from `name`, the same on every machine: fixed splits and orders hang on it."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64


def cut_pieces(read: Callable[[int], str], limit: int, marks: Marks = PROSE) -> Iterator[str]:
    """The text that `read(n)` (at most n characters, fewer only at the end) gives, in pieces of at most `limit`.

    Joined, the pieces are the text. Every piece but the last is longer than half of `limit`. Memory: two pieces.
    """
    held = ""
    while True:
        held += read(limit + 1 - len(held))
        if len(held) <= limit:
            break
        cut = last_cut(held, limit, marks)
        yield held[:cut]
        held = held[cut:]
    if held:
        yield held


def last_cut(text: str, limit: int, marks: Marks) -> int:
    """The last good place to cut `text` in (limit/2, limit]."""
    for rank in marks:
        cuts = (at + cut_length(mark) for mark in rank if (at := text.rfind(mark, limit // 2, limit)) >= 0)
        if best := max(cuts, default=0):
            return best
    return limit


def cut_length(mark: str) -> int:
    """How much of a mark stays in front of the cut."""
    return len(mark) - len(mark.lstrip("\n")) or 1

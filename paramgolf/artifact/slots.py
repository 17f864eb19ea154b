"""The place a coder fills, and what it gets there."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor

from paramgolf.errors import ArtifactError
from paramgolf.parts import Role
from paramgolf.registry import TECHNIQUES
from paramgolf.stored import Piece

SLOT_OF_CODERS = "artifact.coder"


class StreamPart(NamedTuple):
    """What reader and writer know of one array of a stream before they have it."""

    piece: Piece
    role: Role
    identity: int
    """The kind of term that it belongs to, one of `TERMS`."""
    settings: bytes
    """Of the term."""
    known: tuple[Tensor, ...] = ()
    """The arrays of the same term that lie in earlier streams, as the scales of codes."""


class Coder(Protocol):
    """Slot `artifact.coder`: bytes to fewer bytes and back.

    `parts` are the arrays of the stream, one after another; they fill it, or nothing is known and there are none.
    Coders of bytes do not look at them.
    """

    identity: ClassVar[int]
    """The byte that names the coder in an artifact, 1 to 255; never reused. A coder reads what any of its
    settings wrote."""

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data` compressed; the same input gives the same bytes."""
        ...

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """The `size` bytes (at least one) that `encode` got, of the same `parts`.

        Allocates in proportion to `size`, whatever `data` claims. Raises `ArtifactError` when `data` is damaged,
        holds another number of bytes, or goes on after its end.
        """
        ...


def coder_of(identity: int, known: Sequence[Coder]) -> Coder:
    """The coder that an artifact names: one of `known`, else of the registered ones.

    Raises `ArtifactError` when there is none.
    """
    registered: list[Coder] = [entry.config() for entry in TECHNIQUES.values() if entry.fills == SLOT_OF_CODERS]
    for coder in (*known, *registered):
        if coder.identity == identity:
            return coder
    raise ArtifactError(
        f"the artifact was compressed by coder {identity}, which this program does not carry",
        evidence=f"carried: {', '.join(f'{coder.identity} {type(coder).__name__}' for coder in registered) or 'none'}",
        fix="read it with the version that wrote it, or pass the coder of its config",
    )


def level_within(what: str, value: int, least: int, most: int) -> None:
    """Raise `ValueError` naming `what` unless `value` lies within `least` and `most`."""
    if not least <= value <= most:
        raise ValueError(f"{what} lies within {least} and {most}, unlike {value}")


def decoded_exactly(output: bytes, size: int, *, ended: bool) -> bytes:
    """`output`, if it has `size` bytes and its stream `ended` there; else `ArtifactError`.

    A decoder asks for one byte more than it wants, so that a stream that is too long shows.
    """
    if len(output) == size and ended:
        return output
    held = f"more than {size:,}" if len(output) >= size else f"{len(output):,}"
    raise ArtifactError(
        "a compressed stream does not hold what its header says",
        evidence=f"wanted {size:,} bytes and then its end, got {held}",
    )


def undecodable(error: Exception) -> ArtifactError:
    """The error for a stream that its library refused."""
    return ArtifactError("a compressed stream is damaged", evidence=str(error))

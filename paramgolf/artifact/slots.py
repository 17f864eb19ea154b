"""The place a coder fills, and what it gets there."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from paramgolf.errors import ArtifactError
from paramgolf.registry import TECHNIQUES

SLOT_OF_CODERS = "artifact.coder"


class Coder(Protocol):
    """Slot `artifact.coder`: bytes to fewer bytes and back."""

    identity: ClassVar[int]
    """The byte that names the coder in an artifact, 1 to 255; never reused. A coder reads what any of its
    settings wrote."""

    def encode(self, data: bytes) -> bytes:
        """`data` compressed; the same input gives the same bytes."""
        ...

    def decode(self, data: bytes, size: int) -> bytes:
        """The `size` bytes (at least one) that `encode` got.

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

"""The place of what decides for all weights together, as how to share out a budget of bytes, and what it gets there."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor

from paramgolf.parts import Role
from paramgolf.quant.slots import Quantizer
from paramgolf.stored import Stored


class ToStore(NamedTuple):
    """One parameter, and what is known of it."""

    name: str
    weight: Tensor
    """Any shape, fp32, finite, any device."""
    role: Role
    quantizer: Quantizer
    hessian: Tensor | None = None
    """(columns, columns) mean of x xᵀ over calibration tokens, as `Quantizer` gets it."""
    rows: Tensor | None = None
    """(rows,) mean square over calibration tokens of the derivative of the summed loss by each output of the weight:
    half of it times d H dᵀ is what a change d of the row costs a token, in nats."""


class ArtifactSize(Protocol):
    """The bytes that stored weights take in an artifact, all counted."""

    def __call__(self, stored: Mapping[str, Stored]) -> int:
        """Of all parameters, by name."""
        ...


class Allocator(Protocol):
    """Slot `quant.allocate`: quantizes all parameters together."""

    needs_rows: ClassVar[bool]
    """Whether it makes use of `ToStore.rows`, which take a backward pass of calibration."""

    def __call__(self, items: Sequence[ToStore], budget_bytes: int | None, size: ArtifactSize) -> dict[str, Stored]:
        """What is kept of each of `items`, by name and in their order.

        `budget_bytes` bounds `size` of the whole; None leaves the settings of the quantizers as they are. Raises
        `OverBytes` when nothing fits.
        """
        ...

"""The place a quantizer fills, and what it gets there."""

from typing import ClassVar, Protocol

from torch import Tensor

from paramgolf.stored import Stored


class Quantizer(Protocol):
    """Slot `quant.*`: how the weights of one group of roles are kept.

    One that keeps ternary or binary weights has a property `low_bit` (`lowbit.LowBitFiller`).
    """

    needs_hessian: ClassVar[bool]
    """Whether it must be given a Hessian, which calibration collects."""

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """What is kept of `weight` (any shape, fp32, finite, any device); the terms are on the CPU.

        `hessian` is (columns, columns) Σ x xᵀ of the inputs that the weight is multiplied with, or None.
        """
        ...

"""The places a quantizer, a clip, a calibration and whole-model decisions fill, and what they get there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.parts import Role
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


class ClipRule(Protocol):
    """Slot `quant.*.clip`: where the rows of a matrix are cut, as steps of their grids."""

    @property
    def by_row(self) -> bool:
        """Whether each row takes the best of several steps for itself, or all rows one alternative."""
        ...

    def __call__(self, matrix: Tensor, importance: Tensor | None, limit: int) -> Tensor:
        """(alternatives, rows) steps for (rows, columns) `matrix` and codes of ±`limit`; zero for a row of zeros.

        `importance` (columns,) is the diagonal of the Hessian, where there is one.
        """
        ...


class QuantItem(NamedTuple):
    """One parameter on its way into the artifact."""

    name: str
    role: Role
    weight: Tensor
    """Any shape, fp32, finite, on any device."""
    hessian: Tensor | None
    """(columns, columns) Σ x xᵀ, if calibration collected one."""
    quantizer: Quantizer
    rows: Tensor | None = None
    """(rows,) mean square of the derivative of the loss by each output, if calibration took a backward pass."""

    def alone(self) -> Stored:
        """What its quantizer keeps of it, asked by itself."""
        return self.quantizer(self.weight, self.hessian)


ArtifactSize = Callable[[Mapping[str, Stored]], int]
"""Bytes of the artifact of a whole model, measured by writing it."""


class Allocator(Protocol):
    """Slot `quant.allocate`: decides over all parameters at once how each is kept."""

    @property
    def needs_hessian(self) -> bool:
        """Whether every projection's Hessian must be collected, whatever its quantizer says."""
        ...

    @property
    def needs_curvature(self) -> bool:
        """Whether calibration must take a backward pass, for `QuantItem.rows`."""
        ...

    def __call__(self, items: Sequence[QuantItem], budget_bytes: int | None, size: ArtifactSize) -> dict[str, Stored]:
        """What is kept of each of `items`, by name; the artifact should keep to `budget_bytes` if there are any."""
        ...


class Refinement(Protocol):
    """Slot `quant.refine`: reworks what has been kept of the whole model."""

    @property
    def needs_hessian(self) -> bool:
        """Whether every projection's Hessian must be collected, whatever its quantizer says."""
        ...

    def __call__(
        self,
        items: Sequence[QuantItem],
        stored: Mapping[str, Stored],
        budget_bytes: int | None,
        size: ArtifactSize,
    ) -> dict[str, Stored]:
        """`stored`, reworked: the same names with the same shapes."""
        ...


class HeadMatrix(Protocol):
    """The embedding of a model, as far as calibration needs it."""

    def before_head(self, x: Tensor) -> Tensor:
        """(B, T, D) -> what the head's matrix multiplies."""
        ...

    def head_weight(self) -> Tensor:
        """The head's matrix."""
        ...


class CalibratedModel(Protocol):
    """A language model, as far as calibration needs it."""

    @property
    def embedding(self) -> HeadMatrix:
        """Where tokens and logits are made."""
        ...

    def hidden(self, batch: Batch) -> Tensor:
        """(B, T, D): what the head reads."""
        ...

    def logits(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, V) fp32."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Every module of it."""
        ...


class Calibration(Protocol):
    """Slot `quant.calibration`: the text whose inputs the Hessians are summed over."""

    @property
    def reads_training_text(self) -> bool:
        """Whether it reads `training`: then its seconds count as training (rules R4)."""
        ...

    def batches(self, model: CalibratedModel, training: Iterator[Batch]) -> Iterator[Batch]:
        """Batches on the model's device; `training` gives those of the run's loader, without end."""
        ...

"""The places in the optimizer that a technique may fill.

Shapes: n matrices of one shape, stacked: (n, rows, cols).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from paramgolf.optim.orthogonalize import Quintic
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Role


class Schedule(Protocol):
    """`optim.schedule`: the learning rate's scale, shared by every group."""

    def __call__(self, progress: Progress) -> float:
        """The factor on each group's own learning rate."""


class Quintics(Protocol):
    """`optim.matrix.quintics`: the polynomials of the Newton–Schulz iteration."""

    def __call__(self, steps: int) -> tuple[Quintic, ...]:
        """One polynomial for each of `steps` iterations."""


class DecaySchedule(Protocol):
    """`optim.matrix.decay_schedule`: the weight decay's scale, beside the learning rate's."""

    def __call__(self, progress: Progress) -> float:
        """The factor on the matrices' own weight decay."""


class DecayShare(Protocol):
    """`optim.matrix.decay_share`: which coordinates decay. Runs inside the compiled step."""

    def __call__(self, direction: Tensor, weights: Tensor) -> Tensor:
        """(n, rows, cols) step direction and weights -> share of the decay that each coordinate gets, 0..1."""


class Split(Protocol):
    """`optim.matrix.split`: matrices whose rows are orthogonalized in parts."""

    def __call__(self, heads: int) -> int:
        """Into how many matrices a projection is cut whose rows are those of `heads` heads."""


class OnUpdate(Protocol):
    """`optim.on_update` (before orthogonalization) and `optim.on_direction` (after it): rework a stack.

    Runs inside the compiled step: no host synchronization, and `memory` is changed in place only.
    """

    def memory(self, momentum: Tensor) -> dict[str, Tensor]:
        """New state of its own for a stack whose momentum is (n, rows, cols); leading dimension n.

        It is saved with the optimizer, matrix by matrix.
        """

    def __call__(self, update: Tensor, memory: Mapping[str, Tensor]) -> Tensor:
        """(n, rows, cols) -> (n, rows, cols)."""


class Averager(Protocol):
    """Keeps an average of the weights it was built for."""

    def update(self, progress: Progress, scale: float) -> None:
        """Take in the weights after a step; `progress` and the learning rates' `scale` are those of the step."""

    def apply(self) -> AbstractContextManager[None]:
        """Inside, the parameters hold the average; afterwards what they held before."""

    def state(self) -> dict[str, Tensor]:
        """All of its state by name, not copied: a checkpoint saves these and is copied back into these."""


class Average(Protocol):
    """`optim.average`: evaluation and export see an average of the weights."""

    def build(self, parameters: Mapping[str, Tensor], roles: Mapping[str, Role]) -> Averager:
        """An averager of `parameters`, named as in the model."""


class Looker(Protocol):
    """Moves the weights ahead of where the steps have brought them."""

    def before(self, progress: Progress, scale: float) -> None:
        """Before the forward pass of a step, whose learning rates' scale is `scale`."""

    def after(self, progress: Progress) -> None:
        """After the step."""

    def state(self) -> dict[str, Tensor]:
        """As `Averager.state`."""


class LookAhead(Protocol):
    """`optim.look_ahead`: gradients are taken ahead of the weights, and the steps go on from there."""

    def build(self, parameters: Mapping[str, Tensor]) -> Looker:
        """A looker over `parameters`, named as in the model."""


class Ranks(Protocol):
    """What the optimizer asks of the processes that train together. Gradients are already the same on all."""

    @property
    def rank(self) -> int:
        """Which of them this is."""

    @property
    def world(self) -> int:
        """How many they are."""

    def gather(self, share: Tensor) -> Callable[[], Tensor]:
        """Start to collect (k, ...) `share`s of every rank; the result waits and gives (world·k, ...) in rank order."""

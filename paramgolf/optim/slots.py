"""The places in the optimizer that a technique may fill.

Shapes: n matrices of one shape, stacked: (n, rows, cols).
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from paramgolf.optim.orthogonalize import Quintic
from paramgolf.optim.schedule import Progress


class Schedule(Protocol):
    """`optim.schedule`: the learning rate's scale, shared by every group."""

    def __call__(self, progress: Progress) -> float:
        """The factor on each group's own learning rate."""


class Quintics(Protocol):
    """`optim.matrix.quintics`: the polynomials of the Newton–Schulz iteration."""

    def __call__(self, steps: int) -> tuple[Quintic, ...]:
        """One polynomial for each of `steps` iterations."""


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

    def update(self, progress: Progress) -> None:
        """Take in the weights, after a step."""

    def apply(self) -> AbstractContextManager[None]:
        """Inside, the parameters hold the average; afterwards what they held before."""

    def state(self) -> dict[str, Tensor]:
        """All of its state by name, not copied: a checkpoint saves these and is copied back into these."""


class Average(Protocol):
    """`optim.average`: evaluation and export see an average of the weights."""

    def build(self, parameters: Mapping[str, Tensor]) -> Averager:
        """An averager of `parameters`, named as in the model."""

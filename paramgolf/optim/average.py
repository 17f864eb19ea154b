"""Averages of the weights: a second copy of every parameter, and the way to look at a model through it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Shadow:
    """An fp32 copy of named parameters that follows them as its owner says, and how often it did.

    The count is a tensor on the CPU: a checkpoint keeps it, and reading it waits for no device.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.parameters = dict(parameters)
        self.copies = {name: parameter.detach().float().clone() for name, parameter in parameters.items()}
        self.taken = torch.zeros((), dtype=torch.int64)
        """How many times `take` was called."""

    @torch.no_grad()
    def take(self, weight: float) -> None:
        """Move the copy by `weight` (0..1) of the way to the parameters; one pass over all of them."""
        torch._foreach_lerp_(list(self.copies.values()), list(self.parameters.values()), weight)
        self.taken += 1

    @property
    def count(self) -> int:
        """How many times `take` was called, before a resume too."""
        return int(self.taken)

    @contextmanager
    def shown(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the parameters of the names in `values` hold those; afterwards what they held before, bit for bit."""
        kept = {name: self.parameters[name].detach().clone() for name in values}
        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    self.parameters[name].copy_(value)

    def state(self) -> dict[str, Tensor]:
        """The copies under their parameters' names and the count, not copied."""
        return {**{f"shadow/{name}": copy for name, copy in self.copies.items()}, "taken": self.taken}

"""Nats and bytes of what was scored, and the only place where one is divided by the other."""

import math
from typing import NamedTuple


class Tally(NamedTuple):
    """Cost and length of what was scored so far; tallies of disjoint parts add up."""

    nats: float = 0.0
    bytes: int = 0
    tokens: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(self.nats + other.nats, self.bytes + other.bytes, self.tokens + other.tokens)

    @property
    def bits_per_byte(self) -> float:
        """bpb: what the contest scores. Infinite when nothing was counted."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.inf

    @property
    def nats_per_token(self) -> float:
        """Mean cost of a target; comparable only within one tokenizer."""
        return self.nats / self.tokens if self.tokens else math.inf

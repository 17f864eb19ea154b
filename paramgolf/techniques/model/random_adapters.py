"""Random adapters: block matrices are fixed random numbers that cost no bytes, plus a learned product of low rank.

    W = R(seed) + A·B        R ~ 1/sqrt(fan_in), never stored;  A (out, rank) ~ N(0, 0.01²);  B (rank, in) starts at 0

Source: PR #2058: the feed-forward, rank 160, 12 layers of 3× width; PR #1113: everywhere, rank 32, orthogonal R.
Effect: 1.1971 bpb (#2058); 1.3705 in 5.19 MB (#1113). Verdict of both: bytes are better spent on dense weights of
few bits. Cost: (out + in)·rank weights instead of out·in; a product A·B each step.
R is a sum of four integers of 16 bits drawn by torch's CPU generator, nearly Gaussian: integers and one
multiplication are the same bits on every machine, which a Gaussian from logarithms is not. Seeds are counted over
the model, so a change of the layers before changes R. Pitfall: weight decay acts on A and B, never on R.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.model.config import GPTConfig
from paramgolf.model.projections import projections_of, refuse_other_makers
from paramgolf.parts import Linear, Part, Role, normal
from paramgolf.registry import technique


@technique("random_adapters", fills="model.on_blocks", source="PRs #2058 #1113", effect="1.1971 (#2058)")
@dataclass(frozen=True, kw_only=True)
class RandomAdapters:
    """Fixed random projections with learned low-rank corrections."""

    rank: int = 160
    """Of the correction."""
    attention: bool = False
    """Replace attention's projections as well as the feed-forward's."""
    seed: int = 0
    """Of the first random matrix; the others count on."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.seed < 0:
            raise ValueError(f"rank={self.rank} must be positive and seed={self.seed} not negative")

    def check(self, model: GPTConfig) -> None:
        """Raise `ValueError` when another technique makes the projections."""
        refuse_other_makers(model, "random_adapters")

    def rework(self, blocks: Sequence[nn.Module]) -> None:
        """Replace the projections of every block."""
        roles = frozenset({Role.MLP, Role.ATTENTION} if self.attention else {Role.MLP})
        seed = self.seed
        for block in blocks:
            for name, linear in projections_of(block, roles):
                role, (fan_out, fan_in) = linear.specs["weight"].role, linear.weight.shape
                block.set_submodule(name, RandomLinear(random_matrix(fan_out, fan_in, seed), self.rank, role))
                seed += 1


def random_matrix(fan_out: int, fan_in: int, seed: int) -> Tensor:
    """(fan_out, fan_in) fp32 of variance 1/fan_in, the same bits on every machine."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.randint(0, 65536, (4, fan_out, fan_in), generator=generator, dtype=torch.int32).sum(0)
    deviation = (4 * (65536**2 - 1) / 12 * fan_in) ** 0.5
    return (2 * total - 4 * 65535).float() * (0.5 / deviation)


class RandomLinear(Linear):
    """A projection by a fixed random matrix and a learned correction."""

    fixed: Tensor
    left: nn.Parameter
    right: nn.Parameter

    def __init__(self, fixed: Tensor, rank: int, role: Role) -> None:
        Part.__init__(self)  # a weight of its own it has not
        self.register_buffer("fixed", fixed, persistent=False)
        self.param("left", fixed.shape[0], rank, role=role, init=normal(0.01))
        self.param("right", rank, fixed.shape[1], role=role, init=torch.zero_)
        self.delta = None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in) fp32, computed."""
        return self.fixed + self.left @ self.right

    def used(self) -> Tensor:
        """(out, in) fp32: the fixed matrix and its correction."""
        return self.weight

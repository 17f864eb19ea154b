"""Rotary position embedding, on all channels of a head or only the first few (partial RoPE).

    for the pair (x1, x2) = (x[:R/2], x[R/2:R]):   y1 = x1 cos + x2 sin,   y2 = x2 cos − x1 sin
    angle = position · base^(−2i/R)
    NTK, when rows are longer than S0 = trained_for:   base ← base · (context / S0)^(R / (R − 2))

Channels beyond R carry no position. Angles are computed in fp32. Positions count from the start of the row and
are not reset at document starts: attention sees only differences.
Source: arXiv 2104.09864; partial form PR #315; NTK rescale of the record scripts. Effect: 16 of 64 channels with
LN scale: −0.0023 bpb (#315). Cost: two tables of `context` rows, inside the pass over queries and keys.
Pitfall: records at 2,048 tokens before PR #1218 built their table for 1,024 and so trained with base ≈ 22,080
(`trained_for=1024`). Later ones were not rescaled, though their READMEs list "YaRN". The rescale goes by
`model.context`, once and for all; the record scripts went by the row at hand.
"""

from dataclasses import dataclass

from torch import nn

from paramgolf.bounds import require_positive
from paramgolf.model.rotation import Rotation, check_rotary, rotary_rates
from paramgolf.model.slots import Dims, ModelView
from paramgolf.registry import technique


@technique("rope", fills="model.on_qk", source="arXiv 2104.09864; PR #315", effect="-0.0023 (partial, with LN scale)")
@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary positions on queries and keys."""

    channels: int = 0
    """How many leading channels of a head rotate; 0: all."""
    base: float = 10_000.0
    """The slowest pair turns once in about 2π·base positions."""
    trained_for: int = 0
    """Tokens the base is meant for; longer contexts stretch it (NTK). 0: never stretched."""

    def __post_init__(self) -> None:
        require_positive(self, "base")

    def check(self, model: ModelView) -> None:
        """Channels rotate in pairs; a single pair has no slower one to stretch."""
        channels = self.channels or model.dims.head_dim
        check_rotary(channels, model.dims)
        if self.trained_for < 0 or (self.trained_for and channels < 4):
            raise ValueError(f"trained_for={self.trained_for} with {channels} rotating channels")

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The rotation of one layer."""
        channels = self.channels or dims.head_dim
        return Rotation(rotary_rates(channels, self.stretched(channels, dims.context)), dims.context)

    def stretched(self, channels: int, context: int) -> float:
        """The base in use for rows of `context` tokens."""
        if not 0 < self.trained_for < context:
            return self.base
        return self.base * (context / self.trained_for) ** (channels / (channels - 2))

"""YaRN: rotary positions whose slow pairs are slowed further, for contexts longer than the base was meant for.

    rate_i = base^(−2i/R) / (1 + ramp_i · (longest / trained − 1))
    ramp_i = clamp((i / (R/2) − 1/4) / (3/4), 0, 1)

Fast pairs, which tell neighbours apart, keep their rate; the slowest is stretched by longest/trained.
Source: arXiv 2309.00071; this ramp as in the ternary and binary records (base 5,000, 2,048 positions).
Effect: −0.0007 bpb, within noise (ternary study). Cost: none.
Pitfall: the switch called YaRN in record scripts from #1530 on was the NTK rescale of `rope`, and off.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.bounds import require_positive
from paramgolf.model.rotation import Rotation, check_rotary, rotary_rates
from paramgolf.model.slots import Dims, ModelView
from paramgolf.registry import technique


@technique("yarn", fills="model.on_qk", source="arXiv 2309.00071; ternary record", effect="-0.0007 (noise)")
@dataclass(frozen=True, kw_only=True)
class Yarn:
    """Rotary positions with a ramp; takes the place of `rope`."""

    channels: int = 0
    """How many leading channels of a head rotate; 0: all."""
    base: float = 10_000.0
    """Base of the unstretched rates."""
    trained: int = 1024
    """Tokens the base is meant for."""
    longest: int = 2048
    """Tokens the slowest pair is stretched to."""

    def __post_init__(self) -> None:
        require_positive(self, "base")

    def check(self, model: ModelView) -> None:
        """Channels rotate in pairs, and the stretch is one."""
        check_rotary(self.channels or model.dims.head_dim, model.dims)
        if not 0 < self.trained <= self.longest:
            raise ValueError(f"trained={self.trained} and longest={self.longest} stretch nothing")

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The rotation of one layer."""
        return Rotation(self.rates(self.channels or dims.head_dim), dims.context)

    def rates(self, channels: int) -> Tensor:
        """(channels / 2) fp64 radians a token."""
        half = channels // 2
        ramp = ((torch.arange(half, dtype=torch.float64) / half - 0.25) / 0.75).clamp(0, 1)
        return rotary_rates(channels, self.base) / (1 + ramp * (self.longest / self.trained - 1))

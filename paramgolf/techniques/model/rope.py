"""Rotary position embedding, on all channels of a head or only the first few (partial RoPE).

    for the pair (x1, x2) = (x[:R/2], x[R/2:R]):   y1 = x1 cos + x2 sin,   y2 = x2 cos − x1 sin
    angle = position · base^(−2i/R)

Channels beyond R carry no position. Angles are computed in fp32. Positions count from the start of the row and
are not reset at document starts: attention sees only differences.
Source: arXiv 2104.09864; partial form PR #315. Effect: 16 of 64 channels with LN scale: −0.0023 bpb (#315).
Pitfall: records at 2,048 tokens before PR #1218 built their table for 1,024 and so trained with base ≈ 22,080.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.model.slots import Dims, Pass
from paramgolf.registry import technique


@technique("rope", fills="model.on_qk", source="arXiv 2104.09864; PR #315", effect="-0.0023 (partial, with LN scale)")
@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary positions on queries and keys."""

    channels: int = 0
    """How many leading channels of a head rotate; 0: all."""
    base: float = 10_000.0
    """The slowest pair turns once in about 2π·base positions."""

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The rotation of one layer."""
        return Rotation(self.channels or dims.head_dim, self.base, dims.context)


class Rotation(nn.Module):
    """Tables of cosines and sines for `context` positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, channels: int, base: float, context: int) -> None:
        super().__init__()
        self.channels = channels
        rates = base ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
        angles = torch.arange(context, dtype=torch.float64)[:, None, None] * rates
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, q: Tensor, k: Tensor, now: Pass) -> tuple[Tensor, Tensor]:
        """(B, T, H, E), (B, T, K, E) -> the same, rotated."""
        return self.rotate(q), self.rotate(k)

    def rotate(self, x: Tensor) -> Tensor:
        """(B, T, heads, E) -> the same."""
        length, half = x.shape[1], self.channels // 2
        cos, sin = self.cos[:length], self.sin[:length]
        first, second = x[..., :half].float(), x[..., half : self.channels].float()
        turned = torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1).to(x.dtype)
        return turned if self.channels == x.shape[-1] else torch.cat((turned, x[..., self.channels :]), dim=-1)

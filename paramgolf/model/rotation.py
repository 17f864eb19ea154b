"""Rotation of query and key channels by an angle that grows with the position."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from paramgolf.model.slots import Dims, Pass


def rotary_rates(channels: int, base: float) -> Tensor:
    """(channels / 2) fp64 radians a token of each pair: base^(−2i/channels)."""
    return base ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)


def check_rotary(channels: int, dims: Dims) -> None:
    """Raise `ValueError` unless `channels` of a head can rotate in pairs."""
    if not 2 <= channels <= dims.head_dim or channels % 2:
        raise ValueError(f"{channels} channels of a head of {dims.head_dim} cannot rotate in pairs")


class Rotation(nn.Module):
    """Tables of cosines and sines for `context` positions, one column for each of `rates`."""

    kernel_kind: ClassVar[str] = "rotation"

    cos: Tensor
    sin: Tensor

    def __init__(self, rates: Tensor, context: int) -> None:
        super().__init__()
        self.channels = 2 * len(rates)
        angles = torch.arange(context, dtype=torch.float64)[:, None, None] * rates
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, q: Tensor, k: Tensor, now: Pass) -> tuple[Tensor, Tensor]:
        """(B, T, H, E), (B, T, K, E) -> the same, rotated."""
        which = slice(q.shape[1]) if now.plan.places is None else now.plan.places
        return self.rotate(q, self.cos[which], self.sin[which]), self.rotate(k, self.cos[which], self.sin[which])

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, T, heads, E) -> the same, by angles of (T, 1, channels / 2) or a row each."""
        half = self.channels // 2
        first, second = x[..., :half].float(), x[..., half : self.channels].float()
        turned = torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1).to(x.dtype)
        return turned if self.channels == x.shape[-1] else torch.cat((turned, x[..., self.channels :]), dim=-1)

"""Gates on the outputs of attention heads, driven by the block's normalized input."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.model.kernels import kernel_takes
from paramgolf.model.slots import Dims, Tap
from paramgolf.parts import Init, Part, Role


class HeadGate(Part):
    """y[h] · height · σ(sharpness · W[h]·x[:width]), one number a token and head."""

    kernel_kind: ClassVar[str] = "gate"
    weight: nn.Parameter

    def __init__(self, heads: int, width: int, init: Init, *, sharpness: float = 1.0, height: float = 1.0) -> None:
        super().__init__()
        self.sharpness, self.height = sharpness, height
        self.param("weight", heads, width, role=Role.GATE, init=init)

    def forward(self, y: Tensor, tap: Tap) -> Tensor:
        """(B, T, H, E) -> (B, T, H, E)."""
        return y * (self.height * torch.sigmoid(self.sharpness * self.logits(tap))).unsqueeze(-1)

    def logits(self, tap: Tap) -> Tensor:
        """(B, T, H): W·x[:width]."""
        x, weight, width = tap.x_BTD, self.weight, self.weight.shape[1]
        if not kernel_takes(x):
            return F.linear(x[..., :width], weight.to(x.dtype))
        x = x[..., : self.aligned]
        return F.linear(x, F.pad(weight.to(x.dtype), (0, x.shape[-1] - width)))

    @property
    def aligned(self) -> int:
        """How many channels a GPU reads, those beyond the gate's width times zero: a multiple of 8.

        Products of rows that are no multiple of 16 bytes fall back to kernels that load 4 at a time: 18 and 13 µs a
        layer backward for 98,304 rows of 12 channels, where the bytes ask for 2.
        """
        return -(-self.weight.shape[1] // 8) * 8


def check_gate_width(width: int, dims: Dims) -> None:
    """Raise `ValueError` unless a gate can read `width` channels of the residual."""
    if not 1 <= width <= dims.dim:
        raise ValueError(f"a gate cannot read {width} of {dims.dim} channels")

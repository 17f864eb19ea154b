"""What tests of kernels draw and how they compare."""

import torch
from torch import Tensor


def error(found: Tensor, wanted: Tensor) -> float:
    """Relative to the size of what is wanted."""
    found, wanted = found.detach().float(), wanted.detach().float()
    return float((found - wanted).norm() / wanted.norm())


def on_gpu(*shape: int, scale: float = 1.0) -> Tensor:
    """bf16 Gaussians of a fixed seed."""
    generator = torch.Generator("cuda").manual_seed(sum(shape))
    return (scale * torch.randn(*shape, device="cuda", generator=generator)).bfloat16()

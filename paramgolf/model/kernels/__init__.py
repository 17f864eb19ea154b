"""Kernels for a GPU, each beside its plain twin."""

from importlib.util import find_spec

import torch
from torch import Tensor


def kernel_takes(x: Tensor) -> bool:
    """Whether kernels of ours can work on `x`: bf16, on a GPU with tensor-memory loads (Hopper or later)."""
    return x.is_cuda and x.dtype == torch.bfloat16 and kernels_run()


# Not cached: the compiler of torch 2.11 looks through a cache and stops at what it finds there.
@torch.compiler.assume_constant_result
def kernels_run() -> bool:
    """Whether there are Triton and a GPU of compute capability 9 or later."""
    return (
        find_spec("triton") is not None and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)
    )

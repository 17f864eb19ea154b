"""Kernels for a GPU, each beside its plain twin."""

from functools import cache
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


@cache
def quack_present() -> bool:
    """Whether there is a QuACK that takes epilogues (0.6 or later)."""
    return find_spec("quack") is not None and find_spec("quack.epilogue") is not None


def quack_runs(x: Tensor) -> bool:
    """Whether products run through QuACK's kernels: it is installed, with epilogues, and `x` is on a Hopper."""
    return x.is_cuda and torch.cuda.get_device_capability(x.device)[0] == 9 and quack_present()


@torch.compiler.assume_constant_result
def sums_run() -> bool:
    """Whether a product adds to the stream for less than a pass of its own: by QuACK, on a Hopper."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9 and quack_present()

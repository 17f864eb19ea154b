"""Settings of torch for a run: dtype of the forward pass, how reproducible it is, how many graphs it may take."""

from typing import Any

import torch

from paramgolf.model.gpt import GPT


def set_arithmetic(model: GPT, device: torch.device) -> None:
    """bf16 with TF32 accumulation helpers on a GPU; fp32 and deterministic kernels elsewhere."""
    if device.type == "cuda":
        model.compute = torch.bfloat16
        torch.set_float32_matmul_precision("high")
    elif device.type == "cpu":
        torch.use_deterministic_algorithms(True)


def allow_graphs(most: int = 64) -> None:
    """Let one function be compiled up to `most` times in this process; torch's own limit is 8.

    A run takes a graph of the model for each phase and length of rows, and over several ranks one of the optimizer for
    each shape of matrices. Beyond the limit the model would go on uncompiled, and the optimizer stop.
    """
    from torch._dynamo import config

    limits: Any = config
    limits.recompile_limit = max(limits.recompile_limit, most)

"""Arithmetic of a run: dtype of the forward pass, and how reproducible it has to be."""

import torch

from paramgolf.model.gpt import GPT


def set_arithmetic(model: GPT, device: torch.device) -> None:
    """bf16 with TF32 accumulation helpers on a GPU; fp32 and deterministic kernels elsewhere."""
    if device.type == "cuda":
        model.compute = torch.bfloat16
        torch.set_float32_matmul_precision("high")
    elif device.type == "cpu":
        torch.use_deterministic_algorithms(True)

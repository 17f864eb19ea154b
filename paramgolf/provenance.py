"""Where a number came from: commit and machine."""

import platform
import subprocess
from pathlib import Path

import torch


def git_commit() -> str:
    """The commit of the checkout this package runs from, `-dirty` when it has changes; empty outside one."""
    here = Path(__file__).parent
    ask = ["git", "-C", str(here), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def device_name(device: torch.device) -> str:
    """The accelerator's or processor's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"


def peak_memory_mib(device: torch.device) -> tuple[int, int]:
    """Most memory allocated and reserved on the device so far, MiB; zero where the device does not say."""
    if device.type != "cuda":
        return 0, 0
    return torch.cuda.max_memory_allocated(device) >> 20, torch.cuda.max_memory_reserved(device) >> 20

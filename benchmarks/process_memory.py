"""The most memory that this process has held."""

import resource
from contextlib import suppress
from pathlib import Path


def forget_peak() -> None:
    """Let the peak begin at what the process holds now, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> int:
    """MiB at the peak."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

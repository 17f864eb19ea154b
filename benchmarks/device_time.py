"""What the device did in a piece of work: how long its kernels took, and how long it stood still between them."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.autograd import DeviceType

GAP_US = 20.0
"""Up to here a pause is that between two kernels; a longer one is a wait, for the host or for data."""


class DeviceTime(NamedTuple):
    """Milliseconds of a device, from its first work to its last."""

    kernels: int
    """Kernels, copies and fills."""
    busy: float
    gaps: float
    """Pauses of up to `GAP_US` together."""
    waits: float
    """Longer ones together."""

    def __str__(self) -> str:
        return f"{self.busy:8.2f} {self.kernels:7d} {self.gaps:6.2f} {self.waits:6.2f}"


DEVICE_TIME_HEADING = f"{'kernels':>8} {'count':>7} {'gaps':>6} {'waits':>6}"
"""Above what `DeviceTime` prints."""


def device_time(spans: Iterable[tuple[float, float]]) -> DeviceTime:
    """Of works that began and ended at microseconds; works at the same time on several streams count once."""
    ordered = sorted(spans)
    busy = gaps = waits = 0.0
    until = ordered[0][0] if ordered else 0.0
    for begin, end in ordered:
        pause = max(0.0, begin - until)
        gaps += pause if pause <= GAP_US else 0.0
        waits += pause if pause > GAP_US else 0.0
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return DeviceTime(len(ordered), busy / 1000, gaps / 1000, waits / 1000)


def profiled(work: Callable[[], object], kind: str) -> Any:
    """The profile of `work`, which waits for the device before it returns, on a device of `kind`."""
    activity = torch.profiler.ProfilerActivity.CUDA if kind == "cuda" else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], acc_events=True) as profile:
        work()
    return profile


def device_time_of(profile: Any) -> DeviceTime:
    """Of a GPU's profile; of a CPU's nothing."""
    events = (event for event in profile.events() if event.device_type == DeviceType.CUDA)
    works = (event for event in events if not event.is_user_annotation)
    return device_time((event.time_range.start, event.time_range.end) for event in works)


def kernel_table(profile: Any, kind: str) -> str:
    """Where the time went, by kernel."""
    return profile.key_averages().table(sort_by=f"{kind}_time_total", row_limit=120, max_name_column_width=110)

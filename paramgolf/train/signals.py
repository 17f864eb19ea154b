"""Ctrl-C and kill: finish the step, save, then stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopRequest:
    """Whether somebody asked the run to stop, and how."""

    def __init__(self) -> None:
        self.signal = 0
        """Number of the signal that came; 0: none."""


@contextmanager
def stop_requested() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one acts as usual."""
    request = StopRequest()
    usual: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = number
        signal.signal(number, usual[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        usual[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        for caught, handler in usual.items():
            signal.signal(caught, handler)

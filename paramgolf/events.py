"""The one stream of events a run emits: JSON lines, append-only, safe against being killed."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from paramgolf.errors import GolfError

Event = dict[str, Any]
Listener = Callable[[Event], None]


class Events:
    """Appends events to a file and hands them to listeners (progress bar, `train.log`).

    Each event is one line with at least `time` (Unix seconds) and `event` (its kind).
    """

    def __init__(self, path: Path | None = None, listeners: tuple[Listener, ...] = ()) -> None:
        self.path = path
        self.listeners = listeners
        if path is not None:
            end_last_line(path)

    def emit(self, event: str, **values: Any) -> None:
        """Record an event. Written in one `write`, so that a reader never sees half a line of ours.

        Raises `GolfError` when the file cannot be written, as on a full disk.
        """
        if self.path is not None:
            append(self.path, json.dumps(stamped(event, values)) + "\n")
        self.say(event, **values)

    def say(self, event: str, **values: Any) -> None:
        """Tell the listeners only: for progress that nobody will want to read back."""
        for listener in self.listeners:
            listener(stamped(event, values))


def append(path: Path, text: str) -> None:
    """Add `text` to the end of `path`. Raises `GolfError` when that cannot be done."""
    try:
        with path.open("ab") as file:
            file.write(text.encode())
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> GolfError:
    """The error for a file of a run that cannot be written."""
    return GolfError(
        f"{path.name} could not be written: {error.strerror}",
        evidence=f"{path}; what was there before is intact",
        fix=f"df -h {path.parent}; free some space there, then resume the run",
    )


def stamped(event: str, values: Event) -> Event:
    """The record of an event that happens now."""
    return {"time": round(time.time(), 3), "event": event, **values}


def end_last_line(path: Path) -> None:
    """Close a line that a killed process left open, so that the next event starts its own."""
    with suppress(FileNotFoundError), path.open("rb+") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def read_events(path: Path) -> Iterator[Event]:
    """The events in `path`, skipping lines that were cut when a run was killed."""
    with path.open("rb") as file:
        for line in file:
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record

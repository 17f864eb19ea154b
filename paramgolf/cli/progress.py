"""What a run says while it runs: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from paramgolf.cli.output import stderr_console
from paramgolf.events import Event

LINE_SECONDS = 5.0
"""Between two lines of a phase where there is no terminal."""
WIDTH_BEFORE_TEXT = 40
"""Columns that spinner, phase, bar, share and time take on a terminal."""


class Status(NamedTuple):
    """Where a run stands."""

    phase: str
    text: str
    share: float | None = None
    """Of the phase, 0..1; None when nobody knows."""
    seconds_left: float | None = None
    """Of the phase."""


class Tracker:
    """Turns events into statuses; remembers what the events leave out."""

    def __init__(self) -> None:
        self.exported = False
        self.scoring_since = 0.0
        self.scoring_what = ""

    def status(self, event: Event) -> Status | None:
        """The status after `event`; None when it changes nothing."""
        told = STATUSES.get(event["event"])
        return told(self, event) if told else None

    def scoring(self, event: Event) -> Status:
        """A share of a validation or of a score."""
        share, what = event["share"], f"{event['what']} {self.exported}"
        if what != self.scoring_what or share < 0.02:
            self.scoring_what, self.scoring_since = what, event["time"]
        left = (event["time"] - self.scoring_since) * (1 - share) / share
        return Status("score" if self.exported else "validate", event["what"], share, left or None)

    def written(self, event: Event) -> Status:
        """The artifact is on disk."""
        self.exported = True
        return Status("export", f"{event['artifact_bytes']:,} bytes, {event['format']}", 1.0)


def started_status(tracker: Tracker, event: Event) -> Status:
    """What is about to run."""
    text = (
        f"{event['preset']}: {event['params']:,} parameters on {event['world']} x {event['device']}, "
        f"attention {event['backend']}, {event['dataset']}"
    )
    return Status("start", text, 1.0)


def step_status(tracker: Tracker, event: Event) -> Status:
    """Loss, speed and where training is bound to end."""
    fraction = event["fraction"]
    left = event["train_seconds"] * (1 - fraction) / fraction if fraction else None
    last = f"/{event['last_step']:,.0f}" if event["last_step"] else ""
    text = f"step {event['step']:,}{last}  loss {event['loss']:.4f}  {event['tokens_per_second'] / 1000:,.1f}k tok/s"
    return Status("train", text, fraction, left)


def trained_status(tracker: Tracker, event: Event) -> Status:
    """The end of training."""
    return Status("train", f"{event['step']:,} steps in {event['train_seconds']:.1f} s", 1.0)


STATUSES: dict[str, Callable[[Tracker, Event], Status]] = {
    "started": started_status,
    "warmup": lambda tracker, event: Status(
        "warm-up", f"{event['step']}/{event['steps']} steps, compiling", event["step"] / event["steps"]
    ),
    "resumed": lambda tracker, event: Status("train", f"going on after step {event['step']:,}"),
    "step": step_status,
    "trained": trained_status,
    "validation": lambda tracker, event: Status("validate", f"{event['val_bpb']:.4f} bpb", 1.0),
    "calibrated": lambda tracker, event: Status(
        "export", f"{event['hessians']} Hessians in {event['seconds']:.1f} s, now quantizing"
    ),
    "counting": lambda tracker, event: Status("count", "bytes of the script, then quantizing"),
    "exported": Tracker.written,
    "scoring": Tracker.scoring,
    "scored": lambda tracker, event: Status("score", f"{event['what']} {event['val_bpb']:.4f} bpb", 1.0),
}


class Display(Protocol):
    """Shows statuses."""

    def show(self, status: Status) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PlainDisplay:
    """Lines: each phase's beginning and end, and one every few seconds between."""

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.now = now
        self.last = Status("", "")
        self.at = -LINE_SECONDS

    def show(self, status: Status) -> None:
        """Print `status` unless a line has just been printed."""
        new = status.phase != self.last.phase or status.share == 1.0
        if new or self.now() - self.at >= LINE_SECONDS:
            left = f"  {duration(status.seconds_left)} left" if status.seconds_left else ""
            share = f"{status.share:4.0%}" if status.share is not None else "    "
            self.console.print(Text(f"{status.phase:<9} {share}  {status.text}{left}"), soft_wrap=True)
            self.at = self.now()
        self.last = status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LiveDisplay:
    """A bar a phase, the last one moving; what is over stays above."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.fields[phase]:<9}"),
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeLeft(),
            TextColumn("{task.description}", markup=False),
        )
        self.room = max(console.width - WIDTH_BEFORE_TEXT, 10)
        self.progress = Progress(*columns, console=console, refresh_per_second=5)
        self.phase = ""
        self.task = TaskID(0)

    def show(self, status: Status) -> None:
        """Move the bar of the phase."""
        if status.phase != self.phase:
            if self.phase:
                self.progress.update(self.task, completed=1.0, ends=None)
            self.task = self.progress.add_task("", total=1.0, phase=status.phase, ends=None)
            self.phase = status.phase
        ends = time.monotonic() + status.seconds_left if status.seconds_left else None
        # Cut here: a table that is too narrow takes room from all of its columns.
        text = status.text if len(status.text) <= self.room else f"{status.text[: self.room - 1]}…"
        self.progress.update(self.task, completed=status.share or 0.0, description=text, ends=ends)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()


class TimeLeft(ProgressColumn):
    """Counts down between two events."""

    def render(self, task: Task) -> Text:
        """Minutes and seconds, empty when nobody knows."""
        ends = task.fields["ends"]
        text = "" if ends is None or task.finished else duration(max(ends - time.monotonic(), 0.0))
        return Text(text.rjust(7))


def duration(seconds: float) -> str:
    """As 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def display() -> Display:
    """The display that suits standard error."""
    console = stderr_console()
    return LiveDisplay(console) if sys.stderr.isatty() else PlainDisplay(console)


class Follow:
    """A listener of events that shows what it hears."""

    def __init__(self, shown: Display) -> None:
        self.shown = shown
        self.tracker = Tracker()

    def __call__(self, event: Event) -> None:
        status = self.tracker.status(event)
        if status is not None:
            self.shown.show(status)

"""Showing how far the preparation or the fetching of data is. Apart from `progress.py`: it imports the data stage."""

from collections.abc import Callable

from paramgolf.cli.progress import Display, Status
from paramgolf.data.fetch import Fetching
from paramgolf.data.preparing import PrepareProgress, Preparing

PHASES = {"tokenizer": "training a tokenizer", "encode": "encoding", "verify": "fingerprints"}


def preparing_status(state: Preparing) -> Status:
    """The status of a preparation."""
    text = PHASES[state.phase]
    if state.phase == "encode":
        text += f" {state.documents:,} documents, {state.tokens:,} tokens, {state.tokens_per_second:,.0f} tokens/s"
    return Status("prepare", text, state.share if state.phase == "encode" else None, state.seconds_left)


def show_preparing(shown: Display) -> PrepareProgress:
    """A callback for `prepare` that shows its progress."""
    return lambda state: shown.show(preparing_status(state))


def fetching_status(state: Fetching) -> Status:
    """The status of a fetch."""
    share = state.bytes / state.bytes_total if state.bytes_total else None
    size = f"{state.bytes / 1e6:,.0f} of {state.bytes_total / 1e6:,.0f} MB"
    return Status("fetch", f"{state.files:,}/{state.files_total:,} files, {size}, {state.name}", share)


def show_fetching(shown: Display) -> Callable[[Fetching], None]:
    """A callback for `fetch` that shows its progress."""
    return lambda state: shown.show(fetching_status(state))

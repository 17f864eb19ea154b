"""Where commands print, and how: rich on a terminal, plain text into a pipe, JSON when asked."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 200
"""Columns when nobody looks: wide enough that no line is broken."""


def stdout_console() -> Console:
    """For what a command was asked for. Colours follow the terminal and NO_COLOR."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def stderr_console() -> Console:
    """For progress."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH, highlight=False)


def print_json(value: Any) -> None:
    """`value` as indented JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_rows(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> None:
    """A table with the columns numbered in `right` set to the right."""
    ranged = set(right)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, title in enumerate(header):
        table.add_column(title, justify="right" if number in ranged else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console = stdout_console()
    if sys.stdout.isatty():
        console.print(table)
        return
    with console.capture() as lines:
        console.print(table)
    print("\n".join(line.rstrip() for line in lines.get().splitlines()))


def print_text(text: str = "") -> None:
    """A line or more of plain text, never broken or coloured by what is in it."""
    print(text)

"""The bytes of code that a run's submission has, for commands that check or show a budget."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from paramgolf.errors import GolfError

if TYPE_CHECKING:
    from paramgolf.run import Run

SIZES_FILE = "bundle_sizes.json"
"""Below the root of the data: sizes found before, by configuration and version of the package."""


def script_size(data_root: Path = Path("data")) -> "Callable[[Run], int]":
    """What gives the bytes of a run's bundle, or the upper bound of what it imports where no bundle can be made."""

    def size(run: "Run") -> int:
        from paramgolf.artifact.code import imported_code
        from paramgolf.bundle.size import bundle_size

        try:
            return bundle_size(run, data_root / SIZES_FILE)
        except GolfError:  # a technique from outside of the package, or no python-minifier
            return imported_code(run)

    return size

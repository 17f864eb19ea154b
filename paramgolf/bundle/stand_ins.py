"""What takes the place of parts of the package in a bundle, where a script needs less."""

import sys
from pathlib import Path
from typing import Any


def script_bytes(*modules: Any, **more: Any) -> int:
    """In place of `code_bytes`: the size of the file that runs."""
    return Path(sys.argv[0]).stat().st_size


def no_commit() -> str:
    """In place of `git_commit`."""
    return ""


def no_checkpoint(folder: Path) -> bool:
    """In place of `has_checkpoint`: a script always begins anew."""
    return False


def saves_nothing(*what: Any) -> None:
    """In place of `save_finite`."""


def keeps_nothing(*what: Any) -> None:
    """In place of `save_checkpoint`."""


SCRIPT_CODER: Any = None
"""The coder of the run; the bundler writes it here."""


def carried_coder(identity: int, known: Any) -> Any:
    """In place of `coder_of`: a script reads what it wrote."""
    return SCRIPT_CODER


STAND_INS = {
    "code_bytes": "script_bytes",
    "coder_of": "carried_coder",
    "git_commit": "no_commit",
    "has_checkpoint": "no_checkpoint",
    "save_finite": "saves_nothing",
    "save_checkpoint": "keeps_nothing",
}
"""What of the package is replaced by what of this file."""

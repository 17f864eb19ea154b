"""Results of past runs, read back from their folders."""

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

from paramgolf.errors import DataError
from paramgolf.folder import RunFolder
from paramgolf.result import Result, WithinBudget


def read_result(path: Path) -> Result:
    """The result in the file `path`; fields of later versions are left out. Raises `DataError` for anything else."""
    try:
        value = json.loads(path.read_bytes())
        budget = WithinBudget(**{key: bool(kept) for key, kept in value["within_budget"].items()})
        known: dict[str, Any] = {field.name: value[field.name] for field in fields(Result) if wanted(field, value)}
        return Result(**{**known, "within_budget": budget})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a result that can be read",
            evidence=f"{type(error).__name__}: {error}",
            fix=f"paramgolf score {path.parent}",
        ) from error


def wanted(field: Any, value: dict[str, Any]) -> bool:
    """Whether a field is in `value` or has to be."""
    return field.name in value or (field.default is MISSING and field.default_factory is MISSING)


class PastRun(NamedTuple):
    """One folder below `runs/`."""

    folder: Path
    state: str
    """`finished`, `unfinished`, or `damaged`."""
    result: Result | None


def past_runs(root: Path) -> Iterator[PastRun]:
    """Every run below `root`, oldest name first."""
    for config in sorted(root.glob("*/config.toml")):
        folder = RunFolder(config.parent)
        if not folder.result.exists():
            yield PastRun(folder.path, "unfinished", None)
            continue
        try:
            yield PastRun(folder.path, "finished", read_result(folder.result))
        except DataError:
            yield PastRun(folder.path, "damaged", None)

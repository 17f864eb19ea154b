"""A run's folder: where everything about one run stands."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from paramgolf.errors import UsageError
from paramgolf.events import unwritable

RUNS = Path("runs")


class RunFolder:
    """Paths inside `runs/<date>_<preset>_<digest>_s<seed>/`, and atomic writing of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.events = path / "events.jsonl"
        self.log = path / "train.log"
        self.checkpoint = path / "checkpoint"
        self.artifact = path / "artifact.pgolf"
        self.export = path / "export.json"
        self.result = path / "result.json"
        self.data = path / "data.json"

    def write_text(self, target: Path, text: str) -> None:
        """Replace `target` by `text` in one step."""
        self.write_bytes(target, text.encode())

    def write_bytes(self, target: Path, content: bytes) -> None:
        """Replace `target` by `content` in one step: a reader sees the old file or the new, never a part.

        Raises `GolfError` when it cannot be written, as on a full disk; the old file then stays.
        """
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for leftover in target.parent.glob(f".{target.name}.*"):  # of a process that was killed
                leftover.unlink()
            partial.write_bytes(content)
            os.replace(partial, target)
        except OSError as error:
            raise unwritable(target, error) from error
        finally:
            with suppress(OSError):
                partial.unlink()

    def write_json(self, target: Path, values: dict[str, Any]) -> None:
        """Replace `target` by `values`, indented."""
        self.write_text(target, json.dumps(values, indent=2) + "\n")

    def read_json(self, source: Path) -> dict[str, Any]:
        """The object in `source`. Raises `UsageError` when there is none yet."""
        if not source.exists():
            raise UsageError(f"{self.path} has no {source.name}", fix=f"paramgolf run --resume {self.path}")
        return json.loads(source.read_text())


def new_folder(root: Path, preset: str, digest: str, seed: int) -> RunFolder:
    """A folder for a new run, not yet made; a number is added when the name is taken."""
    stem = f"{time.strftime('%Y-%m-%d')}_{preset}_{digest}_s{seed}"
    path, number = root / stem, 2
    while path.exists():
        path, number = root / f"{stem}_{number}", number + 1
    return RunFolder(path)


def latest_unfinished(root: Path, digest: str, seed: int) -> RunFolder | None:
    """The newest run below `root` of this config and seed without a result: what `--resume auto` means."""
    named = (*root.glob(f"*_{digest}_s{seed}"), *root.glob(f"*_{digest}_s{seed}_*"))
    found = [path for path in named if (path / "config.toml").exists() and not (path / "result.json").exists()]
    return RunFolder(max(found, key=lambda path: path.stat().st_mtime)) if found else None


def opened(path: Path) -> RunFolder:
    """The run in `path`. Raises `UsageError` when there is none."""
    if not (path / "config.toml").exists():
        raise UsageError(f"{path} is not a run's folder: it has no config.toml", fix="paramgolf run PRESET")
    return RunFolder(path)

"""The bytes of code that a run's submission has, for commands that check or show a budget."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from paramgolf.errors import GolfError

if TYPE_CHECKING:
    from paramgolf.run import Run

SIZES_FILE = "bundle_sizes.json"
"""Below the root of the data: sizes found before, by configuration and version of the package."""
COUNT = "import sys; from paramgolf.cli.script_size import count_configured; count_configured(*sys.argv[1:])"


class ScriptSize:
    """Gives the bytes of a run's bundle, or the upper bound of what it imports where no bundle can be made."""

    def __init__(self, data_root: Path = Path("data")) -> None:
        self.kept = data_root / SIZES_FILE
        self.ahead: subprocess.Popen[bytes] | None = None

    def begin(self, config: Path) -> None:
        """Have the run in the file `config` counted by a process of its own, a minute or two, while this one trains."""
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self.ahead = subprocess.Popen(
            [sys.executable, "-c", COUNT, str(config), str(self.kept)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __call__(self, run: "Run") -> int:
        from paramgolf.artifact.code import imported_code
        from paramgolf.bundle.size import bundle_size

        if self.ahead is not None:
            self.ahead.wait()
        try:
            return bundle_size(run, self.kept)
        except GolfError:  # a technique from outside of the package, or no python-minifier
            return imported_code(run)


def count_configured(config: str, kept: str) -> None:
    """Leave the size of the run in the file `config` in the file `kept`, at leisure: for a process of its own."""
    from paramgolf.bundle.size import bundle_size
    from paramgolf.config import from_toml
    from paramgolf.lab.launch import load_techniques
    from paramgolf.run import Run

    os.nice(10)
    load_techniques()
    bundle_size(from_toml(Run, Path(config).read_text(encoding="utf-8")), Path(kept))

"""Proof that a bundle does what the package does: both run alone, and every number they make is compared.

The bundle runs in an empty folder, isolated from the environment, with a finder that refuses to import the package.
On a CPU every bit must be the same: the output of every module, each loss, the scores and the artifact. On a GPU, where
sums of one process come out otherwise in the next, the first loss must be the same as printed, later ones and scores
close, and the artifact about as long.
"""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from paramgolf.bundle.amalgamate import amalgamate
from paramgolf.bundle.reduce import reduced_run, write_proof_data
from paramgolf.bundle.shrink import packed
from paramgolf.config import to_toml
from paramgolf.errors import GolfError
from paramgolf.run import Run

WATCH = """
import hashlib, json, runpy, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
felt, outputs = hashlib.sha256(), 0
def feel(value):
    global outputs
    if isinstance(value, torch.Tensor):
        outputs += 1
        felt.update(value.detach().float().cpu().numpy().tobytes())
    elif isinstance(value, (tuple, list)):
        for item in value:
            feel(item)
if DEVICE == "cpu":
    torch.nn.modules.module.register_module_forward_hook(lambda module, given, value: feel(value))
def finish(out):
    global felt, outputs
    result = json.loads((out / "result.json").read_text())
    exact = {key: result[key] for key in ("val_bpb", "val_bpb_export", "val_bpb_raw", "val_loss", "steps", "params")}
    lines = (out / "train.log").read_text().splitlines()
    losses = [line.split(" train_time")[0] for line in lines if "train_loss:" in line]
    artifact = hashlib.sha256((out / "artifact.pgolf").read_bytes()).hexdigest()
    exact["artifact_bytes"] = result["artifact_bytes"]
    told = {"outputs": outputs, "activations": felt.hexdigest(), "artifact": artifact, "losses": losses, **exact}
    print("PROOF " + json.dumps(told), flush=True)
    felt, outputs = hashlib.sha256(), 0
"""
"""Hashes what every module of every model gives, logits included, but not on a GPU: a compiled model takes no hook."""

BY_PACKAGE = """
from paramgolf.lab.launch import load_techniques
load_techniques()
from paramgolf.bundle.script import run_script, script_dataset
from paramgolf.config import from_toml
from paramgolf.run import Run
for name in sys.argv[1:]:
    run = from_toml(Run, Path(name, "config.toml").read_text())
    run_script(run, script_dataset(Path("data"), "byte260"), Path(name, "package"), DEVICE)
    finish(Path(name, "package"))
"""

BY_BUNDLE = """
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "paramgolf":
            raise ImportError("the package is out of reach")
sys.meta_path.insert(0, Refuse())
names = sys.argv[1:]
for name in names:
    out = str(Path(name, "bundle"))
    sys.argv = [str(Path(name, "train_gpt.py")), "--data", "data", "--out", out, "--device", DEVICE]
    sys.argv += ["--tokenizer", "byte260"]
    runpy.run_path(sys.argv[0], run_name="__main__")
    finish(Path(out))
"""


LOSS_TOLERANCE, SCORE_TOLERANCE, BYTES_TOLERANCE = 0.02, 0.01, 0.01
"""On a GPU: nats of a step's loss, bits per byte of a score, share of the artifact's bytes."""
GPU_DIM = 256
"""Channels of a reduced run on a GPU, where kernels want heads of 64."""


class Proof(NamedTuple):
    """What one run gave, by the package and by its bundle."""

    name: str
    package: dict[str, Any]
    bundle: dict[str, Any]
    device: str = "cpu"

    @property
    def equal(self) -> bool:
        """Whether every number is the same; on a GPU, as near as two runs of one program are."""
        if self.device == "cpu" or not self.package or not self.bundle:
            return self.package == self.bundle and bool(self.package)
        both = self.package, self.bundle
        exact = [[told["steps"], told["params"], told["losses"][:1], len(told["losses"])] for told in both]
        losses = [[float(line.rpartition(":")[2]) for line in told["losses"]] for told in both]
        scores = [[told["val_bpb"], told["val_bpb_export"], told["val_bpb_raw"]] for told in both]
        sizes = [math.log(told["artifact_bytes"]) for told in both]
        near = [
            *(abs(one - other) <= LOSS_TOLERANCE for one, other in zip(*losses, strict=False)),
            *(abs(one - other) <= SCORE_TOLERANCE for one, other in zip(*scores, strict=True)),
            abs(sizes[0] - sizes[1]) <= BYTES_TOLERANCE,
        ]
        return exact[0] == exact[1] and all(near)


def prove(runs: Sequence[Run], folder: Path, device: str = "cpu") -> list[Proof]:
    """Compare package and bundle on `runs` at reduced size, one process each for all of them, in `folder`.

    Raises `GolfError` with the end of what a process said when it fails.
    """
    write_proof_data(folder / "data")
    for run in runs:
        small = reduced_run(run) if device == "cpu" else reduced_run(run, dim=GPU_DIM)
        place = folder / run.name
        place.mkdir(parents=True)
        (place / "config.toml").write_text(to_toml(small))
        (place / "train_gpt.py").write_bytes(packed(amalgamate(small).lean, "dense").content)
    names = [run.name for run in runs]
    root = str(Path(__file__).parent.parent.parent)
    watch = f"DEVICE = {device!r}\n{WATCH}\n"
    programs = f"{watch}sys.path.insert(0, {root!r})\n{BY_PACKAGE}", f"{watch}{BY_BUNDLE}"
    # On a GPU nearly all of it is compiling, for minutes: side by side there. A CPU has better use for its cores.
    with ThreadPoolExecutor(1 if device == "cpu" else len(programs)) as pool:
        by_package, by_bundle = pool.map(lambda program: watched(program, names, folder), programs)
    return [Proof(*three, device) for three in zip(names, by_package, by_bundle, strict=True)]


def watched(program: str, names: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """What a process told of each run."""
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program, *names], cwd=folder, capture_output=True, text=True, check=False
    )
    told = [json.loads(line.removeprefix("PROOF ")) for line in ran.stdout.splitlines() if line.startswith("PROOF ")]
    if ran.returncode or len(told) != len(names):
        raise GolfError(
            f"the {'bundle' if BY_BUNDLE in program else 'package'} failed on {names[len(told)]}",
            evidence=ran.stderr[-1500:],
            fix="this is an error of the bundler: please report it with the configuration",
        )
    return told

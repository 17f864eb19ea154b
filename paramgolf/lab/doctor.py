"""Is this machine ready? One line a thing that matters, each problem with its fix."""

import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from paramgolf.data.manifest import MANIFEST_NAME, read_manifest
from paramgolf.errors import DataError
from paramgolf.model.attention import present

GIB = 2**30

EXTRAS = {
    "huggingface_hub": ("data fetch", 'pip install "paramgolf[data]"'),
    "pyarrow": ("corpora in Parquet files", 'pip install "paramgolf[data]"'),
    "matplotlib": ("plots", 'pip install "paramgolf[plot]"'),
}
"""Module -> what needs it, and how to get it."""


class Diagnosis(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "problem"]
    """`note`: something is missing that not everybody needs."""
    found: str
    fix: str = ""


def examine(data_root: Path, runs: Path) -> list[Diagnosis]:
    """Everything about this machine that runs depend on."""
    looks = (python_and_torch(), devices(), extras(), disk(runs), data_folders(data_root))
    return [diagnosis for look in looks for diagnosis in look]


def python_and_torch() -> Iterator[Diagnosis]:
    """Versions."""
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    yield Diagnosis("python", "problem" if old else "ok", version, "install Python 3.11 or newer" if old else "")
    numbers = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    untested = not (2, 9) <= numbers < (2, 14)
    fix = 'pip install "torch>=2.9,<2.14"' if untested else ""
    yield Diagnosis("torch", "problem" if untested else "ok", torch.__version__, fix)


def devices() -> Iterator[Diagnosis]:
    """Accelerators, and the attention backends that run on them."""
    kinds = ["cpu"]
    yield Diagnosis("cpu", "ok", f"{torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        kinds.append("cuda")
        for index in range(torch.cuda.device_count()):
            seen = torch.cuda.get_device_properties(index)
            yield Diagnosis(f"cuda:{index}", "ok", f"{seen.name}, {seen.total_memory / GIB:.0f} GiB")
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        fix = "" if compiler else "install gcc (apt-get install gcc), or --set train.compile=false"
        yield Diagnosis("C compiler", "ok" if compiler else "problem", compiler or "none; torch.compile needs one", fix)
    if torch.backends.mps.is_available():
        kinds.append("mps")
        yield Diagnosis("mps", "ok", "Apple GPU")
    if len(kinds) == 1:
        yield Diagnosis("accelerator", "note", "none: the CPU trains the demo; the challenge wants CUDA devices")
    for kind in kinds:
        yield Diagnosis(f"attention on {kind}", "ok", ", ".join(present(kind)))


def extras() -> Iterator[Diagnosis]:
    """Packages that only some commands need."""
    for module, (use, fix) in EXTRAS.items():
        there = find_spec(module) is not None
        found = "installed" if there else f"missing; needed for {use}"
        yield Diagnosis(module, "ok" if there else "note", found, "" if there else fix)


def disk(runs: Path) -> Iterator[Diagnosis]:
    """Room where runs are written."""
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free / GIB
    fix = "" if free > 2 else "free some space; a checkpoint of the baseline takes 0.2 GiB, FineWeb's 80 shards 16 GiB"
    yield Diagnosis("disk", "ok" if free > 2 else "problem", f"{free:.1f} GiB free in {place}", fix)


def data_folders(root: Path) -> Iterator[Diagnosis]:
    """Prepared data below `root`."""
    manifests = sorted([*root.glob(MANIFEST_NAME), *root.glob(f"*/{MANIFEST_NAME}")])
    for path in manifests:
        try:
            entries = read_manifest(path).datasets
        except DataError as error:
            yield Diagnosis("data", "problem", f"{path.parent}: {error.cause}", error.fix)
            continue
        here = [entry for entry in entries if (path.parent / (entry.path or f"datasets/{entry.name}")).is_dir()]
        for entry in here:
            tokens = f"{entry.stats.tokens_train:,} training tokens" if entry.stats.tokens_train else "size not told"
            yield Diagnosis("data", "ok", f"{entry.name} in {path.parent} ({tokens})")
    if not manifests:
        fix = "paramgolf run demo prepares its own; paramgolf data fetch sp1024 for FineWeb"
        yield Diagnosis("data", "note", f"none below {root}", fix)

"""Starting runs: the configuration, the data and the folder of a run, brought together as a `Session`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout

from paramgolf.challenge_log import ChallengeLog
from paramgolf.config import differences, from_toml, overridden, source, to_toml
from paramgolf.data.corpora import CORPORA
from paramgolf.data.dataset import Dataset, open_dataset, prepared
from paramgolf.data.preparing import PrepareProgress
from paramgolf.errors import DataError, UsageError
from paramgolf.events import Events, Listener
from paramgolf.folder import RUNS, RunFolder, latest_unfinished, new_folder, opened
from paramgolf.model.gpt import GPT
from paramgolf.presets import preset
from paramgolf.quant.calibrate import require_inputs
from paramgolf.run import Run
from paramgolf.stages import Session
from paramgolf.train.checkpoint import has_checkpoint, load_checkpoint
from paramgolf.train.distributed import Place, keep_compiled

DATA = Path("data")
"""Where corpora are prepared and data is fetched to, unless told otherwise."""
COMPILED = "compiled"
"""Below it: what the compiler made for a GPU, so that the next run of the same shapes starts in seconds."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What may be asked of a run."""

    preset: str | None = None
    """Name of a preset; may be left out where `resume` names a folder."""
    settings: tuple[str, ...] = ()
    """Overrides as `optim.matrix.lr=0.03`, in order."""
    seed: int | None = None
    """None: the preset's, or that of the folder."""
    data: str | None = None
    """Prepared folder or corpus; None: the preset's corpus, or what the folder was trained on."""
    data_root: Path = DATA
    runs: Path = RUNS
    resume: str | None = None
    """Folder of a run, or `auto`: the newest unfinished one of this configuration, a new one if there is none."""
    code_size: Callable[[Run], int] | None = None
    """Counts the bytes of code of a run's submission; None: an upper bound."""


class Asked(NamedTuple):
    """A run and the folder it belongs in."""

    run: Run
    folder: RunFolder


def load_techniques() -> None:
    """Fill the registry with the whole catalogue."""
    from paramgolf.techniques import artifact, data, evaluate, model, optim, quant

    assert all((artifact, data, evaluate, model, optim, quant))


def asked_run(name: str, settings: tuple[str, ...] = (), seed: int | None = None) -> Run:
    """The preset `name` with overrides. Raises `UsageError` with the nearest word when something does not exist."""
    load_techniques()
    run = overridden(preset(name), settings)
    return run if seed is None else replace(run, seed=seed)


def run_of(folder: RunFolder) -> Run:
    """The configuration of the run in `folder`. Raises `UsageError` when its file does not fit."""
    load_techniques()
    return from_toml(Run, folder.config.read_text(encoding="utf-8"))


def asked(launch: Launch) -> Asked:
    """The run that is asked for and its folder, which is not made yet.

    Raises `UsageError` when the folder to resume was made under another configuration, with what differs, and when a
    quantizer could not be calibrated at the end.
    """
    named = asked_run(launch.preset, launch.settings, launch.seed) if launch.preset else None
    if launch.resume not in (None, "auto"):
        return resumed(launch, opened(Path(str(launch.resume))), named)
    if named is None:
        raise UsageError("no preset was named", fix="paramgolf presets")
    with torch.device("meta"):
        require_inputs(GPT(named.model), named.quant)
    found = latest_unfinished(launch.runs, named.digest, named.seed) if launch.resume else None
    return Asked(named, found or new_folder(launch.runs, named.name, named.digest, named.seed))


def resumed(launch: Launch, folder: RunFolder, named: Run | None) -> Asked:
    """The run in `folder`, if it is what `launch` asks for (`named`: its preset with overrides)."""
    kept = run_of(folder)
    wanted = named or overridden(kept, launch.settings)
    wanted = replace(wanted, seed=kept.seed if launch.seed is None else launch.seed, name=kept.name)
    if (wanted.digest, wanted.seed) != (kept.digest, kept.seed):
        changes = differences(kept, wanted)
        shown = ", ".join(f"{c.path}: {shown_value(c.old)} there, {shown_value(c.new)} asked" for c in changes[:6])
        raise UsageError(
            f"{folder.path} is a run of another configuration",
            evidence=shown + (f" and {len(changes) - 6} more" if len(changes) > 6 else ""),
            fix=f"paramgolf run --resume {folder.path} to go on with its own, or leave --resume out to start anew",
        )
    return Asked(kept, folder)


def shown_value(value: Any) -> str:
    """A setting as one short word or expression."""
    return "nothing" if value is None else source(value)


def run_data(run: Run, source_name: str | None, root: Path, progress: PrepareProgress | None = None) -> Dataset:
    """The dataset of `run`: `source_name` (a prepared folder or a corpus), else the preset's own corpus below `root`.

    A corpus is prepared on first use. Raises `DataError` or `UsageError` when there is nothing to train on.
    """
    wanted = source_name or run.data.corpus
    if source_name is None and wanted not in CORPORA:
        name = f"{wanted}_{run.data.variant}"
        return open_dataset(root, name if (root / "datasets" / name).is_dir() else run.data.variant)
    return prepared(wanted, variant=run.data.variant, root=root, progress=progress)


def folder_data(ask: Asked, launch: Launch, progress: PrepareProgress | None = None) -> Dataset:
    """The dataset to run on: for a folder that has begun, the one it began with.

    Raises `DataError` when that has changed.
    """
    run, folder = ask
    if not folder.data.exists():
        return run_data(run, launch.data, launch.data_root, progress)
    kept = folder.read_json(folder.data)
    if launch.data is None:
        dataset = open_dataset(Path(kept["path"]), tokenizer=kept["tokenizer"])
    else:
        dataset = run_data(run, launch.data, launch.data_root, progress)
    if dataset.fingerprint != kept["fingerprint"]:
        raise DataError(
            f"the data is not what {folder.path} was trained on",
            evidence=f"fingerprint {dataset.fingerprint} in {shard_folder(dataset)}, "
            f"the run began with {kept['fingerprint']} in {kept['path']}",
            fix="give that data again by --data, or start a new run",
        )
    return dataset


def shard_folder(dataset: Dataset) -> Path:
    """Where the shards of `dataset` stand."""
    return dataset.train[0].parent.absolute()


def data_record(run: Run, dataset: Dataset) -> dict[str, str]:
    """The object of `data.json`: enough to open the same data again."""
    model = getattr(dataset.tokenizer, "path", None)
    return {
        "path": str(shard_folder(dataset)),
        "variant": run.data.variant,
        "tokenizer": str(Path(model).absolute()) if model else dataset.tokenizer.name,
        "fingerprint": dataset.fingerprint,
    }


def from_first(place: Place, value: Any) -> Any:
    """Rank 0's `value` on every rank."""
    if place.world == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    return told[0]


@contextmanager
def session(
    launch: Launch, place: Place, listeners: tuple[Listener, ...] = (), progress: PrepareProgress | None = None
) -> Iterator[Session]:
    """Everything the stages need for what is asked; the folder is made once all of it fits together.

    `listeners` and `progress` are told on rank 0 only. Raises `UsageError` when another process works on the folder.
    """
    ask = asked(launch)
    if place.device.type == "cuda" and ask.run.train.compile:
        keep_compiled(launch.data_root / COMPILED)
    ask = Asked(ask.run, RunFolder(from_first(place, ask.folder.path)))
    dataset = first_then_others(place, lambda: folder_data(ask, launch, progress if place.first else None))
    folder = ask.folder
    heard: tuple[Listener, ...] = (ChallengeLog(folder.log), *listeners) if place.first else ()
    events = Events(folder.events if place.first else None, heard)
    ready = Session(run=ask.run, folder=folder, dataset=dataset, place=place, events=events, code_size=launch.code_size)
    with locked(folder) if place.first else nullcontext():
        if place.first and not folder.data.exists():
            folder.write_text(folder.config, to_toml(ask.run))
            folder.write_json(folder.data, data_record(ask.run, dataset))
        place.barrier()
        yield ready


def first_then_others(place: Place, work: Any) -> Any:
    """`work()` on rank 0, and only then on the others: what the first leaves on disk they find there."""
    done = work() if place.first else None
    place.barrier()
    return done if place.first else work()


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Keep other processes off `folder`. Raises `UsageError` when one is there; a killed process keeps nobody off."""
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"another process works on {folder.path}", fix="wait for it, or leave --resume out to start a new run"
        ) from None
    try:
        yield
    finally:
        lock.release()


def require_trained(folder: RunFolder) -> None:
    """Raise `UsageError` unless the training in `folder` is finished."""
    begun = has_checkpoint(folder.checkpoint)
    if not begun or "trained" not in load_checkpoint(folder.checkpoint).notes:
        raise UsageError(
            f"the training in {folder.path} is not finished",
            evidence="its checkpoint was written on the way" if begun else "it has no checkpoint",
            fix=f"paramgolf train --resume {folder.path}",
        )

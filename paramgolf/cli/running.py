"""`run` and its stages: `train`, `export`, `score`."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from paramgolf.cli.options import Device, Json, RunOptions
from paramgolf.cli.output import print_json, print_rows, print_text
from paramgolf.cli.progress import Follow, display
from paramgolf.cli.script_size import ScriptSize
from paramgolf.errors import ArtifactError, GolfError, OverBytes, OverTime, UsageError

if TYPE_CHECKING:
    from paramgolf.contest import Contest
    from paramgolf.folder import RunFolder
    from paramgolf.lab.launch import Launch
    from paramgolf.lab.reference import Reference
    from paramgolf.result import Result
    from paramgolf.run import Run
    from paramgolf.stages import Session
    from paramgolf.train.distributed import Place


REFERENCES = "reference.json"
"""In a run's folder: what general compressors make of its validation text."""


def run_command(
    preset: str | None = None,
    /,
    *,
    options: RunOptions = RunOptions(),  # noqa: B008
    seeds: str | None = None,
    json: Json = False,
) -> int:
    """Train, export and score a preset.

    Parameters
    ----------
    preset
        Name of a preset; may be left out with --resume FOLDER.
    seeds
        Several runs one after another, as 1,2,3.
    json
        Print the result as JSON; with several seeds, a list.
    """
    from paramgolf.stages import execute

    ends = [
        carried_out(execute, options.launch(preset, seed=seed), options.device, quiet=json)
        for seed in chosen_seeds(seeds, options.seed)
    ]
    results = [end.result for end in ends if end.result is not None]
    if json and results:
        print_json(results[0].as_json() if seeds is None else [result.as_json() for result in results])
    elif len(results) > 1:
        print_seeds(results)
    raise_first(ends)
    return 0


def train_command(preset: str | None = None, /, *, options: RunOptions = RunOptions()) -> int:  # noqa: B008
    """Train a preset, and leave export and score for later.

    Parameters
    ----------
    preset
        Name of a preset; may be left out with --resume FOLDER.
    """
    from paramgolf.stages import train_stage
    from paramgolf.train.distributed import placed
    from paramgolf.validation import Validation

    with placed(options.device) as place, displayed_session(options.launch(preset), place) as ready:
        train_stage(ready, Validation.of(ready.run, ready.dataset, place, ready.events))
    if place.first:
        print_text(f"trained: {ready.folder.path}\nnext: paramgolf export {ready.folder.path}")
    return 0


def export_command(folder: Path, /, *, target_bytes: str | None = None, device: Device = "auto") -> int:
    """Quantize and write the artifact of a finished training.

    Parameters
    ----------
    folder
        Folder of a run.
    target_bytes
        Scale the steps of quantization so that the artifact has so many bytes or up to 2,000 less; "budget": what the
        contest leaves beside the code.
    device
        Where to compute.
    """
    from paramgolf.lab.launch import Launch, require_trained
    from paramgolf.stages import export_stage, train_stage
    from paramgolf.train.distributed import placed
    from paramgolf.validation import Validation

    launch = Launch(resume=str(folder), code_size=ScriptSize())
    with placed(device) as place, displayed_session(launch, place) as ready:
        require_trained(ready.folder)
        target = None if target_bytes is None else asked_bytes(target_bytes, ready.run)
        validation = Validation.of(ready.run, ready.dataset, place, ready.events)
        exported = export_stage(ready, train_stage(ready, validation), validation, budget_bytes=target)
    if place.first:
        left = "" if target is None else f", {target - exported.artifact_bytes:,} below the {target:,} asked for"
        print_text(
            f"exported: {ready.folder.artifact}, {exported.artifact_bytes:,} bytes{left}, with code "
            f"{exported.artifact_bytes + exported.code_bytes:,}\nnext: paramgolf score {ready.folder.path}"
        )
    return 0


def asked_bytes(text: str, run: "Run") -> int:
    """Bytes of an artifact: a number, or what the contest leaves beside the code for `budget`."""
    if text == "budget":
        return run.contest.artifact_bytes - ScriptSize()(run)
    try:
        wanted = int(text.replace("_", "").replace(",", ""))
    except ValueError:
        wanted = 0
    if wanted < 1:
        raise UsageError(f"--target-bytes {text!r} is no number of bytes", fix="--target-bytes 15_900_000, or budget")
    return wanted


def score_command(folder: Path, /, *, device: Device = "auto", json: Json = False) -> int:
    """Score the artifact of a run again, decoded into a fresh model.

    Parameters
    ----------
    folder
        Folder of a run.
    device
        Where to compute.
    json
        Print the result as JSON.
    """
    from paramgolf.lab.launch import Launch
    from paramgolf.stages import score_stage
    from paramgolf.validation import Validation

    def score(ready: "Session") -> object:
        again, artifact = f"paramgolf export {ready.folder.path}", ready.folder.artifact
        if not artifact.exists():
            raise UsageError(f"{ready.folder.path} has no artifact", fix=again)
        validation = Validation.of(ready.run, ready.dataset, ready.place, ready.events)
        try:
            return score_stage(ready, validation)
        except ArtifactError as error:
            evidence = f"{artifact}, {artifact.stat().st_size:,} bytes: {error.evidence}"
            raise ArtifactError(error.cause, evidence=evidence, fix=again) from error

    end = carried_out(score, Launch(resume=str(folder)), device, quiet=json)
    if json and end.result is not None:
        print_json(end.result.as_json())
    raise_first([end])
    return 0


class End(NamedTuple):
    """What became of a run."""

    result: "Result | None"
    """On rank 0 only."""
    over: GolfError | None
    """The budget it did not keep."""


@contextmanager
def displayed_session(launch: "Launch", place: "Place") -> Iterator["Session"]:
    """The session of `launch` with its progress on display."""
    from paramgolf.cli.preparation import show_preparing
    from paramgolf.lab.launch import session

    with display() as shown, session(launch, place, (Follow(shown),), show_preparing(shown)) as ready:
        # Export asks for it, and while a GPU trains the processor has time.
        if place.first and place.device.type == "cuda" and isinstance(launch.code_size, ScriptSize):
            launch.code_size.begin(ready.folder.config)
        yield ready


def carried_out(work: Callable[["Session"], object], launch: "Launch", device: Device, *, quiet: bool) -> End:
    """Do `work`, which ends in a score, and print its result unless `quiet`."""
    from paramgolf.lab.reference import validation_references
    from paramgolf.lab.results import read_result
    from paramgolf.train.distributed import placed

    over: GolfError | None = None
    scale: Sequence[Reference] = ()
    with placed(device) as place, displayed_session(launch, place) as ready:
        try:
            work(ready)
        except OverBytes as error:
            over = error
        if place.first:
            scale = validation_references(ready.dataset)
            listed = [item._asdict() for item in scale]
            ready.folder.write_json(ready.folder.path / REFERENCES, {"references": listed})
    if not place.first:
        return End(None, over)
    result = read_result(ready.folder.result)
    if not quiet:
        from paramgolf.cli.summary import print_summary

        print_summary(result, ready.run.contest, ready.folder.path, scale)
    return End(result, over or over_time(result, ready.run.contest, ready.folder))


def over_time(result: "Result", contest: "Contest", folder: "RunFolder") -> OverTime | None:
    """The error for a clock that was not kept."""
    kept = result.within_budget
    if kept.train and kept.eval:
        return None
    what, spent, allowed = (
        ("evaluation", result.eval_seconds, contest.eval_seconds)
        if kept.train
        else ("training", result.train_seconds, contest.train_seconds)
    )
    return OverTime(
        f"{what} took {spent:.1f} s, {spent - allowed:.1f} over the budget of {allowed:g} s",
        evidence=f"{folder.result}, on {result.world} x {result.device}",
        fix="--set train.by=clock ends training in time" if what == "training" else "a cheaper evaluate.protocol",
    )


def raise_first(ends: Sequence[End]) -> None:
    """Raise the first budget that was not kept."""
    for end in ends:
        if end.over is not None:
            raise end.over


def chosen_seeds(seeds: str | None, seed: int | None) -> list[int | None]:
    """The seeds to run; None stands for the preset's own."""
    if seeds is None:
        return [seed]
    try:
        numbers: list[int | None] = [int(word) for word in seeds.split(",")]
    except ValueError:
        numbers = []
    if not numbers or seed is not None:
        raise UsageError(f"--seeds {seeds!r} is no list of whole numbers, or came with --seed", fix="--seeds 1,2,3")
    return numbers


def print_seeds(results: Sequence["Result"]) -> None:
    """Several seeds of one configuration, and their mean."""
    rows = [(result.seed, f"{result.val_bpb:.4f}", f"{result.total_bytes:,}") for result in results]
    print_text()
    print_rows(("seed", "bpb", "bytes"), rows, right=(0, 1, 2))
    scores = [result.val_bpb for result in results]
    print_text(f"mean {statistics.mean(scores):.4f}, standard deviation {statistics.stdev(scores):.4f}")

"""Whole exports along one or more settings: clip widths, bits, coders, whatever a setting can say."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from paramgolf.config import overridden
from paramgolf.errors import UsageError
from paramgolf.lab.analysis.points import Point
from paramgolf.lab.analysis.subject import export_settings
from paramgolf.lab.analysis.workbench import Trial, Workbench, exported
from paramgolf.quant.step_width import has_widths, steps_scaled
from paramgolf.run import Run

FACTORS = (0.7, 0.85, 1.0, 1.2, 1.45)
"""Of the steps that a run quantizes with, where nothing else is asked."""
BYTE_FACTORS = (0.7, 0.8, 0.9, 1.0, 1.1)
"""Of the bytes that its weights may take, where its export fills them whatever its steps were."""


def varied_runs(run: Run, variations: Sequence[str]) -> list[tuple[str, Run]]:
    """Every combination of `variations`, each as `quant.mlp.clip.sigmas=10,12,14`, with a label.

    Raises `UsageError` for what is no list of values or no setting of the export.
    """
    axes: list[list[str]] = []
    for variation in variations:
        path, equals, values = variation.partition("=")
        words = [word.strip() for word in values.split(",") if word.strip()]
        if not equals or not words:
            raise UsageError(f"{variation!r} is not of the form path=value,value", fix="--vary quant.mlp.bits=5,6,7")
        axes.append([f"{path.strip()}={word}" for word in words])
    combined = itertools.product(*axes)
    return [(short_label(settings), export_settings(run, settings)) for settings in combined]


def short_label(settings: Iterable[str]) -> str:
    """Settings without what all of them begin with."""
    return " ".join(setting.removeprefix("quant.").removeprefix("artifact.") for setting in settings)


def scaled_runs(bench: Workbench) -> list[tuple[str, Run]]:
    """The subject's run coarser and finer: by its steps, or by its budget where that decides on them."""
    run = bench.subject.run
    if not run.quant.fill and run.quant.allocate is None:
        return scaled_steps(run, FACTORS)
    found = []
    for factor in BYTE_FACTORS:
        more = round((factor - 1) * bench.budget)
        contest = replace(run.contest, artifact_bytes=run.contest.artifact_bytes + more)
        found.append((f"bytes x {factor:g}", replace(run, contest=contest)))
    return found


def scaled_steps(run: Run, factors: Sequence[float]) -> list[tuple[str, Run]]:
    """`run` with all its quantization steps times each factor. Raises `UsageError` when none of them can be set."""
    if not has_widths(run.quant):
        raise UsageError(
            "no quantizer of this run has a step that can be set",
            fix="--vary PATH=VALUES names a setting; paramgolf techniques lists quantizers",
        )
    return [(f"steps x {factor:g}", replace(run, quant=steps_scaled(run.quant, factor))) for factor in factors]


def sweep_runs(bench: Workbench, survey: str, runs: Sequence[tuple[str, Run]]) -> list[Point]:
    """The point of each of `runs`, which differ from the subject's in their export only."""
    return bench.run(survey, [of_run(bench, label, run) for label, run in runs])


def of_run(bench: Workbench, label: str, run: Run) -> Trial:
    """The trial of the export of `run`, whose contest may leave other bytes than the subject's."""
    more = run.contest.artifact_bytes - bench.subject.run.contest.artifact_bytes
    return exported(bench, label, run.quant, run.artifact.coder, budget=bench.budget + more if more else None)


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The scored points that no other beats in both bytes and score, fewest bytes first (Pareto)."""
    best, found = float("inf"), list[Point]()
    for point in sorted(points, key=lambda item: (item.bytes, item.bpb or 0.0)):
        if point.bpb is not None and point.bpb < best:
            best = point.bpb
            found.append(point)
    return found


def with_coders(runs: Sequence[tuple[str, Run]], names: Sequence[str]) -> list[tuple[str, Run]]:
    """Each of `runs` under each coder, by its short name; as they are when none is named."""
    if not names:
        return list(runs)
    return [(f"{label}, {name}", overridden(run, [f"artifact.coder={name}"])) for label, run in runs for name in names]

"""What every command of the workbench takes, and how it shows its progress."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from paramgolf.cli.options import Device, Settings, Switch
from paramgolf.cli.progress import Display, Status, display

if TYPE_CHECKING:
    from paramgolf.lab.analysis.workbench import Step, StepTold, Workbench


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions:
    """On what, and how, the workbench measures."""

    weights: Path | None = None
    """A safetensors file of weights; RUN then is the preset that they were trained with."""
    settings: Settings = ()
    """Change one setting of the export, as quant.mlp=int8_rows; may be repeated."""
    tokens: int | None = None
    """Score only so many tokens of the validation text; by default all of it."""
    calibration_tokens: int | None = None
    """Calibrate Hessians on so many tokens of training text; by default on as many as the run takes."""
    data: str | None = None
    """A prepared folder or a corpus to score on, where it is not the run's own."""
    data_root: Path = Path("data")
    """Where prepared data stands."""
    runs: Path = Path("runs")
    """Points of --weights are kept below its folder analysis."""
    device: Device = "auto"
    """Where to compute."""
    fresh: Switch = False
    """Measure again what has been measured before."""


@contextmanager
def opened_workbench(run: str, options: AnalyzeOptions) -> Iterator["Workbench"]:
    """The workbench for `run`, its progress on display."""
    from paramgolf.lab.analysis.subject import Source, open_subject
    from paramgolf.lab.analysis.workbench import Workbench
    from paramgolf.train.distributed import placed

    asked = Source(run, options.weights, options.settings, options.data, options.data_root, options.runs)
    with placed(options.device) as place, display() as shown:
        shown.show(Status("load", run))
        subject = open_subject(asked, place, tokens=options.tokens)
        targets = len(subject.validation.target_bytes)
        shown.show(Status("load", f"{subject.params:,} parameters, {targets:,} tokens to score", 1.0))
        yield Workbench(
            subject=subject,
            told=show_step(shown),
            fresh=options.fresh,
            calibration_tokens=options.calibration_tokens,
        )


def show_step(shown: Display) -> "StepTold":
    """A callback that shows how far a survey is."""

    def told(step: "Step") -> None:
        share = step.done / step.total if step.total else None
        count = f"{step.done}/{step.total} points  " if step.total else ""
        shown.show(Status("measure", f"{count}{step.label}", share, step.seconds_left))

    return told

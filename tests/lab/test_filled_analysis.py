"""The workbench on runs whose export fills a budget: bytes are what is asked, not what comes out. Fronts of points."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import CPU, finished_run, tiny_run

from paramgolf.data.dataset import Dataset
from paramgolf.lab.analysis.codecs import shoot_out
from paramgolf.lab.analysis.points import Point
from paramgolf.lab.analysis.subject import Source, Subject, open_subject
from paramgolf.lab.analysis.sweep import BYTE_FACTORS, FACTORS, pareto_front, scaled_runs, sweep_runs
from paramgolf.lab.analysis.workbench import Workbench, exported
from paramgolf.lab.launch import load_techniques
from paramgolf.quant.plan import QuantConfig
from paramgolf.techniques.quant import EqualSlope, Int8Rows, RateDistortion

FILLING = QuantConfig(
    attention=Int8Rows(keep=0), mlp=RateDistortion(), embed=RateDistortion(), allocate=EqualSlope(tries=8)
)
ROOM = 5000


@pytest.fixture(scope="module")
def finished(tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    load_techniques()
    path = tmp_path_factory.mktemp("runs") / "run"
    finished_run(tiny_run(), tiny_data, path)
    return path


@pytest.fixture
def bench_of(finished: Path, tmp_path: Path) -> Callable[[QuantConfig], Workbench]:
    def made(quant: QuantConfig) -> Workbench:
        subject: Subject = open_subject(Source(str(finished)), CPU)
        bench = Workbench(subject=replace(subject, run=replace(subject.run, quant=quant), folder=tmp_path))
        bench.budget = ROOM
        return bench

    return made


def test_finer_and_coarser_is_by_bytes(bench_of: Callable[[QuantConfig], Workbench]) -> None:
    bench = bench_of(FILLING)
    points = sweep_runs(bench, "clip", scaled_runs(bench))
    assert [point.label for point in points] == [f"bytes x {factor:g}" for factor in BYTE_FACTORS]
    sizes = [point.bytes for point in points]
    assert all(factor * ROOM - 2000 <= size <= factor * ROOM for factor, size in zip(BYTE_FACTORS, sizes, strict=True))
    assert sizes == sorted(set(sizes))
    plain = bench_of(QuantConfig(mlp=Int8Rows(keep=0)))
    assert [label for label, _ in scaled_runs(plain)] == [f"steps x {factor:g}" for factor in FACTORS]


def test_coders_are_given_the_same_weights(bench_of: Callable[[QuantConfig], Workbench]) -> None:
    bench = bench_of(FILLING)
    rows = {row.coder: row.bytes for row in shoot_out(bench)}
    assert rows["ZlibCoder"] <= ROOM < rows["none"], "what fills the budget under the run's own does not without"
    assert bench.kept.keys() == {bench.spelled(FILLING, bench.subject.run.artifact.coder)}


def test_what_was_only_weighed_is_scored_when_that_is_asked(bench_of: Callable[[QuantConfig], Workbench]) -> None:
    bench = bench_of(FILLING)
    coder = bench.subject.run.artifact.coder
    trial = exported(bench, "own", FILLING, coder)
    (weighed,) = bench.run("codecs", [replace(trial, scored=False)])
    (scored,) = bench.run("clip", [trial])
    assert weighed.bpb is None
    assert scored.bpb is not None
    assert bench.run("codecs", [replace(trial, scored=False)])[0].bpb == scored.bpb, "a score is more than was asked"


def test_the_front_holds_what_nothing_beats() -> None:
    def point(size: int, bpb: float | None) -> Point:
        return Point("", "", size, bpb, None, 0.0, 0.0)

    points = [point(3, 1.0), point(1, 2.0), point(2, 2.0), point(2, 1.5), point(4, 1.0), point(1, None)]
    assert pareto_front(points) == [point(1, 2.0), point(2, 1.5), point(3, 1.0)]

"""The workbench against what it measures: exports done the long way, and theory."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import CPU, finished_run, tiny_run

from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.batch import Batch
from paramgolf.data.dataset import Dataset
from paramgolf.errors import GolfError, UsageError
from paramgolf.lab.analysis.calibration import first_tokens
from paramgolf.lab.analysis.charts import Chart, chart_svg
from paramgolf.lab.analysis.codecs import shoot_out
from paramgolf.lab.analysis.permute import (
    UNIT_ORDERS,
    HiddenPair,
    by_likeness,
    hidden_pairs,
    permutation_survey,
    permuted_hessians,
)
from paramgolf.lab.analysis.points import Point, PointBook, point_key
from paramgolf.lab.analysis.residuals import affordable, candidate, residual_allocation, with_residual
from paramgolf.lab.analysis.sensitivity import sensitivity
from paramgolf.lab.analysis.subject import (
    Source,
    Subject,
    export_settings,
    first_targets,
    load_weights,
    open_subject,
    smaller_passes,
)
from paramgolf.lab.analysis.sweep import sweep_runs, varied_runs, with_coders
from paramgolf.lab.analysis.tensor_bytes import artifact_bytes_of, entropy_bytes, grouped_bytes
from paramgolf.lab.analysis.workbench import Step, Trial, Workbench, exported
from paramgolf.lab.launch import load_techniques
from paramgolf.presets import preset
from paramgolf.quant.curvature import rows_key
from paramgolf.quant.plan import QuantConfig, quantize
from paramgolf.quant.training_batches import TrainingBatches
from paramgolf.stored import Stored
from paramgolf.techniques.artifact import LzmaCoder
from paramgolf.techniques.optim import EMA
from paramgolf.techniques.quant import GPTQ, LQER, Int8Rows, SDClip


@pytest.fixture(scope="module")
def finished(tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with averaged weights."""
    load_techniques()
    run = tiny_run()
    run = replace(run, optim=replace(run.optim, average=EMA(decay=0.5)))
    path = tmp_path_factory.mktemp("runs") / "run"
    finished_run(run, tiny_data, path)
    return path


@pytest.fixture
def subject(finished: Path, tmp_path: Path) -> Subject:
    opened = open_subject(Source(str(finished)), CPU)
    return replace(opened, folder=tmp_path / "points")


@pytest.fixture
def bench(subject: Subject) -> Workbench:
    return Workbench(subject=subject)


def result_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "result.json").read_text())


def test_a_point_is_what_the_run_itself_came_to(bench: Workbench, finished: Path) -> None:
    run = bench.subject.run
    (point,) = bench.run("test", [exported(bench, "own", run.quant, run.artifact.coder)])
    result = result_of(finished)
    assert point.bytes == result["artifact_bytes"]
    assert point.bpb == pytest.approx(result["val_bpb_export"], abs=1e-12)
    assert bench.exact_bpb() == pytest.approx(result["val_bpb_raw"], abs=1e-12)
    assert point.lost == pytest.approx(point.bpb - bench.exact_bpb())


def test_calibrated_exports_are_those_of_the_run(tiny_data: Dataset, tmp_path: Path) -> None:
    load_techniques()
    feedback = GPTQ(bits=5, clip=SDClip(sigmas=6.0))
    quant = QuantConfig(
        attention=feedback,
        mlp=feedback,
        embed=feedback,
        refine=(LQER(rank=1, top=2),),
        calibration=TrainingBatches(batches_read=3),
    )
    run = replace(tiny_run(), quant=quant)
    result = finished_run(run, tiny_data, tmp_path / "run")
    for kept in (0, 1):
        subject = open_subject(Source(str(tmp_path / "run")), CPU)
        assert len(list(subject.folder.glob("hessians_*"))) == kept
        bench = Workbench(subject=subject, fresh=True)
        (point,) = bench.run("test", [exported(bench, "own", run.quant, run.artifact.coder)])
        assert (point.bytes, point.bpb) == (result.artifact_bytes, pytest.approx(result.val_bpb_export, abs=1e-12))
    fewer = Workbench(subject=subject, calibration_tokens=40)
    assert fewer.spelled(run.quant, run.artifact.coder) != bench.spelled(run.quant, run.artifact.coder)
    fewer.export(run.quant, run.artifact.coder)
    assert len(list(subject.folder.glob("hessians_*"))) == 2


def test_calibration_text_is_cut_to_its_tokens() -> None:
    ids = torch.arange(24)
    rows = [Batch(ids.view(3, 8), ids.view(3, 8) + 1)] * 2
    assert [batch.ids.shape for batch in first_tokens(iter(rows), 40)] == [(3, 8), (2, 8)]
    assert [batch.ids.shape for batch in first_tokens(iter(rows), 5)] == [(1, 8)]
    packed = Batch(ids.view(1, 24), ids.view(1, 24) + 1, torch.tensor([0, 6, 20, 24, 24], dtype=torch.int32), 14)
    (cut,) = first_tokens(iter([packed]), 10)
    assert cut.ids.shape == cut.targets.shape == (1, 10)
    assert cut.cu_seqlens is not None
    assert cut.cu_seqlens.tolist() == [0, 6, 10, 10, 10]
    with pytest.raises(UsageError, match="nothing to calibrate"):
        list(first_tokens(iter(rows), 0))


def test_weights_alone_with_a_preset_are_the_same_model(
    subject: Subject, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramgolf.lab.analysis.subject.asked_run", lambda name, settings: subject.run)
    file = tmp_path / "weights.safetensors"
    save_file(dict(subject.weights), file)
    asked = Source("tiny", file, data=str(tiny_data.train[0].parent), runs=tmp_path)
    monkeypatch.setattr("paramgolf.lab.analysis.subject.run_data", lambda *_: tiny_data)
    again = open_subject(asked, CPU)
    assert again.fingerprint == subject.fingerprint
    assert again.folder == tmp_path / "analysis" / "weights"
    save_file({name: weight for name, weight in subject.weights.items() if weight.dim() < 2}, file)
    with pytest.raises(UsageError, match="not those of this model"):
        open_subject(asked, CPU)


def test_points_are_measured_once(bench: Workbench, subject: Subject) -> None:
    run = subject.run
    built: list[str] = []

    def build() -> dict[str, Stored]:
        built.append("built")
        return bench.export(run.quant, run.artifact.coder)

    trials = [Trial(label="one", identity="same", build=build, coder=run.artifact.coder)]
    steps: list[Step] = []
    first = bench.run("test", trials)
    again = Workbench(subject=subject, told=steps.append)
    assert again.run("test", [replace(trials[0], label="renamed")]) == [first[0]._replace(label="renamed")]
    assert built == ["built"]
    assert [step.done for step in steps] == [1]
    fresh = Workbench(subject=subject, fresh=True)
    assert fresh.run("test", trials)[0].bpb == first[0].bpb
    assert built == ["built", "built"]
    other = replace(subject, fingerprint="0" * 12)
    Workbench(subject=other).run("test", trials)
    assert len(built) == 3


def test_a_book_survives_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    book = PointBook(path)
    points = {point_key("a", name): Point(name, "s", 5, None, None, 0.0, 0.5) for name in ("one", "two")}
    for key, point in points.items():
        book.add(key, point)
    whole = path.read_text()
    path.write_text(whole[: len(whole) - 9])
    assert list(PointBook(path).points.values()) == [Point("one", "s", 5, None, None, 0.0, 0.5)]
    again = PointBook(path)
    again.add(point_key("a", "two"), points[point_key("a", "two")])
    assert PointBook(path).points == points
    assert point_key("a", "one") != point_key("b", "one")


def test_an_artifact_that_decodes_to_something_else_is_refused(bench: Workbench) -> None:
    class Careless(LzmaCoder):
        def encode(self, data: bytes, parts: object = ()) -> bytes:
            return super().encode(bytes([data[0] ^ 1]) + data[1:])

    run = bench.subject.run
    with pytest.raises(GolfError, match="decodes to other weights"):
        bench.run("test", [exported(bench, "own", run.quant, Careless())])


def test_sensitivity_takes_each_tensor_alone(bench: Workbench) -> None:
    rows = sensitivity(bench, by="tensor")
    quantized = [name for name, weight in bench.subject.weights.items() if weight.dim() == 2 and "weight" in name]
    assert {row.name for row in rows} >= set(quantized[:1])
    chosen = rows[0]
    model = bench.subject.load_trained()
    stored = quantize(model, bench.subject.run.quant)[chosen.name]
    with torch.no_grad():
        dict(model.named_parameters())[chosen.name].copy_(stored.dense())
    validation = bench.subject.validation
    bpb = validation.score(model, validation.run.plain_protocol).tally.bits_per_byte
    assert chosen.lost == pytest.approx(bpb - bench.exact_bpb(), abs=1e-9)
    assert chosen.slope == pytest.approx(1e5 * 16 * math.log(2) * chosen.lost / chosen.weights)
    assert [row.slope for row in rows] == sorted((row.slope for row in rows), reverse=True)
    by_role = sensitivity(bench, by="role")
    assert sum(row.weights for row in by_role) == sum(row.weights for row in rows)
    assert {row.name for row in by_role} == {row.role for row in rows}


def test_every_coder_takes_part(bench: Workbench) -> None:
    rows = shoot_out(bench)
    assert {"ZlibCoder", "BrotliCoder", "LzmaCoder", "ZstdCoder", "none"} <= {row.coder for row in rows}
    assert [row.bytes for row in rows] == sorted(row.bytes for row in rows)
    run = bench.subject.run
    lzma = pack(bench.export(run.quant, run.artifact.coder), bench.expected, coder=LzmaCoder(), digest=run.digest)
    assert next(row.bytes for row in rows if row.coder == "LzmaCoder") == len(lzma)


def test_variations_are_all_combinations(subject: Subject) -> None:
    runs = varied_runs(subject.run, ["quant.mlp.quantile=0.9,1", "artifact.coder=lzma"])
    assert [label for label, _ in runs] == ["mlp.quantile=0.9 coder=lzma", "mlp.quantile=1 coder=lzma"]
    assert [run.quant.mlp for _, run in runs] == [Int8Rows(keep=0, quantile=q) for q in (0.9, 1.0)]
    assert {type(run.artifact.coder) for _, run in runs} == {LzmaCoder}
    for wrong in ("quant.mlp.quantile", "quant.mlp.quantile=", "train.steps=5,6", "quant.mlp.nonsense=1"):
        with pytest.raises(UsageError):
            varied_runs(subject.run, [wrong])
    with pytest.raises(UsageError, match="only its export"):
        export_settings(subject.run, ("model.layers=3",))
    assert [label for label, _ in with_coders(runs[:1], ["zstd"])] == ["mlp.quantile=0.9 coder=lzma, zstd"]


def test_wider_steps_take_fewer_bytes(bench: Workbench) -> None:
    points = sweep_runs(bench, "clip", varied_runs(bench.subject.run, ["quant.mlp.floor=0.002,0.008,0.05"]))
    assert points[0].bytes > points[1].bytes > points[2].bytes


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_residual_brings_weights_nearer(bits: int) -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    stored = Int8Rows(keep=0, floor=0.25)(weight, None)
    better = with_residual(weight, stored, bits)
    before, after = ((weight - form.dense()).square().mean() for form in (stored, better))
    # The residual is uniform over a step: codes of so many levels divide its power by their square.
    assert float(after / before) == pytest.approx((2**bits - 1) ** -2, rel=0.35)


def test_residuals_are_spent_within_the_budget(bench: Workbench) -> None:
    own = len(
        pack(
            bench.export(bench.subject.run.quant, bench.subject.run.artifact.coder),
            bench.expected,
            coder=bench.subject.run.artifact.coder,
            digest=bench.subject.run.digest,
        )
    )
    found = residual_allocation(bench, budget=own + 700, bits=2, only=["mlp", "attention"])
    assert found.before.bytes == own
    assert found.after.bytes <= own + 700
    assert {row.role for row in found.rows} == {"mlp", "attention"}
    assert any(row.taken for row in found.rows) == (found.after.bytes > own)


def test_the_best_residuals_that_fit_are_taken() -> None:
    def alone(size: int, lost: float) -> Point:
        return Point("", "", size, 1.0, lost, 0.0, 0.0)

    rows = [
        candidate(name, "mlp", alone(100, 0.5), alone(100 + size, lost))
        for name, size, lost in (("a", 50, 0.1), ("b", 80, 0.2), ("c", 40, 0.6), ("d", 30, 0.4))
    ]
    assert [row.won for row in rows] == pytest.approx([0.4, 0.3, -0.1, 0.1])
    assert affordable(rows, 90) == ["a", "d"]


def test_bytes_of_an_artifact_add_up(finished: Path, subject: Subject) -> None:
    rows, size, header = artifact_bytes_of(finished)
    data = (finished / "artifact.pgolf").read_bytes()
    assert size == len(data)
    assert sum(row.share for row in rows) + header == pytest.approx(size, abs=len(rows))
    stored = unpack(data, expected_of(subject.model))
    assert {row.tensor for row in rows} == {name for name, weight in stored.items() if weight.terms}
    for by in ("role", "tensor"):
        grouped = grouped_bytes(rows, by)
        assert sum(row.raw for row in grouped) == sum(row.raw for row in rows)
        assert [row.share for row in grouped] == sorted((row.share for row in grouped), reverse=True)
    with pytest.raises(UsageError, match="no artifact"):
        artifact_bytes_of(finished / "checkpoint")


def test_entropy_of_known_arrays() -> None:
    assert entropy_bytes(torch.zeros(100, dtype=torch.int8)) == 0
    assert entropy_bytes(torch.arange(256).to(torch.uint8)) == 256
    assert entropy_bytes(torch.tensor([0.5, 1.5] * 40)) == 10
    assert entropy_bytes(torch.empty(0)) == 0


def test_the_text_can_be_cut(subject: Subject) -> None:
    short = first_targets(subject.validation, 100)
    assert (len(short.tokens), len(short.target_bytes)) == (101, 100)
    assert first_targets(subject.validation, 10**9) is subject.validation
    with pytest.raises(UsageError, match="nothing to score"):
        first_targets(subject.validation, 0)


def test_unfinished_and_missing_training_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run's folder"):
        open_subject(Source(str(tmp_path)), CPU)


def test_foreign_weights_are_named(subject: Subject) -> None:
    wrong = {**subject.weights, "stranger": torch.zeros(1)}
    with pytest.raises(UsageError, match="stranger"):
        load_weights(subject.model, wrong, Path("file"))


def test_a_chart_shows_points_front_and_budget() -> None:
    pytest.importorskip("matplotlib")
    points = [Point(f"{n}, {c}", "pareto", 1000 * n, 2 - n / 10, 0.1, 0.0, 0.0) for n in (1, 2) for c in ("a", "b")]
    chart = Chart("A < B", points, 1500, 1.7)
    assert list(chart.series) == ["a", "b"]
    drawn = chart_svg(chart)
    assert drawn == chart_svg(chart)
    for word in ("A &lt; B", "1,500", "1.7000", "front"):
        assert word in drawn


def test_a_page_needs_nothing_else() -> None:
    pytest.importorskip("plotly")
    from paramgolf.lab.analysis.charts import chart_html

    chart = Chart("title", [Point("<b>, x", "pareto", 1000, 1.5, 0.1, 0.0, 0.0)], 1500, 1.4)
    page = chart_html(chart)
    assert "cdn.plot.ly" not in page.split("<body>")[1][:2000]
    assert "&lt;b&gt;" in page or "\\u003cb\\u003e" in page or "&amp;lt;b" in page
    assert "1,500 bytes" in page


def test_the_order_of_hidden_units_changes_bytes_and_nothing_else(bench: Workbench) -> None:
    pairs = hidden_pairs(bench.subject.model)
    assert len(pairs) == bench.subject.run.model.layers
    points = permutation_survey(bench)
    assert [point.label for point in points] == list(UNIT_ORDERS)
    run = bench.subject.run
    (plain,) = bench.run("test", [exported(bench, "own", run.quant, run.artifact.coder)])
    assert points[0].bytes == plain.bytes
    assert len({point.bytes for point in points}) > 1
    assert all(point.bpb == pytest.approx(plain.bpb, abs=1e-6) for point in points)


@pytest.mark.parametrize("name", UNIT_ORDERS)
def test_every_order_is_a_permutation(name: str) -> None:
    generator = torch.Generator().manual_seed(4)
    up, down = torch.randn(40, 9, generator=generator), torch.randn(9, 40, generator=generator)
    order = UNIT_ORDERS[name](up, down)
    assert sorted(order.tolist()) == list(range(40))
    if name == "incoming size":
        assert up[order].square().sum(1).diff().ge(0).all()


def test_neighbours_are_alike() -> None:
    generator = torch.Generator().manual_seed(4)
    centres = 10 * torch.randn(4, 6, generator=generator)
    up = centres[torch.arange(40) % 4] + 0.1 * torch.randn(40, 6, generator=generator)
    kinds = (by_likeness(up, up.T) % 4).tolist()
    assert sum(one != two for one, two in pairwise(kinds)) == 3


def test_hessians_follow_the_units() -> None:
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(30, 5, generator=generator)
    order = torch.tensor([3, 1, 4, 0, 2])
    pair = HiddenPair("up", "down")
    hessians = {"down": inputs.T @ inputs, rows_key("up"): torch.arange(5.0)}
    changed = permuted_hessians(hessians, [pair], [order])
    again = inputs[:, order]
    torch.testing.assert_close(changed["down"], again.T @ again)
    assert changed[rows_key("up")].tolist() == [3, 1, 4, 0, 2]


def test_a_processor_scores_packed_rows_in_small_passes(subject: Subject) -> None:
    packed = preset("pr1855")
    passes = smaller_passes(packed, CPU)
    assert passes.evaluate.batch_tokens == 2 * packed.train.seq_len < packed.evaluate.batch_tokens
    assert replace(passes, evaluate=packed.evaluate) == packed
    assert smaller_passes(subject.run, CPU) is subject.run

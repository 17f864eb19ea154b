"""Estimates against what they estimate."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_run, tiny_session

from paramgolf.config import to_toml
from paramgolf.data.dataset import Dataset
from paramgolf.folder import RunFolder
from paramgolf.lab.artifact_estimate import (
    alike,
    correlation_of_steps,
    direction_rms,
    draw,
    guess_artifact,
    trained_rms,
    whole_sizes,
)
from paramgolf.lab.estimate import (
    contest_pace,
    estimate,
    memory_mib,
    newest_like,
    role_counts,
    run_code_bytes,
    step_flops,
)
from paramgolf.model.gpt import GPT
from paramgolf.optim.muon import MuonConfig, nesterov_momentum
from paramgolf.parts import Role, declared
from paramgolf.presets import preset
from paramgolf.quant.plan import QuantConfig
from paramgolf.run import Run
from paramgolf.stages import execute
from paramgolf.techniques.artifact import BrotliCoder
from paramgolf.techniques.optim import PolarExpress
from paramgolf.techniques.quant import RowGridCodes, SDClip

CPU_DEVICE = torch.device("cpu")
INT6 = RowGridCodes(bits=6, clip=SDClip(sigmas=12.0))


def test_the_baseline_by_role() -> None:
    roles = role_counts(preset("baseline"))
    assert roles.total() == 17_059_912
    assert roles[Role.EMBED] == 1024 * 512
    assert roles[Role.MLP] == 9 * 2 * 512 * 1024


def test_the_baseline_on_the_contests_devices_is_near_what_was_published() -> None:
    run = preset("baseline")
    assert contest_pace(run).steps == pytest.approx(13_780, rel=0.2)
    assert memory_mib(run, role_counts(run)) == pytest.approx(10_184, rel=0.15)


def test_flops_of_the_baseline() -> None:
    matrices = 17_059_912 - 20_552
    attention = 6 * 9 * 1024 * 512
    assert step_flops(preset("baseline")) == (6 * matrices + attention) * 524_288


NO_RUNS = Path("no runs")


def test_code_of_a_real_run(tiny_data: Dataset, tmp_path: Path) -> None:
    run = tiny_run()
    assert run_code_bytes(run) == execute(tiny_session(run, tiny_data, tmp_path / "run")).code_bytes


def test_the_artifact_of_the_baseline_is_what_was_published() -> None:
    guess = guess_artifact(preset("baseline"), steps=13_780, runs=NO_RUNS, code=0)
    assert guess.bytes == pytest.approx(15_863_489 - 47_642, rel=0.01)


def test_the_artifact_of_a_record_is_what_was_published() -> None:
    run = preset("pr1855")
    run = replace(run, artifact=replace(run.artifact, coder=BrotliCoder()))
    guess = guess_artifact(run, steps=4_931, runs=NO_RUNS, code=0)
    # What #1855 had with brotli before its coder of groups (compression catalogue C1), less its code.
    assert guess.bytes == pytest.approx(16_140_607 - 31_999, rel=0.01)


@pytest.mark.parametrize(
    ("name", "steps", "measured"),
    [
        (
            "demo",
            1_000,
            {(128, 128): 0.359, (64, 128): 0.403, (256, 128): 0.378, (128, 256): 0.259, (1024, 128): 0.876},
        ),
        (
            "pr1855@h100",
            1_148,
            {(512, 512): 0.073, (256, 512): 0.081, (2048, 512): 0.085, (512, 2048): 0.042, (8192, 512): 0.264},
        ),
    ],
)
def test_the_size_of_trained_weights(name: str, steps: int, measured: dict[tuple[int, ...], float]) -> None:
    """Root mean squares of weights that were trained, by shape."""
    run = preset(name)
    expected = {item.shape: trained_rms(run, item, steps) for item in alike(run) if item.shape in measured}
    assert expected == pytest.approx(measured, rel=0.13)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.95, True), (0.95, False), (0.85, True)])
def test_steps_of_momentum_walk_as_far_as_is_said(momentum: float, nesterov: bool) -> None:
    config = MuonConfig(momentum=momentum, momentum_start=momentum, nesterov=nesterov)
    generator = torch.Generator().manual_seed(0)
    buffer, place, squares, steps = torch.zeros(4000), torch.zeros(4000), 0.0, 1000
    for _ in range(steps):
        gradient = torch.randn(4000, generator=generator)
        update = nesterov_momentum(gradient, buffer, torch.tensor(momentum), nesterov=nesterov)
        place += update
        squares += float(update.square().mean())
    walked = float(place.square().mean().sqrt()) / squares**0.5
    assert walked == pytest.approx(correlation_of_steps(config, 10**6), rel=0.05)


def test_a_direction_is_as_large_as_the_polynomials_leave_it() -> None:
    """Of 2,048 x 512 a shrunk one is tried; an orthogonal matrix would have 1 and sqrt(4 / 2048)."""
    config = MuonConfig(quintics=PolarExpress())
    for shape, exact in (((2048, 512), (4 / 2048) ** 0.5), ((512, 2048), 2048**-0.5), ((96, 96), 96**-0.5)):
        assert direction_rms(config, shape) == pytest.approx(exact, rel=0.04)
    assert direction_rms(MuonConfig(), (96, 96)) == pytest.approx(0.89 * 96**-0.5, rel=0.04)


def test_a_run_alike_tells_its_bits(tiny_data: Dataset, tmp_path: Path) -> None:
    run = tiny_run()
    run = replace(run, model=replace(run.model, dim=32))

    def finished(where: str, made: Run) -> int:
        session = tiny_session(made, tiny_data, tmp_path / where)
        session.folder.write_text(session.folder.config, to_toml(made))
        return execute(session).artifact_bytes

    finished("runs/one", run)
    deeper = replace(run, seed=2, model=replace(run.model, layers=4))
    for made, near in ((replace(run, seed=2), 0.02), (deeper, 0.04)):
        guess = guess_artifact(made, steps=12, runs=tmp_path / "runs", code=0)
        assert "bits by stream of one" in guess.basis
        assert guess.bytes == pytest.approx(finished(f"layers {made.model.layers}", made), rel=near)
    other = replace(run, optim=replace(run.optim, matrix=replace(run.optim.matrix, lr=0.5)))
    assert "Gaussian" in guess_artifact(other, steps=12, runs=tmp_path / "runs", code=0).basis


def test_an_export_that_fills_its_budget_will_have_it() -> None:
    run = tiny_run()
    run = replace(run, quant=replace(run.quant, fill=True))
    assert guess_artifact(run, steps=12, runs=NO_RUNS, code=1000).bytes == run.contest.artifact_bytes - 1000


def test_what_a_sample_stands_for_has_the_bytes_of_the_whole() -> None:
    run = preset("pr1855")
    with torch.device("meta"):
        model = GPT(run.model)
    wanted: dict[str, int] = {}
    for _, parameter, role in declared(model):
        if role in (Role.MLP, Role.ATTENTION, Role.EMBED):
            wanted[role.value] = wanted.get(role.value, 0) + parameter.numel()
    generator = torch.Generator().manual_seed(0)
    plain = replace(run, quant=QuantConfig(attention=INT6, mlp=INT6, embed=INT6))
    sizes = whole_sizes([draw(plain, item, 100, generator) for item in alike(plain)])
    assert {role: sizes[role, "codes"] for role in wanted} == wanted
    assert sizes["all", "scales"] == 2 * (8192 + 11 * (512 + 256 + 256 + 512 + 2048 + 512))


def test_an_earlier_run_of_the_same_configuration_tells_the_pace(tiny_data: Dataset, tmp_path: Path) -> None:
    run = tiny_run()
    folder = RunFolder(tmp_path / "run")
    result = execute(tiny_session(run, tiny_data, folder.path))
    folder.config.write_text("")
    again = replace(run, seed=5)
    pace = estimate(again, device=CPU_DEVICE, runs=tmp_path).paces[1]
    assert "measured" in pace.basis
    assert pace.train_seconds == pytest.approx(result.train_seconds)
    other = replace(run, model=replace(run.model, dim=32))
    assert newest_like(other, CPU_DEVICE, tmp_path) is None
    assert "timed" in estimate(other, device=CPU_DEVICE, runs=tmp_path).paces[1].basis


def test_the_newest_run_is_taken(tiny_data: Dataset, tmp_path: Path) -> None:
    run = tiny_run()
    for name, seconds in (("b", 10.0), ("a", 20.0)):
        folder = RunFolder(tmp_path / name)
        execute(tiny_session(run, tiny_data, folder.path))
        folder.config.write_text("")
        folder.write_json(folder.result, {**json.loads(folder.result.read_text()), "train_seconds": seconds})
    newest = newest_like(run, CPU_DEVICE, tmp_path)
    assert newest is not None
    assert newest.train_seconds == 20.0

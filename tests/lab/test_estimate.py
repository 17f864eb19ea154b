"""Estimates against what they estimate."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_run, tiny_session

from paramgolf.data.dataset import Dataset
from paramgolf.folder import RunFolder
from paramgolf.lab.estimate import (
    contest_pace,
    estimate,
    memory_mib,
    newest_like,
    role_counts,
    run_code_bytes,
    sample_artifact_bytes,
    step_flops,
)
from paramgolf.parts import Role
from paramgolf.presets import preset
from paramgolf.stages import execute

CPU_DEVICE = torch.device("cpu")


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


def test_artifact_and_code_against_a_real_run(tiny_data: Dataset, tmp_path: Path) -> None:
    run = tiny_run()
    result = execute(tiny_session(run, tiny_data, tmp_path / "run"))
    assert sample_artifact_bytes(run) == pytest.approx(result.artifact_bytes, rel=0.25)
    assert run_code_bytes(run) == result.code_bytes


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

"""Killed runs end where a run that was never killed ends, and two processes train as one does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RANDOM = [f"random {seed}" for seed in range(4)]
MOMENTS = [
    "half of a checkpoint",
    "before a checkpoint",
    "after a checkpoint",
    "before the last checkpoint",
    "after the last checkpoint",
    "before the artifact",
    "after the artifact",
    "before the result",
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the driver tells; all its runs share one interpreter."""
    driver = Path(__file__).parent / "driver.py"
    command = [sys.executable, driver, tmp_path_factory.mktemp("driver")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def same(run: dict[str, Any], whole: dict[str, Any]) -> None:
    for name, bits in whole["weights"].items():
        assert run["weights"][name] == bits, f"{name} differs"
    assert run["artifact"] == whole["artifact"]
    assert run["scores"] == whole["scores"]


def test_the_same_seed_gives_the_same_bits(told: dict[str, Any]):
    whole, again = told["runs"]["whole"], told["runs"]["again"]
    assert whole["codes"] == again["codes"] == [0]
    same(again, whole)
    assert whole["files"] == [
        *("artifact.pgolf", "checkpoint/state.safetensors", "events.jsonl", "export.json", "result.json", "train.log"),
    ]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_the_worst_moment_ends_the_same(told: dict[str, Any], moment: str):
    run = told["runs"][moment]
    assert run["codes"] == [-9, 0]
    same(run, told["runs"]["whole"])
    assert run["files"] == told["runs"]["whole"]["files"], "something is left lying about"


@pytest.mark.parametrize("name", RANDOM)
def test_a_run_killed_at_any_moment_ends_the_same(told: dict[str, Any], name: str):
    run = told["runs"][name]
    assert run["codes"][-1] == 0
    assert set(run["codes"]) <= {0, 130, -9, -15}
    same(run, told["runs"]["whole"])
    assert run["files"] == told["runs"]["whole"]["files"]


def test_some_runs_were_killed(told: dict[str, Any]):
    codes = [code for name in RANDOM for code in told["runs"][name]["codes"]]
    assert len([code for code in codes if code]) >= 4


def test_two_processes_train_as_one(told: dict[str, Any]):
    ranks, whole = told["ranks"], told["runs"]["whole"]
    assert ranks["codes"] == [0, 0]
    assert ranks["losses"] == pytest.approx(ranks["alone"], rel=1e-4)
    assert len(ranks["losses"]) == 20
    assert ranks["scores"][:4] == pytest.approx(whole["scores"][:4], rel=1e-4)
    assert ranks["files"] == whole["files"], "only the first process writes"

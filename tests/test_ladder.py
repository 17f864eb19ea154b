"""The ladder's bookkeeping: what is run, in which order, what counts as made, who has the GPU."""

import importlib
import json
import threading
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

from paramgolf.errors import UsageError
from paramgolf.lab.launch import asked_run
from paramgolf.techniques.optim import EMAHorizons


@pytest.fixture(scope="module")
def ladder() -> Iterator[ModuleType]:
    """The script, which imports from the folder it stands in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("ladder")


def options(**chosen: object) -> Namespace:
    usual = {"rungs": [], "only": [], "seeds": [1], "last_seeds": [1, 2, 3], "settings": [], "proxy": "h100"}
    return Namespace(**(usual | chosen))


def row(ladder: ModuleType, **chosen: object) -> dict[str, object]:
    """A row as a file holds it."""
    numbers = dict.fromkeys(ladder.Row.__dataclass_fields__, 1)
    words = {"rung": "pr1855", "settings": [], "proxy": "h100", "averages": {"none": 1.3, "1": 1.2}}
    told = {"digest": "abc", "dataset": "d", "device": "cpu", "commit": "c"}
    return asdict(ladder.Row(**(numbers | words | told | chosen)))


def test_the_newest_rungs_begin_and_each_has_one_seed_before_any_has_two(ladder: ModuleType) -> None:
    jobs = ladder.planned(options())
    assert [job.rung for job in jobs[:7]] == list(reversed(ladder.LADDER))
    assert [(job.rung, job.seed) for job in jobs[7:]] == [
        ("pr1855", 2), ("pr1493", 2), ("pr1855", 3), ("pr1493", 3),
    ]  # fmt: skip
    assert [job.rung for job in ladder.planned(options(only=["baseline"]))] == ["baseline"]


def test_a_run_is_made_when_a_row_of_the_same_words_lies_there(ladder: ModuleType, tmp_path: Path) -> None:
    job = ladder.Job(rung="pr1855", seed=1, settings=(), proxy="h100")
    home = tmp_path / "2026_pr1855_abc_s1"
    home.mkdir()
    for told, found in [
        (row(ladder), True),
        (row(ladder, rung="pr1855 optim.average=none"), False),
        (row(ladder, settings=["model.dim=64"]), False),
        (row(ladder, proxy="none"), False),
        ({"rung": "pr1855", "seed": 1}, False),  # of an earlier version
    ]:
        (home / ladder.ROW).write_text(json.dumps(told))
        assert (job.row(tmp_path) is not None) is found, told


@pytest.mark.parametrize(("name", "steps"), [("pr1855@h100", 71.4), ("baseline@h100", 71.4), ("pr549@h100", 83.3)])
def test_averages_beside_the_own_one(ladder: ModuleType, name: str, steps: float) -> None:
    run = asked_run(name, ladder.kept_averages(asked_run(name), [0.25, 2.0]))
    assert isinstance(run.optim.average, EMAHorizons)
    assert run.optim.average.steps == pytest.approx((steps, steps / 4, steps * 2), rel=1e-2)
    with pytest.raises(UsageError, match="--horizons are of an EMA"):
        ladder.kept_averages(asked_run(name, ("optim.average=swa",)), [2.0])


def test_the_next_compiles_while_one_is_scored_and_waits_with_its_clock(ladder: ModuleType, tmp_path: Path) -> None:
    first, second = ladder.Turns(tmp_path, "0"), ladder.Turns(tmp_path, "0")
    happened: list[str] = []

    def another() -> None:
        second.compiling.acquire()
        happened.append("the second compiles")
        second.heard({"event": "warmed_up"})
        happened.append("the second trains")
        second.over()

    first.compiling.acquire()
    first.heard({"event": "warmed_up"})
    thread = threading.Thread(target=another)
    thread.start()
    thread.join(0.3)
    assert not happened
    first.heard({"event": "trained"})
    thread.join(0.5)
    assert happened == ["the second compiles"]
    first.over()
    thread.join(5.0)
    assert happened == ["the second compiles", "the second trains"]


def test_processes_share_cores_and_keep_to_their_gpu(ladder: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TORCHINDUCTOR_COMPILE_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert ladder.visible_gpus(2) == ["0", "1"]
    assert ladder.visible_gpus(0) == ["0"]
    assert ladder.environment("0", 0) is None
    own = ladder.environment("1", 1000)
    assert (own["CUDA_VISIBLE_DEVICES"], own["OMP_NUM_THREADS"]) == ("1", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert ladder.visible_gpus(2) == ["4", "5"]
    assert ladder.environment("5", 2)["OMP_NUM_THREADS"] == "3"

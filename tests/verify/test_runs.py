"""Runs and submission folders: what is stated against what is there, and budgets by both readings."""

import json
from dataclasses import replace
from pathlib import Path

import planted
import pytest
import torch
from planted import VOCAB, real_tokens, small_model

from paramgolf.contest import DEMO, Contest
from paramgolf.events import Events, read_events
from paramgolf.train.distributed import Place
from paramgolf.verify.containment import Sizes, check_sizes
from paramgolf.verify.folder_target import folder_case
from paramgolf.verify.judge import Case, Effort, judge
from paramgolf.verify.predictor import Predictor, TokenStream
from paramgolf.verify.reproduction import Claimed, Replayed, check_reproduction
from paramgolf.verify.ruling import Judgement, Ruling, Verdict
from paramgolf.verify.run_target import run_case
from paramgolf.verify.time_budget import Spent, check_times, spent_of_events

CPU = Place(torch.device("cpu"))


def of_run(path: Path, *only: str, **case: object) -> Judgement:
    opened = run_case(path, data=None, place=CPU, probe_tokens=500, replay_seconds=120, best=())
    return judge(replace(opened, **case), Effort(only=only, cuts=4))


def rulings(judgement: Judgement, verdict: Verdict) -> dict[str, Ruling]:
    return {rule: ruling for ruling in judgement.rulings if ruling.verdict is verdict for rule in ruling.rules}


def test_an_honest_run_passes_every_check(finished: Path):
    judgement = of_run(finished)
    assert judgement.verdict is Verdict.PASSED, rulings(judgement, Verdict.FAILED)
    skipped = [ruling.check for ruling in judgement.rulings if ruling.verdict is Verdict.SKIPPED]
    assert skipped == ["margin over the best"]
    (again,) = [ruling for ruling in judgement.rulings if ruling.check == "reproduction"]
    assert "network blocked by" in again.evidence


@pytest.mark.parametrize(("spare", "fails"), [(-1, True), (0, False)], ids=["one byte over", "to the byte"])
def test_the_byte_budget_is_exact(finished: Path, spare: int, fails: bool):
    opened = run_case(finished, data=None, place=CPU, probe_tokens=500, replay_seconds=9, best=())
    total = opened.sizes[0].artifact + opened.sizes[0].code
    judgement = of_run(finished, "artifact", contest=replace(DEMO, artifact_bytes=total + spare))
    broken = rulings(judgement, Verdict.FAILED)
    assert ("artifact_bytes" in broken) == fails
    if fails:
        assert "1 bytes over the budget" in broken["artifact_bytes"].said


def test_mebibytes_taken_for_megabytes_are_named():
    (ruling,) = check_sizes(Sizes(16_500_000, 40_000), Contest())
    assert ruling.verdict is Verdict.FAILED
    assert "MiB taken for MB" in ruling.said
    (honest,) = check_sizes(Sizes(15_863_489 - 47_642, 47_642, claimed=15_863_489), Contest())
    assert honest.verdict is Verdict.PASSED


def test_readable_code_beside_the_wrapper_is_disputed():
    """#1855: 15,865,260 + 158,429 bytes raw, 31,999 as it reports its code."""
    (ruling,) = check_sizes(Sizes(15_865_260, 31_999, raw_code=158_429), Contest())
    assert ruling.verdict is Verdict.DISPUTED
    assert "16,023,689" in ruling.readings[1].why


def test_a_doctored_result_does_not_come_again(finished: Path):
    result = json.loads((finished / "result.json").read_text())
    result["val_bpb"] -= 0.01
    (finished / "result.json").write_text(json.dumps(result))
    broken = rulings(of_run(finished, "reproduction"), Verdict.FAILED)
    assert "differs by +0.010000" in broken["reproduction"].evidence


def test_an_artifact_of_other_weights_does_not_score(finished: Path):
    artifact = bytearray((finished / "artifact.pgolf").read_bytes())
    artifact[-100] ^= 1
    case = run_case(finished, data=None, place=CPU, probe_tokens=500, replay_seconds=120, best=())
    (finished / "artifact.pgolf").write_bytes(bytes(artifact))
    judgement = judge(case, Effort(only=("reproduction",)))
    broken = rulings(judgement, Verdict.FAILED)
    assert "the artifact is damaged" in broken["reproduction"].evidence


def test_stated_bytes_and_sizes_are_held_against_the_files(finished: Path):
    result = json.loads((finished / "result.json").read_text())
    result.update(val_bytes=result["val_bytes"] * 117 // 100, total_bytes=result["total_bytes"] - 500)
    (finished / "result.json").write_text(json.dumps(result))
    broken = rulings(of_run(finished, "bytes", "artifact"), Verdict.FAILED)
    assert set(broken) == {"bytes_true", "artifact_bytes"}
    assert "stated" in broken["artifact_bytes"].evidence


def test_calibration_after_the_clock(finished: Path):
    """Seconds on training data behind a clock that is full; what the model wrote itself may be read at any time."""
    contest = replace(DEMO, train_seconds=spent_of_events(read_events(finished / "events.jsonl")).train + 1.0)
    assert of_run(finished, "times", contest=contest).verdict is not Verdict.FAILED
    Events(finished / "events.jsonl").emit("calibrated", hessians=12, seconds=30.0, data="generated")
    assert of_run(finished, "times", contest=contest).verdict is not Verdict.FAILED
    Events(finished / "events.jsonl").emit("calibrated", hessians=12, seconds=30.0)
    broken = rulings(of_run(finished, "times", contest=contest), Verdict.FAILED)
    assert "calibration" in broken
    assert "29.000 s over" in broken["calibration"].evidence


@pytest.mark.parametrize(
    ("spent", "verdict", "rule"),
    [
        (Spent(train=599.6, evaluation=508.8), Verdict.PASSED, "train_seconds"),
        (Spent(train=601.153), Verdict.FAILED, "train_seconds"),  # #1908
        (Spent(train=599.0, last_step=600.5), Verdict.FAILED, "train_seconds"),
        (Spent(train=599.5, calibration=4.9), Verdict.DISPUTED, "calibration"),  # #1855
        (Spent(train=592.0, calibration=4.9), Verdict.PASSED, "calibration"),  # #1868
        (Spent(train=599.5, calibration=30.0), Verdict.FAILED, "calibration"),
        (Spent(train=590.0, train_wall=640.0), Verdict.DISPUTED, "train_seconds"),
        (Spent(train=590.0, evaluation=600.1), Verdict.FAILED, "eval_seconds"),
        (Spent(train=590.0, evaluation=508.8, evaluation_wall=690.8), Verdict.DISPUTED, "eval_seconds"),  # #1855
    ],
)
def test_times_by_both_readings(spent: Spent, verdict: Verdict, rule: str):
    found = check_times(spent, Contest())
    matching = [ruling for ruling in found if rule in ruling.rules]
    assert verdict in {ruling.verdict for ruling in matching}, found
    assert all(ruling.verdict in (verdict, Verdict.PASSED) for ruling in found)
    for ruling in found:
        assert {reading.verdict for reading in ruling.readings} in (set(), {Verdict.PASSED, Verdict.FAILED})


def watched(predictor: Predictor, own: tuple[Path, ...] = ()) -> dict[str, Ruling]:
    stream = TokenStream(real_tokens(3), VOCAB)
    case = Case(
        target="planted", kind="predictor", contest=Contest(), predictor=predictor, stream=stream, own_files=own
    )
    judgement = judge(case, Effort(only=("causality", "artifact"), cuts=2))
    assert judgement.verdict in (Verdict.PASSED, Verdict.FAILED)
    return rulings(judgement, Verdict.FAILED)


@pytest.fixture(scope="module")
def model():
    return small_model()


def test_the_network_is_refused_and_told(model):
    broken = watched(planted.Calling(model))
    assert "127.0.0.1" in broken["self_contained"].evidence
    assert "self_contained" not in watched(planted.Rows(model))


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("fineweb_train_000000.bin", "self_contained", "training data"),
        ("ngram_table.npz", "self_contained", "not in the counted bytes"),
        ("fineweb_val_000000.bin", "paid_prefix", "validation data"),
    ],
)
def test_files_that_are_not_counted(model, tmp_path: Path, name: str, rule: str, said: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("outside") / name
    path.parent.mkdir()
    path.write_bytes(bytes(1000))
    # Folders of pytest lie below the system's temporary folder, which the judge watches like any other.
    broken = watched(planted.Reading(model, path))
    assert said in broken[rule].said
    assert f"{name} (1,000 bytes)" in broken[rule].evidence
    assert not watched(planted.Reading(model, path), own=(path,))


def test_reproduction_holds_tokens_and_bytes_too():
    again = Replayed(2.3, 1.06, 1000, 3157, 1.0, "blocked")
    assert check_reproduction(again, Claimed(2.3, 1.06, 1000, 3157))[0].verdict is Verdict.PASSED
    (ruling,) = check_reproduction(again, Claimed(2.3, 1.06, 1000, 3000))
    assert "bytes stated 3,000, counted 3,157" in ruling.evidence
    assert check_reproduction(again, Claimed(2.3, 1.0601))[0].verdict is Verdict.FAILED
    assert check_reproduction(again, Claimed(2.3, 1.0601, same_device=False))[0].verdict is Verdict.PASSED


def submission(folder: Path, *, losses: tuple[float, ...] = (2.3194, 2.3224, 2.3242), **changes: object) -> Path:
    """A folder as people submit them."""
    folder.mkdir()
    seeds = {
        str(seed): {"val_loss": loss, "val_bpb": loss * 1.06107587 / 2.32202732, "artifact_bytes": 15_900_000}
        for seed, loss in zip((42, 0, 1234), losses)
    }
    mean = sum(losses) / len(losses)
    claim = {
        "name": "planted",
        "val_loss": mean,
        "val_bpb": mean * 1.06107587 / 2.32202732,
        "bytes_total": 15_900_000,
        "seed_results": seeds,
    }
    (folder / "submission.json").write_text(json.dumps({**claim, **changes}))
    (folder / "train_gpt.py").write_text("print('hello')\n")
    log = (
        "val_tokens: 47851520\n4000/20000 val_loss: 2.33 val_bpb: 1.07 train_time: 599600ms\n"
        "quantized_ttt_phased val_loss:2.32239991 val_bpb:1.06124613 eval_time:455128ms\n"
    )
    (folder / "train_seed0.log").write_text(log)
    return folder


def of_folder(path: Path, *only: str, best: tuple[float, ...] = ()) -> Judgement:
    return judge(folder_case(path, contest=Contest(), data=None, best=best), Effort(only=only))


def test_a_submission_is_judged_without_running_it(tmp_path: Path):
    judgement = of_folder(submission(tmp_path / "sub"))
    assert judgement.verdict is Verdict.PASSED, rulings(judgement, Verdict.FAILED)
    checks = {ruling.check for ruling in judgement.rulings if ruling.verdict is Verdict.PASSED}
    assert {"byte accounting", "artifact self-contained", "time budgets"} <= checks


def test_a_seed_over_the_budget_is_found(tmp_path: Path):
    seeds = {"1": {"val_bpb": 1.06, "artifact_bytes": 15_999_999}, "2": {"val_bpb": 1.06, "artifact_bytes": 16_000_001}}
    broken = rulings(of_folder(submission(tmp_path / "sub", seed_results=seeds)), Verdict.FAILED)
    assert "16,000,001" in broken["artifact_bytes"].evidence


@pytest.mark.parametrize(
    ("best", "verdict"), [(1.0810, Verdict.PASSED), (1.0618, Verdict.DISPUTED), (1.05, Verdict.FAILED)]
)
def test_the_margin_by_both_readings(tmp_path: Path, best: float, verdict: Verdict):
    judgement = of_folder(submission(tmp_path / "sub"), "margin", best=(best,))
    assert judgement.verdict is verdict
    assert len(judgement.rulings[0].readings) == 2


SCORER = """
import socket
from pathlib import Path

weights = Path("weights.ptz").read_bytes()
{extra}
print("val_tokens: 47851520")
print(f"final_exact val_loss:{{2.0 + len(weights) / 1e6:.8f}} val_bpb:{{1.0 + len(weights) / 1e6:.8f}}")
"""


@pytest.mark.parametrize(
    ("extra", "claimed", "rule"),
    [
        ("", 1.001, None),
        ("", 1.011, "reproduction"),
        ("Path({outside!r}).read_bytes()", 1.001, "self_contained"),
        ("try:\n    socket.create_connection(('192.0.2.1', 80))\nexcept OSError:\n    pass", 1.001, "self_contained"),
        ("raise SystemExit(3)", 1.001, "reproduction"),
    ],
    ids=["honest", "other score", "hidden training data", "network", "does not run"],
)
def test_a_submission_is_scored_again_offline(tmp_path: Path, extra: str, claimed: float, rule: str | None):
    """Its own script in a copy of its folder; what it reads elsewhere is found."""
    folder = tmp_path / "sub"
    folder.mkdir()
    outside = tmp_path / "fineweb_train_000000.bin"
    outside.write_bytes(bytes(500))
    (folder / "weights.ptz").write_bytes(bytes(1000))
    (folder / "score.py").write_text(SCORER.format(extra=extra.format(outside=str(outside))))
    (folder / "submission.json").write_text(json.dumps({"val_bpb": claimed, "val_loss": claimed + 1}))
    case = folder_case(folder, contest=Contest(), data=None, best=(), command="python score.py", seconds=60)
    judgement = judge(case, Effort(only=("reproduction", "artifact")))
    broken = rulings(judgement, Verdict.FAILED)
    assert set(broken) <= {rule, "artifact_bytes"} if rule else not broken
    assert rule is None or rule in broken
    if rule == "self_contained":
        assert "fineweb_train_000000.bin (500 bytes)" in broken[rule].evidence or "192.0.2.1" in broken[rule].evidence

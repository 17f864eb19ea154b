"""Whole runs and their stages through the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.conftest import Golf, assert_helpful, contents, only_run, small
from filelock import FileLock
from limits import file_size_limit


def test_a_run_leaves_everything_it_promises(golf: Golf, prepared_once: Path) -> None:
    said = golf("run demo", *small(), "--data", prepared_once)
    assert said.code == 0, said.err
    folder = only_run()
    for name in ("config.toml", "data.json", "events.jsonl", "train.log", "artifact.pgolf", "result.json"):
        assert (folder / name).stat().st_size > 0, name
    result = json.loads((folder / "result.json").read_text())
    score = next(line for line in said.out.splitlines() if line.startswith("score"))
    assert f"{result['val_bpb']:.4f}" in score
    for compressor in ("gzip -9", "xz -9e", "zstd -19"):
        bpb = re.search(rf"^{compressor} +([\d.]+)", said.out, re.MULTILINE)
        assert bpb is not None
        assert 1 < float(bpb[1]) < 8
    assert f"{result['total_bytes']:,}" in said.out
    assert str(folder) in said.out
    phases = [line.split()[0] for line in said.err.splitlines()]
    assert list(dict.fromkeys(phases)) == ["start", "train", "validate", "export", "score"]
    assert "\x1b" not in said.out + said.err


def test_the_same_seed_gives_the_same_artifact(golf: Golf, prepared_once: Path) -> None:
    for runs, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert golf(f"run demo --runs {runs} --seed {seed}", *small(), "--data", prepared_once).code == 0
    first, second, other = (only_run(Path(runs)) for runs in "abc")
    assert (first / "artifact.pgolf").read_bytes() == (second / "artifact.pgolf").read_bytes()
    assert (first / "artifact.pgolf").read_bytes() != (other / "artifact.pgolf").read_bytes()


def test_several_seeds(golf: Golf, prepared_once: Path) -> None:
    said = golf("run demo --seeds 3,4 --json", *small(), "--data", prepared_once)
    assert said.code == 0
    assert [result["seed"] for result in json.loads(said.out)] == [3, 4]
    assert len(list(Path("runs").iterdir())) == 2
    assert golf("run demo --seeds 3,x").code == 2
    assert golf("run demo --seeds 3,4 --seed 5").code == 2


def test_stages_one_by_one_are_the_run(golf: Golf, prepared_once: Path) -> None:
    whole = golf("run demo --runs whole --json", *small(), "--data", prepared_once)
    assert golf("train demo", *small(), "--data", prepared_once).code == 0
    folder = only_run()
    assert not (folder / "artifact.pgolf").exists()
    assert golf("export", folder).code == 0
    said = golf("score --json", folder)
    assert said.code == 0
    assert (folder / "artifact.pgolf").read_bytes() == (only_run(Path("whole")) / "artifact.pgolf").read_bytes()
    for key in ("val_bpb", "val_bpb_export", "val_bpb_raw", "total_bytes", "steps", "data_fingerprint"):
        assert json.loads(said.out)[key] == json.loads(whole.out)[key], key


def test_a_corpus_is_prepared_by_itself_and_only_once(golf: Golf, texts_folder: Path) -> None:
    first = golf("run demo", *small(), "--data", texts_folder)
    assert first.code == 0
    (made,) = Path("data").iterdir()
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.bin")}
    assert before
    assert golf("run demo --seed 2", *small(), "--data", texts_folder).code == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.bin")} == before


def test_resume_auto_takes_up_the_unfinished_run(golf: Golf, prepared_once: Path) -> None:
    assert golf("train demo", *small(), "--data", prepared_once).code == 0
    said = golf("run demo --resume auto", *small())
    assert said.code == 0, said.err
    assert (only_run() / "result.json").exists()
    assert golf("run demo --resume auto", *small(), "--data", prepared_once).code == 0
    assert len(list(Path("runs").iterdir())) == 2


def test_resume_needs_no_preset(golf: Golf, prepared_once: Path) -> None:
    assert golf("train demo --seed 9", *small(), "--data", prepared_once).code == 0
    assert golf("run --resume", only_run()).code == 0
    assert json.loads((only_run() / "result.json").read_text())["seed"] == 9
    assert golf("run").code == 2


def test_resume_refuses_another_configuration(golf: Golf, prepared_once: Path) -> None:
    assert golf("train demo", *small(), "--data", prepared_once).code == 0
    folder = only_run()
    before = contents(folder)
    for more in (("--set", "optim.matrix.lr=0.5"), ("--seed", "4")):
        said = golf("run demo --resume", folder, *small(), *more)
        assert_helpful(said, 2, more[1].partition("=")[0] if "=" in more[1] else "seed", str(folder))
    assert contents(folder) == before


def test_resume_refuses_other_data(golf: Golf, prepared_once: Path, texts_folder: Path) -> None:
    assert golf("train demo", *small(), "--data", prepared_once).code == 0
    folder = only_run()
    before = contents(folder)
    Path("other").mkdir()
    lines = (texts_folder / "train.jsonl").read_text().splitlines(keepends=True)
    Path("other/texts.jsonl").write_text("".join(lines[10:]))
    said = golf("run --resume", folder, "--data", "other")
    assert_helpful(said, 1, "fingerprint", "--data")
    assert contents(folder) == before


def test_resume_of_what_is_no_run(golf: Golf) -> None:
    Path("empty").mkdir()
    said = golf("run --resume empty")
    assert said.code == 2
    assert "config.toml" in said.err


def test_one_process_a_folder(golf: Golf, prepared_once: Path) -> None:
    assert golf("train demo", *small(), "--data", prepared_once).code == 0
    with FileLock(only_run() / ".lock"):
        said = golf("run --resume", only_run())
        assert said.code == 2
        assert "another process" in said.err
    assert golf("run --resume", only_run()).code == 0


def test_over_the_byte_budget(golf: Golf, prepared_once: Path) -> None:
    said = golf("run demo", *small("contest.artifact_bytes=20_000"), "--data", prepared_once)
    assert_helpful(said, 3, "over the budget of 20,000", "heaviest")
    assert "OVER THE BUDGET" in said.out
    result = json.loads((only_run() / "result.json").read_text())
    assert result["within_budget"] == {"bytes": False, "train": True, "eval": True}
    assert golf("score", only_run()).code == 3


def test_no_time_for_a_step(golf: Golf, prepared_once: Path) -> None:
    said = golf("run demo", *small("train.by=clock contest.train_seconds=0.0001"), "--data", prepared_once)
    assert_helpful(said, 4, "too small for one training step")


@pytest.mark.parametrize(("setting", "what"), [("train_seconds", "training"), ("eval_seconds", "evaluation")])
def test_over_a_time_budget(golf: Golf, prepared_once: Path, setting: str, what: str) -> None:
    said = golf("run demo", *small(f"contest.{setting}=0.0001"), "--data", prepared_once)
    assert_helpful(said, 4, what, "over the budget")
    assert "OVER THE BUDGET" in said.out
    assert (only_run() / "result.json").exists()


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "foreign", "longer"])
def test_a_damaged_artifact_is_not_scored(golf: Golf, prepared_once: Path, damage: str) -> None:
    assert golf("run demo", *small(), "--data", prepared_once).code == 0
    folder = only_run()
    good = (folder / "artifact.pgolf").read_bytes()
    place = len(good) // 2
    (folder / "artifact.pgolf").write_bytes(
        {
            "flipped": good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :],
            "truncated": good[:place],
            "empty": b"",
            "foreign": b"\x89PNG" + good,
            "longer": good + b"\0",
        }[damage]
    )
    before = contents(folder)["result.json"]
    said = golf("score", folder)
    assert_helpful(said, 1, "artifact.pgolf", f"paramgolf export {folder}")
    assert contents(folder)["result.json"] == before
    (folder / "artifact.pgolf").write_bytes(good)
    assert golf("score", folder).code == 0


def test_stages_ask_for_the_stage_before(golf: Golf, prepared_once: Path) -> None:
    assert golf("train demo", *small(), "--data", prepared_once).code == 0
    folder = only_run()
    said = golf("score", folder)
    assert said.code == 2
    assert f"next: paramgolf export {folder}" in said.err
    (folder / "checkpoint/state.safetensors").unlink()
    said = golf("export", folder)
    assert_helpful(said, 2, "not finished", f"paramgolf train --resume {folder}")


def test_a_full_disk_while_training(golf: Golf, prepared_once: Path) -> None:
    assert golf("train demo --runs earlier", *small(), "--data", prepared_once).code == 0
    before = contents(Path("earlier"))
    with file_size_limit(30_000):
        said = golf("run demo", *small(), "--data", prepared_once)
    assert_helpful(said, 1, "could not be written")
    assert contents(Path("earlier")) == before
    assert not [path for path in only_run().rglob("*") if path.name.startswith(".state")]
    assert golf("run demo --resume auto", *small()).code == 0


def test_a_full_disk_at_the_end(golf: Golf, prepared_once: Path) -> None:
    assert golf("train demo", *small(), "--data", prepared_once).code == 0
    folder = only_run()
    with file_size_limit((folder / "events.jsonl").stat().st_size + 10):
        said = golf("run --resume", folder)
    assert_helpful(said, 1, "events.jsonl could not be written")
    assert golf("run --resume", folder).code == 0


def test_a_full_disk_while_preparing(golf: Golf, texts_folder: Path) -> None:
    with file_size_limit(10_000):
        said = golf("run demo", *small(), "--data", texts_folder)
    assert_helpful(said, 1, "no room to write")
    assert not Path("runs").exists()
    assert golf("run demo", *small(), "--data", texts_folder).code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_goes_on(golf: Golf, prepared_once: Path, number: signal.Signals, code: int) -> None:
    words = ["run", "demo", *small("train.steps=100000"), "--data", str(prepared_once), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "paramgolf", *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    ends = time.monotonic() + 60
    while not any("step" in path.read_text() for path in Path("runs").glob("*/train.log")):
        assert time.monotonic() < ends
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == code
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert f"stopped by {number.name}" in said
    assert (only_run() / "checkpoint/state.safetensors").exists()
    assert golf("export", only_run()).code == 2

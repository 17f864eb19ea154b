"""Submissions from three seeds of a run that takes a second, by hand and through the command line, linted."""

import json
import math
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import finished_run, tiny_run

from paramgolf.bundle.claim import read_claim
from paramgolf.bundle.lint import lint
from paramgolf.bundle.submission import (
    RivalScores,
    Submission,
    SubmissionCode,
    SubmissionSeed,
    require_sound,
    write_submission,
)
from paramgolf.bundle.submission_folder import make_submission, requirements, submission_files
from paramgolf.bundle.submission_json import strict_json, submission_values
from paramgolf.cli import main
from paramgolf.contest import Contest
from paramgolf.data.dataset import Dataset
from paramgolf.errors import DataError, GolfError, OverBytes, OverTime, UsageError
from paramgolf.lab.launch import load_techniques
from paramgolf.presets.baseline import baseline
from paramgolf.result import Result

SCRIPT = b"import argparse\ndef train():\n    import numpy, torch\nargparse.ArgumentParser().parse_args()\n"


@pytest.fixture(scope="module")
def runs(tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of one configuration, as `paramgolf run` leaves them."""
    load_techniques()
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        run = replace(tiny_run(), seed=seed)
        finished_run(run, tiny_data, root / f"2026-05-01_tiny_{run.digest}_s{seed}")
    return root


@pytest.fixture(scope="module")
def submission(runs: Path) -> Submission:
    seeds = tuple(
        SubmissionSeed(
            run=replace(tiny_run(), seed=seed),
            result=Result(**json.loads((folder / "result.json").read_text())),
            log=(folder / "train.log").read_text(),
        )
        for seed, folder in enumerate(sorted(runs.iterdir()), 1)
    )
    return Submission(
        name="Tiny | wide",
        author="A. Golfer",
        github_id="agolfer",
        blurb="A model of two layers on bytes.",
        date="2026-05-01",
        track="10min_16mb",
        seeds=seeds,
        code=SubmissionCode(script=SCRIPT),
        base=baseline(),
        rival=RivalScores(name="the best", scores=(12.0,)),
    )


def problems(folder: Path) -> list[tuple[str, str]]:
    """What the linter has against a folder, beside the machine of the tests."""
    found = [(finding.severity, finding.cause) for finding in lint(folder, Contest(), start=True)]
    return [(severity, cause) for severity, cause in found if severity != "note" and "machine" not in cause]


def test_a_folder_that_passes(submission: Submission, tmp_path: Path) -> None:
    made = make_submission(submission, tmp_path)
    assert made == tmp_path / "track_10min_16mb" / "2026-05-01_Tiny_wide"
    assert problems(made) == []
    results = submission.results
    claim = read_claim((made / "submission.json").read_bytes())
    assert claim.missing == claim.oddities == claim.other_seeds == ()
    assert [seed.val_bpb for seed in claim.seeds] == [round(result.val_bpb, 8) for result in results]
    assert claim.val_bpb == pytest.approx(sum(result.val_bpb for result in results) / 3, abs=1e-8)
    assert claim.code_bytes == len(SCRIPT)
    assert claim.total_bytes == max(result.artifact_bytes for result in results) + len(SCRIPT)
    assert {path.name for path in made.iterdir()} == {
        *("README.md", "submission.json", "requirements.txt", "config.toml", "train_gpt.py", "SHA256SUMS"),
        *(f"train_seed{seed}.log" for seed in (1, 2, 3)),
    }
    assert (made / "train_gpt.py").read_bytes() == SCRIPT


def test_readme_and_pull_request(submission: Submission, tmp_path: Path) -> None:
    made = make_submission(submission, tmp_path)
    readme, request = (made / "README.md").read_text(), made.with_name(f"{made.name}.pull_request.md").read_text()
    for result in submission.results:
        assert f"| {result.seed} | {result.val_bpb:.8f} | {result.val_loss:.8f} |" in readme
        assert f"{result.val_bpb:.8f}" in request
    assert "| `model.layers` | `9` | `2` |" in readme
    margin = f"{0.005 / math.log(2) * submission.results[0].val_tokens / submission.results[0].val_bytes:.5f}"
    assert re.search(rf"\| README \| {margin} bpb \| one-sample t \| -\d.* \| 2 \| .* \| p < 0\.01 \| kept \|", readme)
    assert re.search(r"\| practice \| 0\.00000 bpb .* \| p < 0\.25 \| kept \|", readme)
    assert "arXiv" in readme.partition("## Credits")[2]
    assert request.startswith("Record: Tiny | wide (val_bpb ")
    assert "adds `records/track_10min_16mb/2026-05-01_Tiny_wide` only" in request
    tables = [line.count("|") - line.count("\\|") for line in readme.splitlines() if line.startswith("| ")]
    assert set(tables) == {4, 9}


def test_the_same_submission_gives_the_same_bytes(submission: Submission) -> None:
    assert submission_files(submission) == submission_files(submission)


def test_a_readable_twin_and_requirements(submission: Submission, tmp_path: Path) -> None:
    packed = b"import brotli\n"
    made = make_submission(replace(submission, code=SubmissionCode(script=packed, readable=SCRIPT.decode())), tmp_path)
    assert problems(made) == []
    assert (made / "readable_script.txt").read_bytes() == SCRIPT
    assert json.loads((made / "submission.json").read_text())["bytes_code"] == len(packed)
    # What unpacks the script counts among them.
    assert re.fullmatch(r"brotli==[\d.]+\nnumpy==[\d.]+\ntorch==[\d.]+\n", (made / "requirements.txt").read_text())
    wrapped = "#coding:latin-1\nimport lzma;exec('\xff\\0'.encode('latin-1') and '')\n".encode("latin-1")
    assert "sentencepiece==" in requirements(wrapped)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"seeds": ()}, UsageError, "no run was given"),
        ({"name": ""}, UsageError, "name cannot be empty"),
        ({"github_id": ""}, UsageError, "--github-id TEXT"),
        ({"date": "yesterday"}, UsageError, "no ISO date"),
        ({"code": SubmissionCode(script=b"x" * 1_000_000)}, OverBytes, "bytes over 500,000"),
        ({"code": SubmissionCode(script=b"def :")}, DataError, "does not compile"),
    ],
)
def test_what_is_refused(submission: Submission, tmp_path: Path, changes: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        make_submission(replace(submission, **changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


def changed_seed(submission: Submission, log: str | None = None, **changes: object) -> Submission:
    """`submission` with another result of its last seed."""
    last = submission.seeds[-1]
    changed = replace(last, result=replace(last.result, **changes), log=last.log if log is None else log)
    return replace(submission, seeds=(*submission.seeds[:-1], changed))


def test_runs_that_do_not_belong_together(submission: Submission) -> None:
    cases: list[tuple[Submission, type[GolfError], str]] = [
        (changed_seed(submission, seed=1), UsageError, "a seed was given twice"),
        (changed_seed(submission, data_fingerprint="other"), UsageError, "different data"),
        (changed_seed(submission, val_tokens=5), UsageError, "different validation streams"),
        (changed_seed(submission, val_bpb=float("nan")), UsageError, "has no score"),
        (changed_seed(submission, val_bpb=1.0), DataError, "log of seed 3 does not hold its score"),
        (changed_seed(submission, log="nothing"), DataError, "log of seed 3 does not hold its score"),
        (changed_seed(submission, artifact_bytes=999_999), OverBytes, "seed 3 is"),
        (changed_seed(submission, train_seconds=601.5), OverTime, "training of seed 3 took 601.5 s"),
        (changed_seed(submission, eval_seconds=600.5), OverTime, "evaluation of seed 3"),
    ]
    for case, error, words in cases:
        with pytest.raises(error, match=words):
            require_sound(case)
    require_sound(changed_seed(replace(submission, track="non_record_16mb"), train_seconds=6000.0))
    last = submission.seeds[-1]
    other = replace(last, run=replace(last.run, train=replace(last.run.train, steps=13)))
    with pytest.raises(UsageError, match="different configurations"):
        require_sound(replace(submission, seeds=(*submission.seeds[:-1], other)))


def test_strict_json(submission: Submission) -> None:
    values = submission_values(submission)
    assert json.loads(strict_json(values)) == values
    scores = [result.val_bpb for result in submission.results]
    assert values["val_bpb_std"] == pytest.approx(statistics.stdev(scores), abs=1e-8)
    assert values["delta_vs_baseline_bpb"] == pytest.approx(values["val_bpb"] - 12.0, abs=1e-8)
    # One token a byte: nats are bits times ln 2.
    assert values["delta_vs_baseline_nats"] == pytest.approx(values["delta_vs_baseline_bpb"] * 0.6931 * 1.04, rel=0.05)
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json({**values, "val_loss": float("nan")})


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    write_submission({"x": b"1", "y": b"2"}, target)
    with pytest.raises(UsageError, match="is there already"):
        write_submission({"x": b"3"}, target)
    with pytest.raises(IsADirectoryError):
        write_submission({"x": b"3", ".": b""}, target, overwrite=True)
    assert (target / "x").read_bytes() == b"1"
    write_submission({"x": b"3"}, target, overwrite=True)
    assert sorted(path.name for path in target.iterdir()) == ["SHA256SUMS", "x"]
    assert [path.name for path in target.parent.iterdir()] == ["b"]


WHO = ["--name", "Tiny", "--author", "A", "--github-id", "a", "--blurb", "Small.", "--date", "2026-05-01"]


def test_from_the_command_line(runs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_bytes(SCRIPT)
    folders = [str(path) for path in sorted(runs.iterdir())]
    command = ["submit", *folders, *WHO, "--script", "script.py", "--runs", str(runs)]
    assert main([*command, "--best", "12"]) == 0
    said = capsys.readouterr().out
    assert "3 seeds: " in said
    assert re.search(r"README +0\.007\d\d bpb +one-sample t .* p < 0\.01 +kept", said)
    made = Path("records/track_10min_16mb/2026-05-01_Tiny")
    assert main(["lint", str(made), "--run"]) == 0
    assert "0 errors" in capsys.readouterr().out
    # The best score may be another submission.
    assert main([*command, "--best", str(made / "submission.json"), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(made)
    assert "Against Tiny" in (made / "README.md").read_text()
    assert "Welch t" in (made / "README.md").read_text()
    (made / "train_seed1.log").unlink()
    assert main(["lint", str(made), "--json"]) == 1
    causes = {finding["cause"] for finding in json.loads(capsys.readouterr().out)}
    assert {"seed 1 has no log", "a frozen file is missing"} <= causes


def test_runs_that_are_left_out_have_to_be_spoken_of(runs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_bytes(SCRIPT)
    folders = [str(path) for path in sorted(runs.iterdir())]
    command = ["submit", *folders[:2], *WHO, "--script", "script.py", "--runs", str(runs)]
    assert main(command) == 2
    assert f"evidence: {folders[2]}" in capsys.readouterr().err
    assert main([*command, "--track", "non_record_16mb", "--leave-out", "seed 3 met a broken GPU."]) == 0
    readme = Path("records/track_non_record_16mb/2026-05-01_Tiny/README.md").read_text()
    assert "Except: seed 3 met a broken GPU." in readme


def test_what_the_command_line_refuses(runs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_bytes(SCRIPT)
    folders = [str(path) for path in sorted(runs.iterdir())]
    for line, words in (
        (["submit"], "neither runs nor a preset"),
        (["submit", "nothing_like_it", "--script", "script.py"], "no preset"),
        (["submit", *folders, "--script", "script.py", "--best", "good"], "neither a number nor a file"),
        (["lint", "absent"], "there is no absent"),
    ):
        assert main(line) == 2
        assert words in capsys.readouterr().err

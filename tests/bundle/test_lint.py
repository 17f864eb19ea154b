"""The linter: a sound folder passes, and every fault that sank a real submission is found under its name."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_entries import LOSSES, april_log, bpb_of, first_form, freeze, later_form, march_log, write_entry

from paramgolf.bundle.lint import lint
from paramgolf.bundle.lint_finding import LintFinding
from paramgolf.contest import Contest
from paramgolf.errors import UsageError


def linted(path: Path, **options: Any) -> list[LintFinding]:
    return lint(path, Contest(), **options)


def found(path: Path, cause: str, severity: str = "error") -> LintFinding:
    """The only finding with `cause`; nothing else may be worse than a note."""
    findings = [finding for finding in linted(path) if finding.severity != "note"]
    assert [(finding.severity, cause in finding.cause) for finding in findings] == [(severity, True)], findings
    return findings[0]


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    return write_entry(tmp_path / "entry")


def claim(folder: Path, **changes: Any) -> Path:
    """`folder` with another claim."""
    (folder / "submission.json").write_text(json.dumps(later_form(**changes)))
    return folder


def seed_changed(**changes: Any) -> dict[str, Any]:
    results = later_form()["seed_results"]
    results["42"] |= changes
    return results


def test_a_sound_folder(entry: Path) -> None:
    assert linted(entry) == []


def test_single_files(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(march_log())
    assert [finding.cause for finding in linted(tmp_path / "train.log")] == [
        "training ended with the step that reached the limit"
    ]
    (tmp_path / "submission_wide.json").write_text(json.dumps(first_form()))
    assert "fewer than three seeds" in found(tmp_path / "submission_wide.json", "significance", "warning").cause
    with pytest.raises(UsageError, match="there is no"):
        linted(tmp_path / "absent")


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    causes = {finding.cause for finding in linted(tmp_path) if finding.severity == "error"}
    assert causes == {
        "submission.json is missing",
        "there is no training log",
        "README.md is missing",
        "there is no training script",
    }


def test_broken_json(entry: Path) -> None:
    (entry / "submission.json").write_text('{"val_bpb": 1.1')
    assert "line 1 column" in found(entry, "is not JSON").evidence


@pytest.mark.parametrize("field", ["name", "author", "date"])
def test_a_missing_field(entry: Path, field: str) -> None:
    found(claim(entry, **{field: None}), f"{field} is missing")


def test_one_byte_over_in_one_seed(entry: Path) -> None:
    (entry / "train_seed42.log").write_text(april_log(42, total=16_000_001))
    claim(entry, seed_results=seed_changed(artifact_bytes=16_000_001), bytes_total=16_000_001)
    findings = linted(entry)
    assert {finding.cause for finding in findings} == {"code and model exceed the byte budget"}
    assert {finding.file for finding in findings} == {"submission.json", "train_seed42.log"}
    assert "seed 42: 16,000,001 bytes, 1 over 16,000,000 (15.26 MiB)" in {finding.evidence for finding in findings}


def test_mebibytes_taken_for_megabytes(entry: Path) -> None:
    claim(entry, bytes_total=16_777_216)
    assert "777,216 over" in found(entry, "exceed the byte budget").evidence


def test_a_total_that_is_not_the_largest(entry: Path) -> None:
    found(claim(entry, bytes_total=15_900_500), "not the largest seed", "warning")


def test_a_total_that_is_no_sum(entry: Path) -> None:
    found(claim(entry, bytes_model=15_800_000), "total is not code plus model")


def test_code_left_out(entry: Path) -> None:
    claim(entry, seed_results=seed_changed(artifact_bytes=15_850_042))
    found(entry, "code is left out", "warning")


def test_bits_per_byte_of_another_byte_count(entry: Path) -> None:
    """Spaces counted twice: a denominator too large by 3 %, in one seed."""
    (entry / "train_seed42.log").write_text(
        april_log(42).replace(f"{bpb_of(2.801):.8f}", f"{bpb_of(2.801) / 1.03:.8f}")
    )
    mean = (bpb_of(2.801) / 1.03 + bpb_of(2.8034) + bpb_of(2.7986)) / 3
    claim(entry, seed_results=seed_changed(val_bpb=round(bpb_of(2.801) / 1.03, 8)), val_bpb=round(mean, 8))
    (entry / "README.md").write_text(f"{mean:.4f} " * 60)
    assert "seed 42: 3.83840 bytes a token" in found(entry, "do not belong together").evidence


def test_the_count_of_ones_own_tokens(entry: Path) -> None:
    assert linted(claim(entry, val_tokens=40_540_160, val_bytes=151_076_960)) == []
    found(claim(entry, val_tokens=40_540_160, val_bytes=150_000_000), "not loss by tokens and bytes")


def test_an_unknown_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "submission.json").write_text(
        json.dumps(first_form(val_bpb=round(bpb_of(2.8, 3.4), 8), seeds=[1, 2, 3]))
    )
    found(tmp_path / "submission.json", "no official tokenizer", "warning")


@pytest.mark.parametrize("bpb", [0.0007, 0.00043, 12.0, -1.0])
def test_a_difference_taken_for_a_score(tmp_path: Path, bpb: float) -> None:
    (tmp_path / "submission.json").write_text(json.dumps(first_form(val_bpb=bpb, seeds=[1, 2, 3])))
    assert "a score is out of every range" in {finding.cause for finding in linted(tmp_path / "submission.json")}


def test_means(entry: Path) -> None:
    claim(entry, val_loss=None)
    assert [finding.severity for finding in linted(entry)] == ["note"]
    claim(entry, val_bpb=round(bpb_of(2.7986), 8), val_loss=2.7986)
    assert {(f.severity, f.cause) for f in linted(entry / "submission.json")} == {
        ("warning", "val_bpb is that of one seed, not the mean"),
        ("warning", "val_loss is that of one seed, not the mean"),
    }
    found(claim(entry, val_bpb_std=0.005), "deviation of val_bpb is not that of the seeds", "warning")
    assert linted(claim(entry, val_bpb_std=0.00093, val_loss_std=0.0024)) == []


def test_seeds(entry: Path, tmp_path: Path) -> None:
    found(claim(entry, all_runs={"seeds": [42, 0, 1234, 7]}), "some runs were made and do not count", "warning")
    two = {seed: LOSSES[seed] for seed in (42, 0)}
    folder = write_entry(tmp_path / "two", later_form(two), {f"train_seed{seed}.log": april_log(seed) for seed in two})
    found(folder, "fewer than three seeds")
    elsewhere = tmp_path / "records" / "track_non_record_16mb" / "two"
    assert linted(folder.rename(elsewhere.parent.mkdir(parents=True) or elsewhere)) == []
    twice = claim(entry, seed_results=[{"seed": 1}, {"seed": 1}, {"seed": 0}])
    assert "a seed counts twice" in {finding.cause for finding in linted(twice)}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"train_time_s": 601.153}, "training took too long"),
        ({"eval_time_s": 600.5}, "evaluation took too long"),
    ],
)
def test_times_claimed(entry: Path, change: dict[str, float], cause: str) -> None:
    found(claim(entry, seed_results=seed_changed(**change)), cause)


@pytest.mark.parametrize(
    ("old", "new", "severity", "cause"),
    [
        ("train_time: 596500ms", "train_time: 601153ms", "error", "training took too long"),
        ("eval_time:410250ms", "eval_time:600250ms", "error", "evaluation took too long"),
        ("67 Hessians in 2.5s", "67 Hessians in 4.9s", "warning", "calibration with training data ended after"),
        ("val_tokens: 40540160", "val_tokens: 8108032", "warning", "not the whole validation split"),
        ("world_size: 8", "world_size: 1", "warning", "not on the challenge's machine"),
        ("Code size: 50000", "Code size: 49999", "warning", "total is not code plus model"),
    ],
)
def test_what_a_log_tells(entry: Path, old: str, new: str, severity: str, cause: str) -> None:
    path = entry / "train_seed42.log"
    path.write_text(path.read_text().replace(old, new))
    assert found(entry, cause, severity).file == path.name


def test_strict_reading_of_the_evaluation_time(entry: Path) -> None:
    path = entry / "train_seed0.log"
    late = "Deserialize: decompression done in 100.0s\nttt:compile warmup done (95.0s)\nbeginning TTT eval timer"
    path.write_text(path.read_text().replace("\nquantized_ttt", f"\n{late}\nquantized_ttt"))
    evidence = found(entry, "too long if decoding and warm-up count", "warning").evidence
    assert evidence == "410.2 s counted and 195.0 s of decoding and warm-up"


def test_a_claim_with_a_traceback_behind_it(entry: Path) -> None:
    """#1133."""
    text = (entry / "train_seed42.log").read_text().split("stopping_early")[0]
    (entry / "train_seed42.log").write_text(text + "Traceback (most recent call last):\nRuntimeError: CUDA\n")
    found(entry, "the run ended in an error")
    (entry / "train_seed42.log").write_text(text)
    found(entry, "the log holds no score")


def test_scores_that_no_log_holds(entry: Path, tmp_path: Path) -> None:
    (entry / "train_seed42.log").write_text(april_log(42, loss=2.8211))
    assert "seed 42" in found(entry, "does not hold the score of its seed").evidence
    (entry / "train_seed42.log").unlink()
    found(entry, "seed 42 has no log")
    folder = write_entry(tmp_path / "one", first_form(track="non_record_16mb"), {"train.log": april_log(0)})
    found(folder, "no log holds the score")
    folder = write_entry(tmp_path / "fits", first_form(track="non_record_16mb"), {"train.log": april_log(0, loss=2.8)})
    assert linted(folder) == []


def test_a_log_is_found_by_what_it_says_before_its_name(entry: Path) -> None:
    (entry / "train_seed42.log").rename(entry / "b.log")
    (entry / "train_seed0.log").rename(entry / "train_seed42.log")
    assert linted(entry) == []
    path = entry / "b.log"
    path.write_text(path.read_text().replace("  seed: 42\n", ""))
    path.rename(entry / "run_42.log")
    assert linted(entry) == []


def test_an_earlier_score_of_the_log(entry: Path) -> None:
    path = entry / "train_seed42.log"
    path.write_text(path.read_text() + "quantized_ngram val_loss:2.70000000 val_bpb:1.04525000 eval_time:1000ms\n")
    found(entry, "not the log's last", "warning")


def test_size_and_steps_of_the_log(entry: Path) -> None:
    (entry / "train_seed42.log").write_text(april_log(42, total=15_950_000, steps=4890))
    assert {finding.cause for finding in linted(entry)} == {
        "the size is not the log's",
        "the number of steps is not the log's",
    }


def test_code(entry: Path) -> None:
    (entry / "helper.py").write_text("x = 1\n")
    (entry / "train_gpt.py").write_bytes(b"import helper\n".ljust(50_000, b"#"))
    assert {(f.severity, f.cause) for f in linted(entry)} == {
        ("warning", "code outside the script counts too"),
        ("warning", "the code is not of the size that is claimed"),
    }
    (entry / "helper.py").unlink()
    (entry / "train_gpt.py").write_bytes(b"def broken(:\n".ljust(50_000, b"#"))
    found(entry, "does not compile")
    (entry / "train_gpt.py").write_bytes(b"#".ljust(158_000, b"#"))
    evidence = found(entry, "would exceed the byte budget", "warning").evidence
    assert "158,000 bytes here, 50,000 claimed; with 158,000 the total is 16,009,234 of 16,000,000" in evidence


def test_the_source_in_a_log(entry: Path) -> None:
    source = "import os\n" + "".join(f"value_{number} = {number}\n" for number in range(20))
    (entry / "train_gpt.py").write_text(source + "#" * (50_000 - len(source)))
    path = entry / "train_seed42.log"
    path.write_text((entry / "train_gpt.py").read_text() + "\n" + path.read_text())
    assert linted(entry) == []
    path.write_text(path.read_text().replace("value_15 = 15", "value_15 = 16"))
    found(entry, "the log's source is not the submitted script", "warning")


@pytest.mark.parametrize(
    ("script", "severities"),
    [
        ("import argparse\nargparse.ArgumentParser().parse_args()\n", []),
        ("raise SystemExit('no GPU: CUDA is wanted')\n", ["warning"]),
        ("import paramgolf_that_is_not_there\n", ["warning"]),
        ("undefined_name\n", ["error"]),
    ],
)
def test_starting_the_script(entry: Path, script: str, severities: list[str]) -> None:
    (entry / "train_gpt.py").write_bytes(script.encode().ljust(50_000, b"#"))
    assert [finding.severity for finding in linted(entry, start=True)] == severities


def test_a_frozen_folder(entry: Path) -> None:
    freeze(entry)
    assert linted(entry) == []
    (entry / "requirements.txt").write_text("numpy\n")
    assert found(entry, "a frozen file was changed").file == "requirements.txt"
    (entry / "SHA256SUMS").write_text("0  ../outside\nx\n\n")
    assert {finding.cause for finding in linted(entry)} == {"a frozen file is missing"}


def test_other_names_of_files(entry: Path) -> None:
    (entry / "submission.json").rename(entry / "submission_wide.json")
    (entry / "train_gpt.py").rename(entry / "train_wide.py")
    (entry / "logs").mkdir()
    (entry / "train_seed42.log").rename(entry / "logs" / "run_42.txt")
    assert linted(entry) == []


def test_a_readme_that_tells_nothing(entry: Path) -> None:
    (entry / "README.md").write_text("Wide.")
    assert {finding.cause for finding in linted(entry)} == {
        "README.md explains little",
        "README.md does not tell the score",
    }

"""`paramgolf verify` on the command line: kinds of targets, reports, exit codes, and what is not there."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "verify_predictor.py"
QUICK = ("--cuts", 3, "--probe-tokens", 300, "--enumeration-seconds", 60, "--device", "cpu")

CHEAT = """
from verify_predictor import Counts


class Peeking(Counts):
    \"\"\"Learns from a chunk before it is scored.\"\"\"

    def predict(self, asked):
        for place in range(self.stream.targets):
            self.counts[self.context(place)][int(self.stream.tokens[place + 1])] += 1
        yield from super().predict(asked)


def broken():
    return object()
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golf) -> Path:
    """The example and a cheat in the folder that the command runs in."""
    shutil.copy(EXAMPLE, tmp_path / "verify_predictor.py")
    (tmp_path / "cheat.py").write_text(CHEAT)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


class Texts(HTMLParser):
    """The text of a page, and its tags that load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.loading = [], []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag in ("script", "link", "img", "iframe") or any(name in ("src", "href") for name, _ in attrs):
            self.loading.append(tag)


def test_the_example_passes_and_a_cheat_fails(golf, modules: Path, prepared_once: Path):
    honest = golf("verify verify_predictor:Counts --json --data", prepared_once, *QUICK)
    assert honest.code == 0, honest.err
    report = json.loads(honest.out)
    assert report["verdict"] == "passed"
    assert len({ruling["check"] for ruling in report["rulings"]}) == 11
    said = golf("verify cheat:Peeking --html report.html --data", prepared_once, *QUICK)
    assert said.code == 1
    assert "failed    score before update" in said.out
    assert "issue #402" in said.out
    assert "2026-03-22" in said.out
    page = Texts((modules / "report.html").read_text())
    assert not page.loading
    assert any("it learns from validation text before scoring it" in part for part in page.text)
    assert any("issue #402" in part for part in page.text)


def test_only_and_skip_choose_checks(golf, modules: Path, prepared_once: Path):
    said = golf(
        "verify verify_predictor:Counts --only coverage,bytes --skip bytes --json --data", prepared_once, *QUICK
    )
    assert [ruling["check"] for ruling in json.loads(said.out)["rulings"]] == ["one pass, every target once"]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("verify nowhere", 2, ("there is no folder nowhere",)),
        ("verify .", 2, ("neither a run's folder nor a submission's",)),
        ("verify cheat:Peeking", 2, ("name the data",)),
        ("verify cheat:Peekin --data DATA", 2, ("did you mean 'Peeking'",)),
        ("verify cheat:broken --data DATA", 2, ("it has no begin and no predict",)),
        ("verify nomodule:X --data DATA", 2, ("cannot be imported",)),
        ("verify cheat:Peeking --data DATA --only causalty", 2, ("did you mean 'causality'",)),
        ("verify cheat:Peeking --data DATA --best good", 2, ("is no list of numbers",)),
    ],
)
def test_what_is_not_there_is_said(
    golf, modules: Path, prepared_once: Path, line: str, code: int, words: tuple[str, ...]
):
    said = golf(line.replace("DATA", str(prepared_once)))
    assert said.code == code, said
    for word in words:
        assert word in said.err
    assert "Traceback" not in said.err


def test_a_run_without_a_score_is_refused(golf, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("")
    said = golf("verify run")
    assert said.code == 2
    assert "has no artifact.pgolf" in said.err


def test_a_submission_folder(golf, tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "submission.json").write_text('{"val_bpb": 1.2, "val_loss": 2.0, "bytes_total": 16000001}')
    said = golf("verify sub --json")
    assert said.code == 1
    report = json.loads(said.out)
    (broken,) = [ruling for ruling in report["rulings"] if ruling["verdict"] == "failed"]
    assert broken["check"] == "artifact self-contained"
    assert broken["rules"][0]["threads"] == "README"

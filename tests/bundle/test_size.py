"""The size of a bundle is worked out once and remembered, and asked for where a budget depends on it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from paramgolf.artifact.code import imported_code
from paramgolf.bundle.size import SIZES, bundle_size, package_digest, remember, remembered
from paramgolf.cli.script_size import SIZES_FILE, ScriptSize, count_configured
from paramgolf.config import to_toml
from paramgolf.errors import GolfError
from paramgolf.events import Event, Events
from paramgolf.lab.launch import asked_run
from paramgolf.run import Run
from paramgolf.stages import Session, code_that_counts


def test_a_size_that_is_known_is_not_worked_out_again(tmp_path: Path):
    run, kept = replace(asked_run("baseline"), name="of a test"), tmp_path / SIZES_FILE
    kept.write_text(json.dumps({f"{run.digest} {package_digest()}": 321}))
    before = dict(SIZES)
    try:
        SIZES.clear()
        assert bundle_size(run, kept) == 321
        assert ScriptSize(tmp_path)(run) == 321
        assert bundle_size(replace(run, seed=run.seed + 1)) == 321, "remembered by the process"
    finally:
        SIZES.clear()
        SIZES.update(before)


def test_only_this_version_of_the_package_is_remembered(tmp_path: Path):
    kept = tmp_path / "below" / SIZES_FILE
    here, other = f"abc {package_digest()}", "abc 0123456789ab"
    remember(kept, {here: 1, other: 2})
    assert remembered(kept) == {here: 1}
    assert [path.name for path in kept.parent.iterdir()] == [SIZES_FILE]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "b"}', "\x00"])
def test_a_damaged_file_is_as_none(tmp_path: Path, content: str):
    (tmp_path / SIZES_FILE).write_text(content)
    assert remembered(tmp_path / SIZES_FILE) == {}
    assert remembered(tmp_path / "missing") == {}


def test_it_is_counted_ahead_by_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = replace(asked_run("baseline"), name="of a test")
    config, size = tmp_path / "config.toml", ScriptSize(tmp_path)
    config.write_text(to_toml(run))
    size.kept.write_text(json.dumps({f"{run.digest} {package_digest()}": 321, "other": 5}))
    monkeypatch.setattr("paramgolf.bundle.size.SIZES", {})
    size.begin(config)
    assert size(run) == 321
    assert size.ahead is not None
    assert size.ahead.returncode == 0


def test_what_counts_ahead_counts_the_run_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, config, asked = asked_run("baseline"), tmp_path / "config.toml", list[tuple[str, Path | None]]()
    config.write_text(to_toml(run))
    monkeypatch.setattr("os.nice", lambda more: more)
    monkeypatch.setattr("paramgolf.bundle.size.bundle_size", lambda run, kept: asked.append((run.digest, kept)))
    count_configured(str(config), str(tmp_path / SIZES_FILE))
    assert asked == [(run.digest, tmp_path / SIZES_FILE)]


def test_where_it_cannot_be_counted_the_bound_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_bundle(run: Run, kept: Path | None = None) -> int:
        raise GolfError("a technique of somebody else")

    monkeypatch.setattr("paramgolf.bundle.size.bundle_size", no_bundle)
    size, run = ScriptSize(tmp_path), asked_run("baseline")
    size.begin(tmp_path / "missing.toml")
    assert size(run) == imported_code(run)


def test_the_script_is_counted_where_it_matters():
    run = asked_run("baseline")
    session = object.__new__(Session)
    told: list[Event] = []
    for name, value in (("run", run), ("code_size", lambda run: 123), ("events", Events(None, (told.append,)))):
        object.__setattr__(session, name, value)
    bound = imported_code(run)
    assert code_that_counts(session, exactly=True) == 123
    assert [event["event"] for event in told] == ["counting"]
    assert code_that_counts(session, exactly=False) == bound > 20_000
    assert code_that_counts(session, exactly=False, known=7) == 7
    object.__setattr__(session, "code_size", None)
    assert code_that_counts(session, exactly=True) == bound

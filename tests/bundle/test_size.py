"""The size of a bundle is worked out once and remembered, and asked for where a budget depends on it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from paramgolf.artifact.code import imported_code
from paramgolf.bundle.size import SIZES, bundle_size, package_digest, remember, remembered
from paramgolf.cli.script_size import SIZES_FILE, script_size
from paramgolf.lab.launch import asked_run
from paramgolf.stages import Session, code_that_counts


def test_a_size_that_is_known_is_not_worked_out_again(tmp_path: Path):
    run, kept = replace(asked_run("baseline"), name="of a test"), tmp_path / SIZES_FILE
    kept.write_text(json.dumps({f"{run.digest} {package_digest()}": 321}))
    before = dict(SIZES)
    try:
        SIZES.clear()
        assert bundle_size(run, kept) == 321
        assert script_size(tmp_path)(run) == 321
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


def test_the_script_is_counted_where_it_matters():
    run = asked_run("baseline")
    session = object.__new__(Session)
    for name, value in (("run", run), ("code_size", lambda run: 123)):
        object.__setattr__(session, name, value)
    bound = imported_code(run)
    assert code_that_counts(session, exactly=True) == 123
    assert code_that_counts(session, exactly=False) == bound > 20_000
    assert code_that_counts(session, exactly=False, known=7) == 7
    object.__setattr__(session, "code_size", None)
    assert code_that_counts(session, exactly=True) == bound

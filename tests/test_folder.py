import os
import time
from pathlib import Path

import pytest
from limits import file_size_limit

from paramgolf.errors import GolfError, UsageError
from paramgolf.folder import RunFolder, latest_unfinished, new_folder, opened


def test_a_name_says_what_a_run_is(tmp_path: Path):
    folder = new_folder(tmp_path, "demo", "0123456789ab", 7)
    assert folder.path.name == f"{time.strftime('%Y-%m-%d')}_demo_0123456789ab_s7"
    assert not folder.path.exists()


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path):
    names = []
    for _ in range(3):
        folder = new_folder(tmp_path, "demo", "0123456789ab", 7)
        folder.path.mkdir()
        names.append(folder.path.name[-4:])
    assert names == ["b_s7", "s7_2", "s7_3"]


def test_files_are_replaced_whole_and_nothing_is_left_beside_them(tmp_path: Path):
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.write_json(folder.result, {"a": [1, 2]})
    folder.write_json(folder.result, {"a": "é"})
    assert folder.read_json(folder.result) == {"a": "é"}
    assert [path.name for path in folder.path.iterdir()] == ["result.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.write_bytes(folder.artifact, b"old")
    with file_size_limit(1000), pytest.raises(GolfError, match=r"artifact\.pgolf could not be written"):
        folder.write_bytes(folder.artifact, b"new" * 1000)
    assert folder.artifact.read_bytes() == b"old"
    assert [path.name for path in folder.path.iterdir()] == ["artifact.pgolf"]


def test_a_place_where_nothing_can_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    folder = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(GolfError, match=r"config\.toml could not be written"):
        folder.write_text(folder.config, "x")


def test_what_is_missing_is_told(tmp_path: Path):
    folder = RunFolder(tmp_path)
    with pytest.raises(UsageError, match=r"has no export\.json"):
        folder.read_json(folder.export)
    with pytest.raises(UsageError, match="is not a run's folder"):
        opened(tmp_path)
    folder.write_text(folder.config, "")
    assert opened(tmp_path).path == tmp_path


def test_the_latest_unfinished_run_of_a_config_is_found(tmp_path: Path):
    assert latest_unfinished(tmp_path, "0123456789ab", 7) is None
    made = {}
    for age, (name, finished) in enumerate(
        {"a_0123456789ab_s7": False, "b_0123456789ab_s7_2": False, "c_0123456789ab_s7": True, "d_ff_s7": False}.items()
    ):
        made[name] = RunFolder(tmp_path / name)
        made[name].write_text(made[name].config, "")
        if finished:
            made[name].write_json(made[name].result, {})
        os.utime(tmp_path / name, (age, age))
    found = latest_unfinished(tmp_path, "0123456789ab", 7)
    assert found is not None
    assert found.path.name == "b_0123456789ab_s7_2"


def test_a_folder_that_was_only_just_made_is_no_run(tmp_path: Path):
    (tmp_path / "2026-01-01_demo_0123456789ab_s7").mkdir()
    assert latest_unfinished(tmp_path, "0123456789ab", 7) is None


def test_another_seed_is_another_run(tmp_path: Path):
    folder = RunFolder(tmp_path / "2026-01-01_demo_0123456789ab_s71")
    folder.write_text(folder.config, "")
    assert latest_unfinished(tmp_path, "0123456789ab", 7) is None
    assert latest_unfinished(tmp_path, "0123456789ab", 71) is not None

"""The doctor looks at what is really there."""

from pathlib import Path

from tiny import tiny_documents

from paramgolf.data.corpora import open_corpus
from paramgolf.data.prepare import prepare
from paramgolf.lab.doctor import EXTRAS, data_folders, disk, examine, extras


def test_every_problem_and_note_has_a_fix_or_none_is_needed(tmp_path: Path) -> None:
    for diagnosis in examine(tmp_path / "data", tmp_path / "runs"):
        assert diagnosis.found
        assert diagnosis.state != "problem" or diagnosis.fix


def test_data_is_found_and_damage_is_told(tmp_path: Path) -> None:
    assert next(data_folders(tmp_path)).state == "note"
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(tiny_documents(40, 1)):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    prepare(open_corpus(tmp_path / "texts"), tmp_path / "data" / "one", variant="byte260")
    (found,) = data_folders(tmp_path / "data")
    assert (found.state, found.found.split()[0]) == ("ok", "texts_byte260")
    (tmp_path / "data" / "one" / "manifest.json").write_text("{")
    (found,) = data_folders(tmp_path / "data")
    assert found.state == "problem"
    assert found.fix


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (found,) = disk(tmp_path / "not" / "yet")
    assert str(tmp_path) in found.found


def test_a_missing_extra_comes_with_its_command(monkeypatch) -> None:
    monkeypatch.setitem(EXTRAS, "no_such_module", ("nothing", "pip install nothing"))
    missing = {diagnosis.what: diagnosis for diagnosis in extras()}["no_such_module"]
    assert (missing.state, missing.fix) == ("note", "pip install nothing")

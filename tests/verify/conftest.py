"""A run that was trained, exported and scored once, for tests that change a copy of it."""

import shutil
from pathlib import Path

import pytest
from tiny import tiny_dataset, tiny_run, tiny_session

from paramgolf.config import to_toml
from paramgolf.lab.launch import data_record
from paramgolf.stages import execute


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    (root / "data").mkdir()
    dataset, run = tiny_dataset(root / "data"), tiny_run()
    session = tiny_session(run, dataset, root / "run")
    session.folder.write_text(session.folder.config, to_toml(run))
    session.folder.write_json(session.folder.data, data_record(run, dataset))
    execute(session)
    return root / "run"


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(finished_once, tmp_path / "run"))

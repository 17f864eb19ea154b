"""A run that was trained, exported and scored once, for tests that change a copy of it."""

import shutil
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from tiny import tiny_dataset, tiny_run, tiny_session

from paramgolf.config import to_toml
from paramgolf.data.tokenizers import SentencePieceTokenizer, train_sentencepiece
from paramgolf.lab.launch import data_record
from paramgolf.stages import execute


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Paragraphs of the language reference."""
    parts = (part for _, topic in sorted(topics.items()) for part in topic.split("\n\n"))
    return [part for part in parts if 100 < len(part) < 600][:120]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """A SentencePiece model of 400 pieces."""
    path = train_sentencepiece(texts, 400, tmp_path_factory.mktemp("sp") / "small.model")
    return SentencePieceTokenizer(path, threads=1)


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

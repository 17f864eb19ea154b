"""A run that was trained, exported and scored once, for tests that change a copy of it."""

import shutil
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from tiny import finished_run, tiny_dataset, tiny_run

from paramgolf.data.tokenizers import SentencePieceTokenizer, train_sentencepiece


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
    finished_run(tiny_run(), tiny_dataset(root / "data"), root / "run")
    return root / "run"


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(finished_once, tmp_path / "run"))

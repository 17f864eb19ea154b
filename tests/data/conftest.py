"""Text, tokenizers and shards that the tests of the data stage share."""

from collections.abc import Callable, Iterable
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from paramgolf.data.bytecount import CASEOPS
from paramgolf.data.caseops import apply_caseops
from paramgolf.data.shards import ShardWriter
from paramgolf.data.tokenizers import CaseOpsTokenizer, SentencePieceTokenizer, Tokenizer, train_sentencepiece

WriteSplit = Callable[..., tuple[Path, ...]]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """500 different real paragraphs: the language reference that comes with Python."""
    paragraphs = (part for _, topic in sorted(topics.items()) for part in topic.split("\n\n"))
    return list(dict.fromkeys(part for part in paragraphs if 200 < len(part) < 2000))[:500]


@pytest.fixture(scope="session")
def sp_model(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model of 512 pieces with the official settings."""
    return train_sentencepiece(texts, 512, tmp_path_factory.mktemp("tokenizer") / "small.model")


@pytest.fixture(scope="session")
def sp(sp_model: Path) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(sp_model, threads=1)


@pytest.fixture(scope="session")
def write_split() -> WriteSplit:
    """`write_split(folder, split, tokenizer, texts, shard_tokens=...)` writes BOS and pieces of each text."""

    def write(
        folder: Path, split: str, tokenizer: Tokenizer, texts: Iterable[str], *, shard_tokens: int = 5000
    ) -> tuple[Path, ...]:
        with ShardWriter(folder, "text", split, shard_tokens=shard_tokens) as writer:
            for ids in tokenizer.encode(list(texts)):
                writer.write(np.concatenate(([tokenizer.bos], ids)))
        return writer.paths

    return write


@pytest.fixture(scope="session")
def caseops_tokenizer(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> CaseOpsTokenizer:
    """A model whose ids 4 to 7 are the operators of the case transform, as in the official CaseOps vocabulary."""
    path = tmp_path_factory.mktemp("caseops") / "caseops.model"
    return CaseOpsTokenizer(train_sentencepiece(apply_caseops(texts), 512, path, operators=CASEOPS), threads=1)

"""What a run trains on and how it reads it."""

from dataclasses import dataclass

from paramgolf.data.slots import LoaderMaker


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Corpus, tokenizer and loader of a run. Where the files stand is no part of it."""

    corpus: str = "stdlib"
    """Name of a corpus (`stdlib`, `fineweb10B`); `--data PATH` puts another in its place."""
    variant: str = "sp1024"
    """Tokenizer: `sp` and its vocabulary, or `byte260`."""
    loader: LoaderMaker
    """How token shards become batches."""

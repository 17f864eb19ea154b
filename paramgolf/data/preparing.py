"""How a corpus is to be prepared, and how far a preparation is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from paramgolf.data.shards import SHARD_TOKENS


class Preparing(NamedTuple):
    """How far a preparation is."""

    phase: Literal["tokenizer", "encode", "verify"]
    documents: int
    text_bytes: int
    """UTF-8 bytes of the documents so far."""
    tokens: int
    """Tokens written by this process."""
    seconds: float
    """Since this phase began."""
    share: float
    """Of the corpus's files, as bytes read, in [0, 1]."""

    @property
    def tokens_per_second(self) -> float:
        """Over the whole phase."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None as long as nothing is known."""
        return self.seconds * (1 - self.share) / self.share if self.share else None


PrepareProgress = Callable[[Preparing], None]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How to prepare. What changes the result is part of the dataset's plan; `workers` changes nothing but time."""

    shard_tokens: int = SHARD_TOKENS
    val_documents: int | None = None
    """The first so many documents are validation. None: the corpus's own split, or `val_share` of it."""
    val_share: float = 0.05
    """For a corpus without a split, when no number is given."""
    limit: int | None = None
    """Stop after so many training documents."""
    tokenizer_documents: int | None = 200_000
    """How many training documents a new tokenizer learns from; the trainer holds them in memory. None: all."""
    official_trainer: bool = False
    """Leave documents of more than 4,192 bytes out of the tokenizer's training, as the official models did (D2)."""
    duplicates: Literal["drop", "error", "keep"] = "drop"
    """What to do with a training document that equals a validation document. They are counted in any case."""
    workers: int | None = None
    """Threads that encode. None: one a core."""
    overwrite: bool = False
    """Replace a dataset of the same name that was made from something else."""

    @property
    def described(self) -> str:
        """The settings that the result depends on."""
        return (
            f"{self.shard_tokens} {self.val_documents} {self.val_share} {self.limit} {self.tokenizer_documents}"
            f" {self.official_trainer} {self.duplicates == 'keep'}"
        )

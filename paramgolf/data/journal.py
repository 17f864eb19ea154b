"""The journal of a preparation: how far it got, so that a killed one continues instead of starting over."""

import json
from pathlib import Path
from typing import NamedTuple

from paramgolf.data.manifest import write_atomically
from paramgolf.data.shards import find_shards, open_shard
from paramgolf.errors import DataError

JOURNAL_NAME = ".prepare.json"


class Journal(NamedTuple):
    """The state after a complete training shard. Everything else is found by reading the documents again."""

    plan: str
    """Digest of what is being made; a journal of another plan is worth nothing."""
    tokenizer: str = ""
    """Fingerprint of the tokenizer once it is there."""
    shards: int = 0
    """Complete training shards."""
    place: int = 0
    """The document that the next shard begins in."""
    offset: int = 0
    """How many of its tokens lie in earlier shards."""


def write_journal(folder: Path, journal: Journal) -> None:
    """Write `journal` into the folder of the dataset, at once or not at all."""
    write_atomically(folder / JOURNAL_NAME, json.dumps(journal._asdict()) + "\n")


def read_journal(folder: Path, plan: str, shard_tokens: int) -> Journal:
    """The journal of `plan` in `folder`; a fresh one where there is none, or where its shards are not all there."""
    fresh = Journal(plan)
    try:
        journal = Journal(**json.loads((folder / JOURNAL_NAME).read_text()))
        whole = [open_shard(path).tokens == shard_tokens for path in find_shards(folder, "train")[: journal.shards]]
    except (OSError, ValueError, TypeError, DataError):
        return fresh
    if journal.plan != plan:
        return fresh
    return journal if len(whole) == journal.shards and all(whole) else fresh._replace(tokenizer=journal.tokenizer)


def has_journal(folder: Path) -> bool:
    """Whether `folder` is the unfinished work of some preparation."""
    return (folder / JOURNAL_NAME).exists()


def drop_journal(folder: Path) -> None:
    """Forget the journal: the dataset is complete."""
    (folder / JOURNAL_NAME).unlink(missing_ok=True)


def clear_shards(folder: Path, *, keep: int = 0) -> None:
    """Delete every shard and partial file in `folder` but the first `keep` training shards."""
    kept = set(find_shards(folder, "train")[:keep])
    for path in (*folder.glob("*.bin"), *folder.glob(".*.partial")):
        if path not in kept:
            path.unlink()

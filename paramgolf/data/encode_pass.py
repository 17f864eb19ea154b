"""One pass over the documents of a corpus: encode, drop what does not belong, write shards, keep count."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from paramgolf.data.corpora import Corpus
from paramgolf.data.documents import Document
from paramgolf.data.encoding import (
    Encoded,
    batched_documents,
    encode_documents,
    ordered_map,
    single_threaded,
    usable_cores,
)
from paramgolf.data.journal import Journal, write_journal
from paramgolf.data.preparing import PrepareOptions, PrepareProgress, Preparing
from paramgolf.data.shards import Ids, ShardWriter
from paramgolf.data.tokenizers import CaseOpsTokenizer, Tokenizer
from paramgolf.errors import DataError


@dataclass
class PassCounts:
    """What a pass has seen: documents kept and dropped, their text, their tokens."""

    val: int = 0
    train: int = 0
    empty: int = 0
    duplicate: int = 0
    repaired: int = 0
    text_bytes: int = 0
    val_tokens: int = 0
    train_tokens: int = 0
    """Those of shards that an earlier process completed included."""


@dataclass
class EncodePass:
    """Writes the shards of one dataset into `folder`, continuing where `journal` says."""

    folder: Path
    corpus: Corpus
    options: PrepareOptions
    journal: Journal
    progress: PrepareProgress
    counts: PassCounts = field(default_factory=PassCounts)
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=8))
    """Over split and hash of every document kept, in order."""
    val_hashes: set[bytes] = field(default_factory=set)
    """8 bytes for every validation document: they come first, and there are few."""

    def run(self, documents: Iterable[Document], tokenizer: Tokenizer) -> None:
        """Encode `documents`, validation first. Raises `DataError` when a split comes out empty."""
        began, told = time.monotonic(), 0.0
        size, first = max(self.corpus.size, 1), self.journal.shards
        work = partial(encode_documents, tokenizer=single_threaded(tokenizer), start=self.journal.place)
        writer = partial(ShardWriter, self.folder, self.corpus.name, shard_tokens=self.options.shard_tokens)
        with writer("val") as val, writer("val_bytes") as sidecar, writer("train", first=first) as train:
            for lot in ordered_map(work, batched_documents(documents), self.options.workers or usable_cores()):
                kept = [document for document in lot.documents if self.keep(document)]
                held_out = joined([document.ids for document in kept if document.split == "val"])
                val.write(held_out)
                if isinstance(tokenizer, CaseOpsTokenizer):
                    sidecar.write(tokenizer.sidecar(held_out))
                self.write_train(train, [document for document in kept if document.split == "train"])
                seconds = time.monotonic() - began
                if seconds > told + 0.5:
                    told = seconds
                    self.tell(val.tokens + train.tokens, seconds, min(lot.position / size, 1.0))
            if not self.counts.val or not self.counts.train:
                raise self.empty_split()
        self.counts.val_tokens = val.tokens
        self.counts.train_tokens = first * self.options.shard_tokens + train.tokens
        self.tell(val.tokens + train.tokens, time.monotonic() - began, 1.0)

    def tell(self, tokens: int, seconds: float, share: float) -> None:
        """Report progress."""
        documents = self.counts.val + self.counts.train
        self.progress(Preparing("encode", documents, self.counts.text_bytes, tokens, seconds, share))

    def keep(self, document: Encoded) -> bool:
        """Count one document; whether it belongs into the dataset."""
        counts = self.counts
        if not document.hash:
            counts.empty += 1
            return False
        if document.split == "val":
            self.val_hashes.add(document.hash)
            counts.val += 1
        else:
            equal = document.hash in self.val_hashes
            counts.duplicate += equal
            if equal and self.options.duplicates == "error":
                raise DataError(
                    "a training document equals a validation document",
                    evidence=f"document {document.place:,} of {self.corpus.name}, {document.bytes:,} bytes",
                    fix="remove it, or let the preparation drop such documents (--duplicates drop)",
                )
            if equal and self.options.duplicates == "drop":
                return False
            counts.train += 1
        counts.repaired += document.repaired
        counts.text_bytes += document.bytes
        self.digest.update(document.split.encode() + document.hash)
        return True

    def write_train(self, writer: ShardWriter, documents: list[Encoded]) -> None:
        """Write training documents; after every shard completed, note where the next one begins."""
        documents = [document for document in documents if document.ids.size]
        if not documents:
            return
        resumed = self.journal if documents[0].place == self.journal.place else None
        skip = resumed.offset if resumed else 0
        before, complete = writer.tokens, len(writer.paths)
        writer.write(joined([document.ids for document in documents])[skip:])
        if len(writer.paths) == complete:
            return
        ends = np.cumsum([document.ids.size for document in documents])
        edge = len(writer.paths) * writer.shard_tokens - before + skip
        index = int(np.searchsorted(ends, edge, side="right"))
        place, offset = documents[-1].place + 1, 0
        if index < len(documents):
            place, offset = documents[index].place, edge - int(ends[index - 1] if index else 0)
        shards = writer.first + len(writer.paths)
        write_journal(self.folder, self.journal._replace(shards=shards, place=place, offset=offset))

    def empty_split(self) -> DataError:
        """The error for a corpus that leaves a split without documents."""
        counts = self.counts
        return DataError(
            f"corpus {self.corpus.name} leaves no documents for {'training' if counts.val else 'validation'}",
            evidence=f"{counts.val:,} validation and {counts.train:,} training documents, {counts.empty:,} empty,"
            f" {counts.duplicate:,} equal to a validation document",
            fix="give more text, or fewer validation documents (--val-documents)",
        )


def joined(ids: list[Ids]) -> Ids:
    """`ids` one after the other."""
    return np.concatenate(ids) if ids else np.empty(0, np.uint16)

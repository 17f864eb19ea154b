"""Documents to framed token ids, on every core, in the order they came in."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from paramgolf.data.documents import Document, SplitName, clean_document, document_hash
from paramgolf.data.shards import Ids
from paramgolf.data.tokenizers import SentencePieceTokenizer, Tokenizer

BATCH_CHARACTERS = 1 << 20
BATCH_DOCUMENTS = 1024

Given = TypeVar("Given")
Made = TypeVar("Made")


class NumberedDocuments(NamedTuple):
    """Consecutive documents of a corpus, about a million characters: what one core works on at a time."""

    first: int
    """Place of the first of them in the corpus."""
    documents: list[Document]


class Encoded(NamedTuple):
    """What is kept of one document."""

    place: int
    split: SplitName
    ids: Ids
    """BOS and the pieces (D1); empty for an empty document or one that was not to be encoded."""
    hash: bytes
    """8 bytes of the cleaned text; empty for an empty document."""
    bytes: int
    """UTF-8 length of the cleaned text."""
    repaired: bool


class EncodedDocuments(NamedTuple):
    """What is kept of `NumberedDocuments`."""

    documents: list[Encoded]
    position: int
    """Bytes of the corpus's files read so far."""


def batched_documents(documents: Iterable[Document]) -> Iterator[NumberedDocuments]:
    """`documents` in lots of about `BATCH_CHARACTERS`, at most `BATCH_DOCUMENTS`; a long one is a lot by itself."""
    held: list[Document] = []
    characters = first = 0
    for document in documents:
        held.append(document)
        characters += len(document.text)
        if characters >= BATCH_CHARACTERS or len(held) == BATCH_DOCUMENTS:
            yield NumberedDocuments(first, held)
            first += len(held)
            held, characters = [], 0
    if held:
        yield NumberedDocuments(first, held)


def encode_documents(lot: NumberedDocuments, tokenizer: Tokenizer, *, start: int = 0) -> EncodedDocuments:
    """Clean, hash and encode one lot. Training documents before the place `start` are only hashed."""
    cleaned = [clean_document(document.text) for document in lot.documents]
    wanted = [
        index
        for index, (document, clean) in enumerate(zip(lot.documents, cleaned, strict=True))
        if clean.text and (document.split == "val" or lot.first + index >= start)
    ]
    pieces = tokenizer.encode([cleaned[index].text for index in wanted]) if wanted else []
    bos = np.array([tokenizer.bos], np.uint16)
    ids = {index: np.concatenate((bos, piece)) for index, piece in zip(wanted, pieces, strict=True)}
    nothing = np.empty(0, np.uint16)
    encoded = [
        Encoded(
            lot.first + index,
            document.split or "train",
            ids.get(index, nothing),
            document_hash(clean.text) if clean.text else b"",
            len(clean.text.encode()),
            clean.repaired,
        )
        for index, (document, clean) in enumerate(zip(lot.documents, cleaned, strict=True))
    ]
    return EncodedDocuments(encoded, lot.documents[-1].position)


def ordered_map(function: Callable[[Given], Made], items: Iterable[Given], workers: int) -> Iterator[Made]:
    """`map(function, items)` on `workers` threads, results in the order of `items`, at most 2 * workers + 1 in flight.

    Threads and not processes: SentencePiece, hashing and decompression let go of the interpreter lock, and nothing
    has to be copied between processes (benchmarks/prepare_throughput.py measures both).
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="prepare") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def single_threaded(tokenizer: Tokenizer) -> Tokenizer:
    """`tokenizer` without threads of its own, for use on many threads at once."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        return type(tokenizer)(tokenizer.path, tokenizer.name, threads=1)
    return tokenizer


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

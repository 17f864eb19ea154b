"""Tokenizers: SentencePiece models and plain bytes (catalogue D2)."""

import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from paramgolf.batch import BOS
from paramgolf.data.bytecount import CASEOPS, SPACE_PIECE, ByteTable, byte_table, pure_byte_table
from paramgolf.data.caseops import apply_caseops, sidecar_counts, undo_caseops
from paramgolf.data.shards import Ids
from paramgolf.errors import DataError, UsageError

BYTE_SPECIALS = 4
"""Ids 0 to 3 of byte260: pad, bos, eos, unk, as in the SentencePiece models."""
BYTE_VOCAB = 260

SURROGATES = re.compile("[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text that a tokenizer sees: NUL becomes a space, the ends are stripped (D2).

    Surrogate pairs are joined; lone surrogates, which no UTF-8 can hold, become U+FFFD. A document
    may become empty, and then encodes to no tokens.
    """
    if SURROGATES.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", " ").strip()


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Literal["sentencepiece", "bytes"]: ...
    @property
    def vocab(self) -> int:
        """How many ids there are, at most 65,536."""

    @property
    def bos(self) -> int:
        """The id that opens a document; `BOS` in every vocabulary."""

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that identify the definition."""

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, after `clean_text`, without BOS. No text is refused; an empty one has no ids."""
        ...

    def decode(self, ids: NDArray[np.integer]) -> str:
        """The text of 1-d `ids`. Bytes that are no UTF-8 become U+FFFD; control ids have no text."""
        ...

    def byte_table(self) -> ByteTable:
        """The bytes that each token stands for."""
        ...


class SentencePieceTokenizer:
    """A SentencePiece model file, such as the official ones.

    Raises `DataError` when the file is missing or not a model, has more than 65,536 pieces, opens
    documents with another id than `BOS`, or has no stand-alone space piece (issue #897).
    """

    kind: Literal["sentencepiece"] = "sentencepiece"
    bos = BOS

    def __init__(self, path: str | Path, name: str | None = None, *, threads: int = -1) -> None:
        self.path = Path(path)
        self.name = name or self.path.stem
        self.threads = threads
        """Threads of one `encode`; -1: as many as there are cores. The ids do not depend on it."""
        model = read_model(self.path)
        self.fingerprint = hashlib.sha256(model).hexdigest()[:12]
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab = int(self.processor.vocab_size())
        if self.vocab > 65_536:
            raise bad_model(self.path, f"{self.vocab:,} pieces; a shard stores ids of 16 bits, so 65,536 at most")
        if self.processor.bos_id() != BOS:
            raise bad_model(self.path, f"it opens documents with id {self.processor.bos_id()}, not {BOS}")
        self.table = byte_table(self.processor, str(self.path))

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """See `Tokenizer.encode`. NFKC and white space are normalized by the model itself."""
        return self.pieces([clean_text(text) for text in texts])

    def pieces(self, clean: Sequence[str]) -> list[Ids]:
        """The ids of each of texts that are cleaned."""
        # Arrays spare a Python integer per token; older versions of the library have lists only.
        kind: Any = "numpy" if hasattr(self.processor, "EncodeAsNumpy") else int
        return [
            np.asarray(ids).astype(np.uint16)
            for ids in self.processor.encode(clean, out_type=kind, num_threads=self.threads)
        ]

    def decode(self, ids: NDArray[np.integer]) -> str:
        """See `Tokenizer.decode`. The unknown id decodes to the model's sign for it, U+2047."""
        return str(self.processor.decode(ids.tolist()))

    def byte_table(self) -> ByteTable:
        """See `Tokenizer.byte_table`."""
        return self.table


class CaseOpsTokenizer(SentencePieceTokenizer):
    """A SentencePiece model with the operators of the case transform (D8): it sees and gives back transformed text."""

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """See `Tokenizer.encode`."""
        return self.pieces(apply_caseops([clean_text(text) for text in texts]))

    def decode(self, ids: NDArray[np.integer]) -> str:
        """See `Tokenizer.decode`: the original text, its case restored."""
        return undo_caseops(super().decode(ids))

    def sidecar(self, ids: Ids) -> Ids:
        """(N,) bytes of the original text behind each of `ids`, whole documents with their BOS: a byte sidecar."""
        return sidecar_counts(ids, self.table, self.escape)

    @property
    def escape(self) -> int:
        """The id of ESC."""
        return int(self.processor.piece_to_id(CASEOPS[-1]))


class ByteTokenizer:
    """byte260: ids 0 to 3 are special, byte b is the id 4 + b."""

    name = "byte260"
    kind: Literal["bytes"] = "bytes"
    vocab = BYTE_VOCAB
    bos = BOS
    fingerprint = hashlib.sha256(b"byte260: pad bos eos unk, then byte b is id 4 + b").hexdigest()[:12]

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """See `Tokenizer.encode`."""
        return [
            np.frombuffer(clean_text(text).encode(), np.uint8).astype(np.uint16) + np.uint16(BYTE_SPECIALS)
            for text in texts
        ]

    def decode(self, ids: NDArray[np.integer]) -> str:
        """See `Tokenizer.decode`."""
        return (ids[ids >= BYTE_SPECIALS] - BYTE_SPECIALS).astype(np.uint8).tobytes().decode("utf-8", "replace")

    def byte_table(self) -> ByteTable:
        """See `Tokenizer.byte_table`."""
        return pure_byte_table(BYTE_VOCAB, BYTE_SPECIALS)


def load_tokenizer(spec: str | Path) -> Tokenizer:
    """The tokenizer `spec`: "byte260" or the path of a SentencePiece `.model`.

    Raises `UsageError` for any other word, `DataError` for a file that is not a usable model.
    """
    if str(spec) == ByteTokenizer.name:
        return ByteTokenizer()
    if Path(spec).suffix != ".model":
        raise UsageError(
            f"no tokenizer is called {str(spec)!r}",
            evidence="a tokenizer is 'byte260' or the path of a SentencePiece file that ends in .model",
            fix="paramgolf data prepare --help",
        )
    found = SentencePieceTokenizer(spec)
    return CaseOpsTokenizer(spec) if int(found.table.is_caseop.sum()) == len(CASEOPS) else found


def train_sentencepiece(
    texts: Iterable[str],
    vocab: int,
    out: Path,
    *,
    byte_fallback: bool = True,
    max_document_bytes: int = 4192,
    operators: str = "",
) -> Path:
    """Train a SentencePiece model of `vocab` pieces with the official settings (D2) and write it to `out`.

    The same texts give the same file. The library's trainer leaves out documents of more than
    `max_document_bytes` bytes; 4192 is its own default and that of the official models. Each of the characters
    `operators` becomes a piece of its own, from id 4 on: with `CASEOPS`, give transformed texts. Raises
    `DataError` when there is too little text for the vocabulary, or no space in it.
    """
    if not BYTE_SPECIALS < vocab <= 65_536:
        raise UsageError(f"a vocabulary of {vocab:,} is not in [{BYTE_SPECIALS + 1}, 65536]")
    seen = SeenTexts(texts, max_document_bytes)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(seen),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab,
            character_coverage=0.999,
            byte_fallback=byte_fallback,
            split_digits=True,
            normalization_rule_name="nmt_nfkc",
            add_dummy_prefix=False,
            hard_vocab_limit=False,
            pad_id=0,
            bos_id=BOS,
            eos_id=2,
            unk_id=3,
            user_defined_symbols=list(operators),
            max_sentence_length=max_document_bytes,
            minloglevel=3,  # the trainer's account of its progress; failures come back as exceptions
        )
    except RuntimeError as error:
        raise seen.too_little(vocab, str(error)) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    if processor.piece_to_id(SPACE_PIECE) == processor.unk_id():
        raise seen.too_little(vocab, "no text contains a space, so the vocabulary has no piece for it (issue #897)")
    if processor.vocab_size() < vocab:
        raise seen.too_little(vocab, f"the trainer found only {processor.vocab_size():,} pieces")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_bytes(model.getvalue())
    os.replace(partial, out)
    return out


class SeenTexts:
    """Cleans texts on their way to the trainer and counts them, for the error when they are too few."""

    def __init__(self, texts: Iterable[str], limit: int) -> None:
        self.texts = texts
        self.limit = limit
        self.documents = 0
        self.bytes = 0
        self.too_long = 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            clean = clean_text(text)
            if not clean:
                continue
            size = len(clean.encode())
            self.documents += 1
            self.bytes += size
            self.too_long += size > self.limit
            yield clean

    def too_little(self, vocab: int, why: str) -> DataError:
        """The error for a vocabulary that these texts cannot give."""
        return DataError(
            f"cannot train a vocabulary of {vocab:,} pieces on this text",
            evidence=f"{self.documents:,} documents, {self.bytes:,} bytes; {self.too_long:,} documents are longer than"
            f" {self.limit:,} bytes, which the trainer leaves out; it says: {' '.join(why.split())}",
            fix="use more text, a smaller vocabulary, or byte260",
        )


def read_model(path: Path) -> bytes:
    """The bytes of a file that SentencePiece accepts as a model. Raises `DataError`."""
    try:
        model = path.read_bytes()
        sentencepiece.SentencePieceProcessor(model_proto=model)
    except OSError as error:
        raise bad_model(path, error.strerror or str(error)) from error
    except RuntimeError as error:
        raise bad_model(path, f"{path.stat().st_size:,} bytes that are not a SentencePiece model") from error
    return model


def bad_model(path: Path, evidence: str) -> DataError:
    """The error for the tokenizer file `path`."""
    return DataError(
        f"{path.name} is not a tokenizer that can be used",
        evidence=f"{path}: {evidence}",
        fix="paramgolf data fetch --help, to get the official models",
    )

"""Variants: how the command line names a tokenizer (`byte260`, `sp1024`, `sp1024=some.model`, `some.model`)."""

import hashlib
import io
import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from paramgolf.data.documents import Document, cut_pieces
from paramgolf.data.manifest import TokenizerEntry, bigram_vocab
from paramgolf.data.tokenizers import (
    BYTE_SPECIALS,
    ByteTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
    train_sentencepiece,
)
from paramgolf.errors import DataError, UsageError


class Variant(NamedTuple):
    """A tokenizer that exists or is to be trained."""

    name: str
    """What the data set is called after: `byte260`, `sp1024`."""
    vocab: int
    model: Path | None = None
    """The model file, where one is given."""

    @property
    def digest(self) -> str:
        """What tells this variant from another of the same name."""
        content = self.model.read_bytes() if self.model else b""
        return f"{self.name} {hashlib.sha256(content).hexdigest()[:12] if content else ''}"


def parse_variant(text: str) -> Variant:
    """The variant that `text` names: byte260, spNNNN, spNNNN=PATH, NNNN=PATH or the path of a .model.

    Raises `UsageError` for anything else, `DataError` for a model that cannot be used or has another vocabulary.
    """
    if text == ByteTokenizer.name:
        return Variant(text, ByteTokenizer.vocab)
    match = re.fullmatch(r"(?:(sp)?(\d+)=)?(.*\.model)", text)
    if match:
        model = Path(match[3])
        vocab = load_tokenizer(model).vocab
        if match[2] and int(match[2]) != vocab:
            raise DataError(
                f"{model.name} does not have the vocabulary that was asked for",
                evidence=f"{model}: {vocab:,} pieces, asked for {int(match[2]):,}",
                fix=f"sp{vocab}={model}",
            )
        return Variant(f"sp{vocab}", vocab, model)
    match = re.fullmatch(r"sp(\d+)", text)
    if not match or not BYTE_SPECIALS < int(match[1]) <= 65_536:
        raise UsageError(
            f"{text!r} is not a tokenizer variant",
            evidence="a variant is byte260, sp and a vocabulary of at most 65536 such as sp1024, or a .model file",
            fix="paramgolf data prepare --help",
        )
    return Variant(text, int(match[1]))


def install_tokenizer(
    variant: Variant, texts: Iterator[str], folder: Path, *, corpus: str, official: bool = False
) -> Tokenizer:
    """The tokenizer of `variant` as a file in `folder`: copied there, or trained on `texts` as `<corpus>_<vocab>_bpe`.

    The trainer leaves long documents out. `official` lets it (D2); otherwise they reach it in pieces.
    """
    if variant.name == ByteTokenizer.name:
        return ByteTokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    if variant.model is None:
        out = folder / f"{corpus}_{variant.vocab}_bpe.model"
        train_sentencepiece(texts if official else short_pieces(texts), variant.vocab, out)
        return load_tokenizer(out)
    given = load_tokenizer(variant.model)
    out = folder / variant.model.name
    if out.exists() and out.read_bytes() != variant.model.read_bytes():
        out = folder / f"{variant.model.stem}_{given.fingerprint}.model"
    if not out.exists():
        partial = out.with_name(f".{out.name}.partial")
        shutil.copyfile(variant.model, partial)
        partial.replace(out)
    return load_tokenizer(out)


def training_texts(documents: Iterator[Document], count: int | None) -> Iterator[str]:
    """The first `count` training documents (None: all), for the trainer of a tokenizer."""
    return islice((document.text for document in documents if document.split == "train"), count)


def short_pieces(texts: Iterator[str]) -> Iterator[str]:
    """`texts` cut so that none is over the trainer's 4,192 bytes, whatever its script."""
    for text in texts:
        yield from cut_pieces(io.StringIO(text).read, 1024)


def tokenizer_entry(tokenizer: Tokenizer, variant: Variant) -> TokenizerEntry:
    """What the manifest says of `tokenizer`."""
    model = tokenizer.path if isinstance(tokenizer, SentencePieceTokenizer) else None
    return TokenizerEntry(
        name=tokenizer.name,
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab,
        bos_id=tokenizer.bos,
        eos_id=2,
        recommended_bigram_vocab_size=bigram_vocab(tokenizer.vocab),
        source_spec={"name": variant.name, "vocab_size": variant.vocab, "reused": variant.model is not None},
        model_path=f"tokenizers/{model.name}" if model else None,
        fingerprint=tokenizer.fingerprint,
    )

"""Variants: how the command line names a tokenizer (`byte260`, `sp1024`, `sp1024=some.model`, `some.model`).

A vocabulary with the operators of the case transform (D8) is `sp8192_lossless_caps_caseops_v1_reserved`, as published.
"""

import hashlib
import io
import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from paramgolf.data.bytecount import CASEOPS
from paramgolf.data.caseops import CASEOPS_SUFFIX, apply_caseops
from paramgolf.data.documents import Document, cut_pieces
from paramgolf.data.manifest import TokenizerEntry, bigram_vocab
from paramgolf.data.tokenizers import (
    BYTE_SPECIALS,
    ByteTokenizer,
    CaseOpsTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    clean_text,
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
    def caseops(self) -> bool:
        """Whether texts go through the case transform first."""
        return self.name.endswith(CASEOPS_SUFFIX)

    @property
    def digest(self) -> str:
        """What tells this variant from another of the same name."""
        content = self.model.read_bytes() if self.model else b""
        return f"{self.name} {hashlib.sha256(content).hexdigest()[:12] if content else ''}"


def parse_variant(text: str) -> Variant:
    """The variant that `text` names: byte260, spNNNN, spNNNN=PATH, NNNN=PATH or the path of a .model.

    spNNNN may end in `CASEOPS_SUFFIX`; a model with operators is such a variant whatever it is called. Raises
    `UsageError` for anything else, `DataError` for a model that cannot be used or has another vocabulary.
    """
    if text == ByteTokenizer.name:
        return Variant(text, ByteTokenizer.vocab)
    match = re.fullmatch(rf"(?:(?:sp)?(\d+)({CASEOPS_SUFFIX})?=)?(.*\.model)", text)
    if match:
        return model_variant(Path(match[3]), int(match[1] or 0), caseops=bool(match[2]))
    match = re.fullmatch(rf"sp(\d+)({CASEOPS_SUFFIX})?", text)
    if not match or not BYTE_SPECIALS < int(match[1]) <= 65_536:
        raise UsageError(
            f"{text!r} is not a tokenizer variant",
            evidence="a variant is byte260, sp and a vocabulary of at most 65536 such as sp1024, or a .model file;"
            f" sp8192{CASEOPS_SUFFIX} has the case transform",
            fix="paramgolf data prepare --help",
        )
    return Variant(text, int(match[1]))


def model_variant(model: Path, vocab: int, *, caseops: bool) -> Variant:
    """The variant of the model in a file. Raises `DataError` unless it has `vocab` pieces (0: any) and operators."""
    found = load_tokenizer(model)
    operators = isinstance(found, CaseOpsTokenizer)
    name = f"sp{found.vocab}{CASEOPS_SUFFIX if operators else ''}"
    if vocab not in (0, found.vocab) or caseops > operators:
        has = "with" if operators else "without"
        raise DataError(
            f"{model.name} does not have the vocabulary that was asked for",
            evidence=f"{model}: {found.vocab:,} pieces, {has} operators of the case transform;"
            f" asked for {vocab:,}{' with them' if caseops else ''}",
            fix=f"{name}={model}",
        )
    return Variant(name, found.vocab, model)


def trained_model(variant: Variant, corpus: str) -> str:
    """The file name of a vocabulary trained on `corpus`."""
    return f"{corpus}_{variant.vocab}_bpe{CASEOPS_SUFFIX if variant.caseops else ''}.model"


def install_tokenizer(
    variant: Variant, texts: Iterator[str], folder: Path, *, corpus: str, official: bool = False
) -> Tokenizer:
    """The tokenizer of `variant` as a file in `folder`: copied there, or trained on `texts` (see `trained_model`).

    The trainer leaves long documents out. `official` lets it (D2); otherwise they reach it in pieces.
    """
    if variant.name == ByteTokenizer.name:
        return ByteTokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    if variant.model is None:
        out = folder / trained_model(variant, corpus)
        seen = texts if official else short_pieces(texts)
        if variant.caseops:
            seen = (transformed for text in seen for transformed in apply_caseops([clean_text(text)]))
        train_sentencepiece(seen, variant.vocab, out, operators=CASEOPS if variant.caseops else "")
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

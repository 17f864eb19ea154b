"""Corpora: named or found collections of documents, read as a stream with the validation documents first."""

import hashlib
import os
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from paramgolf.data.documents import Document, SplitName, share_of
from paramgolf.data.readers import (
    COMPRESSED,
    RECORD_SUFFIXES,
    TEXT_SUFFIXES,
    TextSource,
    read_source,
    source_kind,
)
from paramgolf.errors import DataError, UsageError
from paramgolf.registry import nearest

VAL_NAME = re.compile(r"val(id|idation)?(?![a-z])", re.IGNORECASE)
TRAIN_NAME = re.compile(r"train(ing)?(?![a-z])", re.IGNORECASE)

OFFICIAL_DOCUMENTS = "docs_selected"
"""Stem of the frozen selection file of the challenge (D4); its corpus is called `fineweb`."""
OFFICIAL_VAL_DOCUMENTS = 50_000
"""The first so many documents of the frozen selection are the validation split (D1)."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Files of documents in a fixed order."""

    name: str
    """Lower case letters, digits and underscores: names of data sets and shards begin with it."""
    sources: tuple[TextSource, ...]
    """Those of validation first, if the corpus has a split of its own."""
    column: str = "text"
    """Field of the text in JSON lines and Parquet."""
    piece: int = 65_536
    """Characters after which a text file is cut into several documents."""

    @property
    def size(self) -> int:
        """Bytes of all files as they lie on disk."""
        return sum(source.path.stat().st_size for source in self.sources)

    @property
    def has_split(self) -> bool:
        """Whether the files themselves say what is validation."""
        return any(source.split for source in self.sources)

    @property
    def is_official(self) -> bool:
        """Whether this is the frozen selection of the challenge."""
        return [source.path.name.split(".")[0] for source in self.sources] == [OFFICIAL_DOCUMENTS]

    @property
    def identity(self) -> str:
        """12 hexadecimal digits over the names, sizes and times of the files and how they are read."""
        digest = hashlib.sha256(f"{self.name} {self.column} {self.piece}".encode())
        for source in self.sources:
            stat = source.path.stat()
            digest.update(f"\n{source.name} {source.split} {stat.st_size} {stat.st_mtime_ns}".encode())
        return digest.hexdigest()[:12]

    def documents(self) -> Iterator[Document]:
        """Every document in order, none held longer than it is looked at. Raises `DataError` for a damaged file."""
        before = 0
        for source in self.sources:
            for document in read_source(source, column=self.column, piece=self.piece):
                yield document._replace(position=before + document.position)
            before += source.path.stat().st_size


def validation_count(corpus: Corpus, *, val_documents: int | None = None, val_share: float = 0.05) -> int | None:
    """How many documents from the first on are validation; None where the corpus has a split of its own.

    `val_documents` if given, else 50,000 of the challenge's own documents (D1) and `val_share` of others, which takes a
    pass to count them. Raises `UsageError` when a number is asked of a corpus that has its own split.
    """
    if corpus.is_official and val_documents is None:
        return OFFICIAL_VAL_DOCUMENTS
    if not corpus.has_split:
        return val_documents or max(1, round(val_share * sum(1 for _ in corpus.documents())))
    if val_documents is None:
        return None
    raise UsageError(
        f"corpus {corpus.name} has a split of its own, so no number of validation documents can be chosen",
        evidence=f"validation files: {', '.join(s.name for s in corpus.sources if s.split == 'val')[:200]}",
        fix="leave the number out, or give one file instead of the folder",
    )


def require_official_split(corpus: Corpus, val_documents: int | None) -> None:
    """Raise `UsageError` for another number of validation documents than the challenge's own documents have.

    One script in use took 10,000, and its models were trained on the other 40,000 (issue #2127).
    """
    if corpus.is_official and val_documents not in (None, OFFICIAL_VAL_DOCUMENTS):
        raise UsageError(
            f"the challenge validates on the first {OFFICIAL_VAL_DOCUMENTS:,} documents, not {val_documents:,}",
            evidence=f"{corpus.sources[0].path}; the others would be trained on (issue #2127)",
            fix="leave --val-documents out",
        )


def split_documents(corpus: Corpus, val_count: int | None) -> Iterator[Document]:
    """The documents of `corpus`, each marked as validation or training, validation first (see `validation_count`)."""
    return corpus.documents() if val_count is None else first_as_validation(corpus.documents(), val_count)


def first_as_validation(documents: Iterator[Document], val_documents: int) -> Iterator[Document]:
    """`documents`, the first `val_documents` of them marked as validation, the others as training."""
    for index, document in enumerate(documents):
        yield document._replace(split="val" if index < val_documents else "train")


def open_corpus(spec: str | Path, *, column: str = "text") -> Corpus:
    """The corpus `spec`: a name in `CORPORA`, a file, or a folder searched recursively.

    Read are text (.txt .md .rst .py), JSON lines and Parquet, the first two also as .gz, .xz or .zst. A folder with
    any JSON lines or Parquet gives those alone. Files or folders called `val…` beside `train…` are the split, and then
    no other file counts. Record files keep the order of their names; text files get a fixed random order, so that the
    first ones are a fair sample. Raises `UsageError` for an unknown name, `DataError` for a folder without documents.
    """
    if str(spec) in CORPORA:
        return CORPORA[str(spec)]()
    path = Path(spec)
    if not path.exists():
        raise UsageError(
            f"{str(spec)!r} is neither a corpus nor a file or folder{nearest(str(spec), CORPORA)}",
            evidence=f"corpora: {', '.join(CORPORA)}",
            fix="paramgolf data fetch --help" if "fineweb" in str(spec) else "paramgolf data prepare --help",
        )
    files = [path] if path.is_file() else list(walk_files(path))
    sources = [
        TextSource(file, file.relative_to(path).as_posix() if file != path else file.name, None)
        for file in files
        if source_kind(file)
    ]
    if not sources:
        raise DataError(
            f"{path} holds no documents",
            evidence=f"{len(files):,} files, none ending in {', '.join(TEXT_SUFFIXES + RECORD_SUFFIXES)}"
            f" (or that and {', '.join(COMPRESSED)})",
            fix="give a file or folder of text, JSON lines or Parquet",
        )
    records = [source for source in sources if source_kind(source.path) in RECORD_SUFFIXES]
    ordered = sorted(records) if records else sorted(sources, key=lambda source: (share_of(source.name), source.name))
    return Corpus(name=corpus_name(path), sources=named_split(ordered), column=column)


def walk_files(folder: Path) -> Iterator[Path]:
    """The files below `folder`, without hidden ones and byte-compiled Python, in order of their names."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def named_split(sources: list[TextSource]) -> tuple[TextSource, ...]:
    """`sources` with the split that their names declare, if there are both `val…` and `train…`."""
    val = [source for source in sources if any(VAL_NAME.match(part) for part in source.name.split("/"))]
    train = [source for source in sources if any(TRAIN_NAME.match(part) for part in source.name.split("/"))]
    both = {source.name for source in val} & {source.name for source in train}
    if both or not val or not train:
        return tuple(sources)
    return (*(s._replace(split="val") for s in val), *(s._replace(split="train") for s in train))


def corpus_name(path: Path) -> str:
    """What a corpus at `path` is called."""
    stem = path.resolve().name.split(".")[0] if path.is_file() else path.resolve().name
    if stem == OFFICIAL_DOCUMENTS:
        return "fineweb"
    words = [word for word in re.split(r"[^a-z0-9]+", stem.lower()) if word]
    # Shards are told apart by `_train_`, `_val_` and `_bytes_` in their names, so a corpus may not bring these along.
    return ("" if {"train", "val", "bytes"} & set(words) else "_").join(words) or "text"


def stdlib() -> Corpus:
    """Source and documentation text of the running Python's standard library: about 10 MB on every machine.

    Left out: installed packages, tests (not installed everywhere), and `encodings`, which is tables. A twentieth of
    the files, chosen by a hash of their names, is validation; documents are at most 8,192 characters, cut at
    definitions. The reference behind `help()` is in it, a document a topic.
    """
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings"}
    names = [path.relative_to(root) for path in walk_files(root) if path.suffix == ".py"]
    names = [name for name in names if skipped.isdisjoint(name.parts) and not name.parts[0].startswith("_sysconfig")]
    if not names:
        raise DataError(
            "this Python comes without the source of its standard library",
            evidence=f"no .py file below {root}",
            fix="give a folder of text instead: --data PATH",
        )
    shares = sorted((share_of(name.as_posix()), name) for name in names)
    splits: tuple[SplitName, ...] = ("val", "train")
    chosen = {split: [name for share, name in shares if (share < 0.05) == (split == "val")] for split in splits}
    sources = chain.from_iterable(
        (TextSource(root / name, name.as_posix(), split) for name in chosen[split]) for split in splits
    )
    return Corpus(name="stdlib", sources=tuple(sources), piece=8192)


CORPORA: dict[str, Callable[[], Corpus]] = {"stdlib": stdlib}
"""Corpora with a name. A corpus is a function that says which files make it up."""

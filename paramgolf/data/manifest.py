"""The manifest of a folder of tokenized data (D3), and where in the folder things lie.

OUT/manifest.json
OUT/datasets/<name>/<prefix>_train_000000.bin, <prefix>_val_000000.bin, ...
OUT/tokenizers/*
"""

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Self, get_args, get_origin, get_type_hints

from paramgolf.errors import DataError

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class ManifestPart:
    """An object of the manifest: known fields typed, unknown ones kept and written back."""

    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of other people's exports that nothing here asks for."""

    @classmethod
    def from_json(cls, value: Any, where: str) -> Self:
        """Read one object. Raises `DataError` naming the field that is missing or of another type."""
        if not isinstance(value, dict):
            raise bad_manifest(where, f"is {type(value).__name__}, an object is wanted")
        hints = get_type_hints(cls)
        known: dict[str, Any] = {}
        for item in fields(cls):
            if item.name in value and item.name != "extra":
                known[item.name] = manifest_field(hints[item.name], value[item.name], f"{where}.{item.name}")
            elif item.default is MISSING and item.default_factory is MISSING:
                raise bad_manifest(f"{where}.{item.name}", "is missing")
        return cls(**known, extra={name: inner for name, inner in value.items() if name not in known})

    def to_json(self) -> dict[str, Any]:
        """The object as JSON values; fields that are None are left out."""
        known = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "extra"}
        return {name: plain_json(value) for name, value in known.items() if value is not None} | dict(self.extra)


@dataclass(frozen=True, kw_only=True)
class DocsMeta(ManifestPart):
    """Where the documents came from."""

    remote_repo_id: str | None = None
    remote_root: str | None = None
    num_docs: int | None = None
    docs_sha256: str | None = None
    source_manifest: Any = None
    source_sidecar: Any = None
    corpus: str | None = None
    """Ours: name of the corpus."""
    fingerprint: str | None = None
    """Ours: 16 hexadecimal digits over the hashes of all documents in order."""


@dataclass(frozen=True, kw_only=True)
class TokenizerEntry(ManifestPart):
    """One tokenizer of the folder."""

    name: str
    kind: str
    """`sentencepiece_bpe` or `byte` in the official exports; ours are those of `Tokenizer.kind`."""
    vocab_size: int
    bos_id: int | None = None
    eos_id: int | None = None
    recommended_bigram_vocab_size: int | None = None
    source_spec: Any = None
    model_path: str | None = None
    """Relative to the folder (SentencePiece)."""
    vocab_path: str | None = None
    path: str | None = None
    """Relative to the folder (bytes)."""
    fingerprint: str | None = None
    """Ours: `Tokenizer.fingerprint`."""


@dataclass(frozen=True, kw_only=True)
class DatasetStats(ManifestPart):
    """Counts of one dataset. The last four are ours."""

    docs_total: int | None = None
    docs_val: int | None = None
    docs_train: int | None = None
    files_total: int | None = None
    files_val: int | None = None
    files_train: int | None = None
    tokens_total: int | None = None
    tokens_val: int | None = None
    tokens_train: int | None = None
    text_bytes: int | None = None
    """UTF-8 bytes of all cleaned documents."""
    docs_empty: int | None = None
    """Documents dropped because nothing was left after cleaning."""
    docs_duplicate: int | None = None
    """Training documents that equal a validation document; dropped unless asked otherwise."""
    docs_repaired: int | None = None
    """Documents in which invalid UTF-8 was replaced."""


@dataclass(frozen=True, kw_only=True)
class ShardEntry(ManifestPart):
    """Ours: one shard file and its SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class DatasetEntry(ManifestPart):
    """One tokenized dataset of the folder."""

    name: str
    tokenizer_name: str
    tokenizer_kind: str | None = None
    path: str | None = None
    train_glob: str | None = None
    val_glob: str | None = None
    val_bytes_glob: str | None = None
    text_transform: str | None = None
    vocab_size: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    recommended_bigram_vocab_size: int | None = None
    stats: DatasetStats = field(default_factory=DatasetStats)
    shards: tuple[ShardEntry, ...] = ()
    """Ours: every file with its SHA-256."""
    plan: str | None = None
    """Ours: digest of what the dataset was made from and how."""

    @property
    def variant(self) -> str:
        """What follows the corpus in the name: `sp1024` of `fineweb10B_sp1024`."""
        return self.name.partition("_")[2] or self.name


@dataclass(frozen=True, kw_only=True)
class Manifest(ManifestPart):
    """Everything one folder holds."""

    version: str | None = None
    num_docs: int | None = None
    num_val_docs: int | None = None
    shuffle_seed: int | None = None
    shard_size: int | None = None
    append_eos: bool = False
    docs_jsonl: str | None = None
    docs_meta: DocsMeta | None = None
    tokenizer_specs: Any = None
    tokenizers: tuple[TokenizerEntry, ...] = ()
    datasets: tuple[DatasetEntry, ...] = ()

    def dataset(self, name: str) -> DatasetEntry | None:
        """The dataset called `name`, if there is one."""
        return next((entry for entry in self.datasets if entry.name == name), None)

    def tokenizer(self, name: str) -> TokenizerEntry | None:
        """The tokenizer called `name`, if there is one."""
        return next((entry for entry in self.tokenizers if entry.name == name), None)


def manifest_field(hint: Any, value: Any, where: str) -> Any:
    """`value` checked against the annotation of a manifest field; lists and objects are read."""
    options: tuple[Any, ...] = get_args(hint)
    if hint is Any or (value is None and NoneType in options):
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise bad_manifest(where, f"is {type(value).__name__}, a list is wanted")
        return tuple(options[0].from_json(inner, f"{where}[{place}]") for place, inner in enumerate(value))
    wanted = options[0] if options else hint
    if issubclass(wanted, ManifestPart):
        return wanted.from_json(value, where)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise bad_manifest(where, f"is {value!r:.60}, {wanted.__name__} is wanted")
    return value


def plain_json(value: Any) -> Any:
    """A field of the manifest as JSON values."""
    if isinstance(value, ManifestPart):
        return value.to_json()
    return [plain_json(inner) for inner in value] if isinstance(value, tuple) else value


def bad_manifest(where: str, what: str) -> DataError:
    """The error for one field of a manifest."""
    return DataError(f"the manifest cannot be used: {where} {what}", fix="fetch or prepare the data again")


def read_manifest(path: Path) -> Manifest:
    """The manifest in the file `path`. Raises `DataError` when it is not one; unknown fields are kept."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read", evidence=error.strerror or str(error)) from error
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON", evidence=str(error), fix="delete it and fetch or prepare the data again"
        ) from error
    return Manifest.from_json(value, path.name)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest` to `path`, at once or not at all. The same manifest gives the same bytes."""
    write_atomically(path, json.dumps(manifest.to_json(), indent=2, ensure_ascii=False) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def merged_manifest(new: Manifest, old: Manifest | None) -> Manifest:
    """`new`, with the datasets and tokenizers of `old` that it does not speak of."""
    if old is None:
        return new
    names = {entry.name for entry in new.datasets}
    kept = tuple(entry for entry in old.datasets if entry.name not in names)
    needed = {entry.tokenizer_name for entry in kept} - {entry.name for entry in new.tokenizers}
    tokenizers = tuple(entry for entry in old.tokenizers if entry.name in needed)
    return replace(new, datasets=(*kept, *new.datasets), tokenizers=(*tokenizers, *new.tokenizers))


def dataset_name(corpus: str, variant: str) -> str:
    """The folder of a dataset below `datasets/`: the official name for FineWeb, `<corpus>_<variant>` for others."""
    return f"fineweb10B_{variant}" if corpus == "fineweb" else f"{corpus}_{variant}"


def bigram_vocab(vocab: int) -> int:
    """The official recommendation for a bigram table, rounded up to a multiple of 640 (D2)."""
    return -(-vocab // 128) * 128 * 5

"""Retokenize the frozen documents of the challenge: the same documents, split and order under other tokenizers (D5)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paramgolf.data.corpora import OFFICIAL_VAL_DOCUMENTS, open_corpus
from paramgolf.data.hub import sha256_of
from paramgolf.data.manifest import MANIFEST_NAME, DatasetEntry, DocsMeta, Manifest, write_atomically, write_manifest
from paramgolf.data.prepare import prepare
from paramgolf.data.preparing import PrepareOptions, PrepareProgress
from paramgolf.data.variants import parse_variant
from paramgolf.errors import DataError, UsageError

EXPORT_CONFIG_NAME = "tokenizer_config.export.json"


@dataclass(frozen=True, kw_only=True)
class FrozenDocuments:
    """What the side manifest says of the documents file; None for what it leaves out."""

    num_docs: int | None = None
    docs_val: int | None = None
    docs_sha256: str | None = None
    shuffle_seed: int | None = None


def retokenize(
    docs: Path,
    variants: Sequence[str],
    *,
    out: Path,
    sidecar: Path | None = None,
    verify: bool = True,
    options: PrepareOptions | None = None,
    progress: PrepareProgress | None = None,
) -> Manifest:
    """Tokenize `docs` (`docs_selected.jsonl`, or the folder that holds it) into `out` once for each of `variants`.

    A variant is `byte260`, `spNNNN` (trained with the official settings) or `NNNN=PATH`. `sidecar` is the side
    manifest (by default the one beside `docs`); its SHA-256 is verified first, which reads the file once, unless
    `verify` is false. Validation is the first 50,000 documents, and `DataError` is raised when the side manifest
    says otherwise or another number comes out: with 10,000, as one script in use has it, the other 40,000 are
    trained on (issue #2127). The official pipeline drops no duplicates: `options.duplicates="keep"` does as it does.
    """
    docs = docs / "docs_selected.jsonl" if docs.is_dir() else docs
    if not docs.is_file():
        raise DataError(f"{docs} is not there", fix="paramgolf data fetch sp1024 --with-docs --train-shards 0")
    told = read_side_manifest(docs, sidecar)
    options = options or PrepareOptions()
    val_documents = options.val_documents or OFFICIAL_VAL_DOCUMENTS
    if told.docs_val is not None and told.docs_val != val_documents:
        raise DataError(
            "the number of validation documents is not that of the frozen documents",
            evidence=f"asked for {val_documents:,}, the side manifest says {told.docs_val:,}",
            fix=f"--val-documents {told.docs_val}",
        )
    names = [parse_variant(variant).name for variant in variants]
    if not names:
        raise UsageError("no variant was asked for", fix="--variant sp1024")
    if verify and told.docs_sha256:
        require_frozen(docs, told.docs_sha256)
    options = replace(options, val_documents=val_documents, official_trainer=True)
    corpus = replace(open_corpus(docs), name="fineweb")
    for variant in variants:
        manifest = prepare(corpus, out, variant=variant, options=options, progress=progress)
        entry = manifest.dataset(f"fineweb10B_{parse_variant(variant).name}")
        assert entry is not None
        check_counts(entry, val_documents, None if options.limit else told.num_docs, options)
    return finish_export(manifest, out, docs, told, names)


def read_side_manifest(docs: Path, sidecar: Path | None) -> FrozenDocuments:
    """The side manifest of `docs`; empty where there is none and none was given. Raises `DataError`."""
    path = sidecar or docs.with_name(f"{docs.stem}.source_manifest.json")
    if sidecar is None and not path.exists():
        return FrozenDocuments()
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        known = {name: content.get(name) for name in ("num_docs", "docs_val", "docs_sha256", "shuffle_seed")}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a side manifest", evidence=str(error), fix="fetch it again") from error
    return FrozenDocuments(**known)


def require_frozen(docs: Path, sha256: str) -> None:
    """Raise `DataError` when `docs` is not the frozen file."""
    found = sha256_of(docs)
    if found != sha256:
        raise DataError(
            f"{docs.name} is not the frozen selection of documents",
            evidence=f"{docs}: {docs.stat().st_size:,} bytes, SHA-256 {found[:16]},"
            f" the side manifest says {sha256[:16]}",
            fix="paramgolf data fetch sp1024 --with-docs --train-shards 0",
        )


def check_counts(entry: DatasetEntry, val_documents: int, num_docs: int | None, options: PrepareOptions) -> None:
    """Raise `DataError` when not every document of the frozen selection is where it belongs."""
    stats = entry.stats
    if stats.docs_val != val_documents:
        raise DataError(
            f"{entry.name} does not have the validation documents of the challenge",
            evidence=f"{stats.docs_val:,} came out, {val_documents:,} are wanted;"
            f" {stats.docs_empty} documents are empty",
            fix="use the frozen documents unchanged",
        )
    dropped = (stats.docs_empty or 0) + (stats.docs_duplicate or 0 if options.duplicates == "drop" else 0)
    total = (stats.docs_total or 0) + dropped
    if num_docs is not None and total != num_docs:
        raise DataError(
            f"{entry.name} was not made from all documents",
            evidence=f"{total:,} were read, the side manifest says {num_docs:,}",
            fix="paramgolf data fetch sp1024 --with-docs --train-shards 0",
        )


def finish_export(manifest: Manifest, out: Path, docs: Path, told: FrozenDocuments, names: list[str]) -> Manifest:
    """Add to the manifest what is known of the documents, and write the tokenizers' configuration beside it."""
    tokenizers = {entry.tokenizer_name for entry in manifest.datasets if entry.variant in names}
    specs = [entry.to_json() for entry in manifest.tokenizers if entry.name in tokenizers]
    meta = replace(
        manifest.docs_meta or DocsMeta(),
        docs_sha256=told.docs_sha256,
        source_manifest=f"{docs.stem}.source_manifest.json",
    )
    manifest = replace(
        manifest,
        version="10B",
        shuffle_seed=told.shuffle_seed,
        docs_jsonl=docs.name,
        docs_meta=meta,
        tokenizer_specs=[entry["source_spec"] for entry in specs],
    )
    write_manifest(manifest, out / MANIFEST_NAME)
    write_atomically(out / EXPORT_CONFIG_NAME, json.dumps({"tokenizers": specs}, indent=2) + "\n")
    return manifest

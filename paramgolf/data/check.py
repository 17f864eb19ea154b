"""Checks of a folder of prepared data: everything that is wrong with it, not only the first thing.

Opening data for a run stops at the first error; this goes on, reads every id, decodes every validation document,
and on demand proves that no training document is a validation document.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from paramgolf.batch import BOS
from paramgolf.data.boundaries import document_digests, document_starts
from paramgolf.data.corpora import OFFICIAL_VAL_DOCUMENTS
from paramgolf.data.manifest import MANIFEST_NAME, DatasetEntry, Manifest, read_manifest
from paramgolf.data.shards import Shard, find_shards, find_sidecars, is_sidecar, open_shard, open_sidecar
from paramgolf.data.tokenizers import ByteTokenizer, Tokenizer, load_tokenizer
from paramgolf.data.validation import validation_stream
from paramgolf.errors import DataError

CASEOPS_VAL_TOKENS = 47_851_520
"""Targets of the official CaseOps validation split, cut to a multiple of the evaluation length (D2, D7)."""
LONGEST_EVALUATION = 4096
"""The cut drops fewer tokens than this."""

REPAIR = "prepare or fetch the data again: paramgolf data --help"


class Finding(NamedTuple):
    """One thing that is wrong, or looks wrong."""

    severity: Literal["error", "warning"]
    path: Path
    cause: str
    evidence: str
    fix: str


def check_folder(
    folder: Path, *, tokenizer: Tokenizer | None = None, disjoint: bool = False, hashes: bool = False
) -> list[Finding]:
    """Everything wrong with `folder`: one with a manifest (D3), or one that holds shards directly.

    `tokenizer` serves for shards without a manifest; without either, ids and bytes cannot be checked.
    `disjoint` compares all training with all validation documents; `hashes` compares the SHA-256 of
    files with the manifest's. Both read everything, in bounded memory. Empty: nothing is wrong.
    """
    if not folder.is_dir():
        return [Finding("error", folder, "there is no such folder", str(folder), "paramgolf data prepare --help")]
    if not (folder / MANIFEST_NAME).exists():
        return list(check_shards(folder, tokenizer, disjoint=disjoint))
    try:
        manifest = read_manifest(folder / MANIFEST_NAME)
    except DataError as error:
        return [caught(error, folder / MANIFEST_NAME)]
    return [
        finding
        for entry in manifest.datasets
        for finding in check_dataset(folder, manifest, entry, disjoint=disjoint, hashes=hashes)
    ]


def check_dataset(
    root: Path, manifest: Manifest, entry: DatasetEntry, *, disjoint: bool, hashes: bool
) -> Iterator[Finding]:
    """What is wrong with one dataset of a manifest and its tokenizer."""
    folder = root / (entry.path or f"datasets/{entry.name}")
    if not folder.is_dir():
        # The manifest lists what its repository offers; what was not fetched is no fault.
        yield Finding("warning", folder, f"dataset {entry.name} is not here", f"no folder {folder}", REPAIR)
        return
    tokenizer = None
    try:
        tokenizer = manifest_tokenizer(root, manifest, entry)
    except DataError as error:
        yield caught(error, root)
    yield from check_shards(folder, tokenizer, disjoint=disjoint)
    yield from check_promises(folder, manifest, entry)
    if hashes:
        yield from check_hashes(folder, entry)


def check_shards(folder: Path, tokenizer: Tokenizer | None, *, disjoint: bool = False) -> Iterator[Finding]:
    """What is wrong with the shards in `folder` by themselves."""
    yield from check_files(folder)
    train, val = sound_shards(folder, "train"), sound_shards(folder, "val")
    for split, shards in (("train", train), ("val", val)):
        if not shards:
            yield Finding("error", folder, f"there is no sound {split} shard", f"*_{split}_*.bin in {folder}", REPAIR)
        yield from check_documents(shards)
    if tokenizer is None:
        yield Finding(
            "warning", folder, "ids and bytes were not checked", "the tokenizer is not known", "name the tokenizer"
        )
    else:
        for shard in train:
            yield from attempt(shard.path, shard.check_ids, tokenizer.vocab)
        if val and len(val) == len(find_shards(folder, "val")):
            yield from check_validation(folder, val, tokenizer)
    if disjoint:
        yield from check_disjoint(train, val)


def check_validation(folder: Path, val: Sequence[Shard], tokenizer: Tokenizer) -> Iterator[Finding]:
    """Ids, sidecars and byte counts of the validation split, each document decoded."""
    try:
        sidecars = find_sidecars(folder, "val")
        tokens = validation_stream([shard.path for shard in val], tokenizer, sidecars=sidecars).tokens
    except DataError as error:
        yield caught(error, folder)
        return
    unknown = int((tokenizer.byte_table().is_boundary[tokens] & (tokens != BOS)).sum())
    if unknown:
        yield Finding(
            "warning",
            folder,
            "some validation tokens stand for text that nobody can count, so bits per byte come out too high",
            f"{unknown:,} of {len(tokens):,} tokens are unknown or control ids other than BOS",
            "train the tokenizer with byte fallback",
        )


def check_files(folder: Path) -> Iterator[Finding]:
    """Headers and sizes of every `.bin` file, and what a killed writer left."""
    for path in sorted(folder.glob("*.bin")):
        yield from attempt(path, open_sidecar if is_sidecar(path) else open_shard, path)
    for path in sorted(folder.glob(".*.partial")):
        yield Finding(
            "warning", path, "an unfinished file was left behind", f"{path.stat().st_size:,} bytes", f"rm {path}"
        )


def check_documents(shards: Sequence[Shard]) -> Iterator[Finding]:
    """BOS where documents start: at the head of the split, and somewhere in each shard."""
    for index, shard in enumerate(shards):
        first = next(document_starts(shard), None)
        if first is None:
            yield Finding(
                "error" if index == 0 else "warning",
                shard.path,
                "no document begins in this shard",
                f"no BOS (id {BOS}) in {shard.tokens:,} tokens",
                "prepare the data again with BOS before each document (PR #1736)",
            )
        elif index == 0 and first != 0:
            yield Finding(
                "error",
                shard.path,
                "the split does not begin with a document",
                f"its first id is {int(shard.map()[0])}, BOS is {BOS}; the first BOS is token {first:,}",
                "see whether the first shard of the split is missing",
            )


def check_promises(folder: Path, manifest: Manifest, entry: DatasetEntry) -> Iterator[Finding]:
    """Files, tokens and documents as the manifest promises them, and the marks of the official data."""
    train, val = sound_shards(folder, "train"), sound_shards(folder, "val")
    stats = entry.stats
    documents = sum(1 for shard in val for _ in document_starts(shard))
    promises = {
        "validation shards": (len(val), stats.files_val),
        "validation tokens": (sum(shard.tokens for shard in val), stats.tokens_val),
        "validation documents": (documents, stats.docs_val if stats.docs_val is not None else manifest.num_val_docs),
        "training shards": (len(train), stats.files_train),
    }
    for what, (found, promised) in promises.items():
        if promised is not None and found != promised:
            # The challenge's data is usually fetched in part.
            partly = what == "training shards" and found < promised
            yield Finding(
                "warning" if partly else "error",
                folder,
                f"the number of {what} is not the manifest's",
                f"{found:,} here, {promised:,} in the manifest",
                REPAIR,
            )
    for shard in entry.shards:
        path = folder / shard.name
        if path.exists() and path.stat().st_size != shard.bytes:
            evidence = f"{path.stat().st_size:,} bytes here, {shard.bytes:,} in the manifest"
            yield Finding("error", path, "the file is not the manifest's", evidence, REPAIR)
    if manifest.version == "10B" and entry.name.startswith("fineweb10B_"):
        yield from check_official(folder, entry, documents, sum(shard.tokens for shard in val))


def check_official(folder: Path, entry: DatasetEntry, documents: int, tokens: int) -> Iterator[Finding]:
    """The marks of the official FineWeb validation split (D8's pitfall, issue #2127)."""
    if documents != OFFICIAL_VAL_DOCUMENTS:
        yield Finding(
            "error",
            folder,
            "this is not the official validation split; the other documents may be in the training shards",
            f"{documents:,} validation documents, the official split has {OFFICIAL_VAL_DOCUMENTS:,} (issue #2127)",
            "fetch the official data, or prepare it with --val-documents 50000",
        )
    caseops = "caseops" in f"{entry.text_transform} {entry.name}".lower()
    if caseops and not CASEOPS_VAL_TOKENS < tokens <= CASEOPS_VAL_TOKENS + LONGEST_EVALUATION:
        yield Finding(
            "error",
            folder,
            "this is not the official CaseOps validation split",
            f"{tokens:,} tokens, the official split has {CASEOPS_VAL_TOKENS:,} targets and fewer than"
            f" {LONGEST_EVALUATION:,} more",
            "fetch the official CaseOps data",
        )


def check_hashes(folder: Path, entry: DatasetEntry) -> Iterator[Finding]:
    """The SHA-256 of every file against the manifest's."""
    for shard in entry.shards:
        path = folder / shard.name
        if path.exists():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != shard.sha256:
                evidence = f"SHA-256 {digest[:16]}… here, {shard.sha256[:16]}… in the manifest"
                yield Finding("error", path, "the file is not the manifest's", evidence, REPAIR)


def check_disjoint(train: Sequence[Shard], val: Sequence[Shard]) -> Iterator[Finding]:
    """Whether any training document has the tokens of a validation document. Memory: one hash a validation document."""
    held = {digest: number for number, digest in enumerate(document_digests(val))}
    first, shared = (0, 0), 0
    for number, digest in enumerate(document_digests(train)):
        if digest in held:
            first = first if shared else (number, held[digest])
            shared += 1
    if shared:
        yield Finding(
            "error",
            train[0].path.parent,
            "validation documents are in the training shards",
            f"{shared:,} training documents; the first is number {first[0]:,} of the training"
            f" and {first[1]:,} of the validation documents, counted from 0",
            "prepare the data again; paramgolf data prepare leaves such documents out",
        )


def manifest_tokenizer(root: Path, manifest: Manifest, entry: DatasetEntry) -> Tokenizer:
    """The tokenizer of a dataset. Raises `DataError` when it is missing or not the one of the manifest."""
    told = manifest.tokenizer(entry.tokenizer_name)
    if told is None:
        raise DataError(f"the manifest has no tokenizer {entry.tokenizer_name!r} for {entry.name}", fix=REPAIR)
    tokenizer = load_tokenizer(root / told.model_path) if told.model_path else ByteTokenizer()
    for what, promised in (("tokenizer", told.vocab_size), ("dataset", entry.vocab_size)):
        if promised is not None and promised != tokenizer.vocab:
            raise DataError(
                f"the vocabulary of {tokenizer.name} is not that of the {what} in the manifest",
                evidence=f"{tokenizer.vocab:,} pieces, {promised:,} in the manifest",
                fix=REPAIR,
            )
    if told.fingerprint not in (None, tokenizer.fingerprint):
        raise DataError(
            f"{tokenizer.name} is not the tokenizer that made {entry.name}",
            evidence=f"its fingerprint is {tokenizer.fingerprint}, {told.fingerprint} in the manifest",
            fix=REPAIR,
        )
    return tokenizer


def sound_shards(folder: Path, split: str) -> list[Shard]:
    """The shards of `split` that can be opened."""
    shards = []
    for path in find_shards(folder, split):
        with suppress(DataError):
            shards.append(open_shard(path))
    return shards


def attempt(path: Path, action: Callable[..., object], *values: object) -> Iterator[Finding]:
    """The finding that `action(*values)` fails with, if it does."""
    try:
        action(*values)
    except DataError as error:
        yield caught(error, path)


def caught(error: DataError, path: Path) -> Finding:
    """A finding about `path` from an error."""
    return Finding("error", path, error.cause, error.evidence, error.fix or REPAIR)

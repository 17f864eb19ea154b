"""Preparation: a corpus and a tokenizer in, shards and a manifest out.

Validation documents are written first, each document as BOS and its pieces (D1). The order is that of the corpus and
the bytes are the same for any number of workers. A preparation that was killed continues after its last complete
shard, with the same bytes in the end. The manifest comes last: without it a dataset is not complete.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from paramgolf.data.caseops import CASEOPS_TRANSFORM
from paramgolf.data.corpora import Corpus, split_documents, validation_count
from paramgolf.data.documents import Document
from paramgolf.data.encode_pass import EncodePass
from paramgolf.data.encoding import usable_cores
from paramgolf.data.journal import Journal, clear_shards, drop_journal, has_journal, read_journal, write_journal
from paramgolf.data.manifest import (
    MANIFEST_NAME,
    DatasetEntry,
    DatasetStats,
    DocsMeta,
    Manifest,
    ShardEntry,
    TokenizerEntry,
    dataset_name,
    merged_manifest,
    read_manifest,
    write_manifest,
)
from paramgolf.data.preparing import PrepareOptions, PrepareProgress, Preparing
from paramgolf.data.shards import find_shards, find_sidecars
from paramgolf.data.tokenizers import Tokenizer, load_tokenizer
from paramgolf.data.variants import (
    Variant,
    install_tokenizer,
    parse_variant,
    tokenizer_entry,
    trained_model,
    training_texts,
)
from paramgolf.errors import DataError


def prepare_plan(corpus: Corpus, variant: Variant, options: PrepareOptions) -> str:
    """24 hexadecimal digits over everything that the bytes of the result depend on."""
    content = f"1 {corpus.identity} {variant.digest} {options.described}"
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def prepare(
    corpus: Corpus,
    out: Path,
    *,
    variant: str,
    options: PrepareOptions | None = None,
    progress: PrepareProgress | None = None,
) -> Manifest:
    """Tokenize `corpus` as `variant` (see `parse_variant`) into `out`, and return the manifest of `out`.

    A dataset that is complete is left as it is; other datasets in `out` stay. Raises `DataError` when a split comes out
    empty, a training document equals a validation document (`duplicates="error"`), the disk is full, or `out` holds
    a dataset of this name that is not ours to replace.
    """
    options = options or PrepareOptions()
    progress = progress or (lambda _: None)
    kind = parse_variant(variant)
    plan = prepare_plan(corpus, kind, options)
    name = dataset_name(corpus.name, kind.name)
    folder = out / "datasets" / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".prepare.lock"):
        old = read_manifest(out / MANIFEST_NAME) if (out / MANIFEST_NAME).exists() else None
        entry = old.dataset(name) if old else None
        if old and entry and entry.plan == plan and is_complete(folder, entry):
            drop_journal(folder)
            return old
        if not (options.overwrite or has_journal(folder) or not any(folder.glob("*.bin"))):
            raise foreign_dataset(folder)
        journal = read_journal(folder, plan, options.shard_tokens)
        clear_shards(folder, keep=journal.shards)
        val_count = validation_count(corpus, val_documents=options.val_documents, val_share=options.val_share)
        tokenizer = known_tokenizer(corpus, kind, out / "tokenizers", journal)
        if tokenizer is None:
            progress(Preparing("tokenizer", 0, 0, 0, 0.0, 0.0))
            texts = training_texts(chosen_documents(corpus, val_count, options.limit), options.tokenizer_documents)
            official = options.official_trainer
            tokenizer = install_tokenizer(kind, texts, out / "tokenizers", corpus=corpus.name, official=official)
        journal = journal._replace(tokenizer=tokenizer.fingerprint)
        write_journal(folder, journal)
        done = EncodePass(folder, corpus, options, journal, progress)
        done.run(chosen_documents(corpus, val_count, options.limit), tokenizer)
        progress(Preparing("verify", done.counts.val + done.counts.train, done.counts.text_bytes, 0, 0.0, 1.0))
        manifest = merged_manifest(pass_manifest(done, name, tokenizer_entry(tokenizer, kind)), old)
        write_manifest(manifest, out / MANIFEST_NAME)
        drop_journal(folder)
        return manifest


def is_complete(folder: Path, entry: DatasetEntry) -> bool:
    """Whether every file of `entry` is in `folder` with its size."""
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.bin")}
    return bool(entry.shards) and all(sizes.get(shard.name) == shard.bytes for shard in entry.shards)


def foreign_dataset(folder: Path) -> DataError:
    """The error for a dataset that would have to be overwritten."""
    return DataError(
        f"{folder.name} exists and was made from something else",
        evidence=f"{folder}: {len(list(folder.glob('*.bin'))):,} shards of another corpus, tokenizer or setting",
        fix="choose another output folder, or --overwrite",
    )


def known_tokenizer(corpus: Corpus, variant: Variant, folder: Path, journal: Journal) -> Tokenizer | None:
    """The tokenizer that an earlier process of the same plan trained into `folder`, if it is still there."""
    trained = folder / trained_model(variant, corpus.name)
    if not journal.tokenizer or variant.model is not None or not trained.exists():
        return None
    tokenizer = load_tokenizer(trained)
    return tokenizer if tokenizer.fingerprint == journal.tokenizer else None


def chosen_documents(corpus: Corpus, val_count: int | None, limit: int | None) -> Iterator[Document]:
    """The documents of `corpus` with their split, at most `limit` of them for training."""
    left = limit
    for document in split_documents(corpus, val_count):
        if document.split == "train" and left is not None:
            if left == 0:
                return
            left -= 1
        yield document


def pass_manifest(done: EncodePass, name: str, tokenizer: TokenizerEntry) -> Manifest:
    """The manifest of a folder that holds the dataset of `done` alone. Reads every shard once for its SHA-256."""
    val, train = (find_shards(done.folder, split) for split in ("val", "train"))
    sidecars = find_sidecars(done.folder, "val")
    counts, corpus, place = done.counts, done.corpus.name, f"datasets/{name}"
    with ThreadPoolExecutor(min(8, usable_cores())) as pool:
        shards = tuple(pool.map(shard_entry, val + sidecars + train))
    stats = DatasetStats(
        docs_total=counts.val + counts.train,
        docs_val=counts.val,
        docs_train=counts.train,
        files_total=len(val) + len(train),
        files_val=len(val),
        files_train=len(train),
        tokens_total=counts.val_tokens + counts.train_tokens,
        tokens_val=counts.val_tokens,
        tokens_train=counts.train_tokens,
        text_bytes=counts.text_bytes,
        docs_empty=counts.empty,
        docs_duplicate=counts.duplicate,
        docs_repaired=counts.repaired,
    )
    dataset = DatasetEntry(
        name=name,
        tokenizer_name=tokenizer.name,
        tokenizer_kind=tokenizer.kind,
        path=place,
        train_glob=f"{place}/{corpus}_train_*.bin",
        val_glob=f"{place}/{corpus}_val_[0-9]*.bin" if sidecars else f"{place}/{corpus}_val_*.bin",
        val_bytes_glob=f"{place}/{corpus}_val_bytes_*.bin" if sidecars else None,
        text_transform=CASEOPS_TRANSFORM if sidecars else None,
        vocab_size=tokenizer.vocab_size,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        recommended_bigram_vocab_size=tokenizer.recommended_bigram_vocab_size,
        stats=stats,
        shards=shards,
        plan=done.journal.plan,
    )
    return Manifest(
        version="10B" if corpus == "fineweb" else None,
        num_docs=stats.docs_total,
        num_val_docs=stats.docs_val,
        shard_size=done.options.shard_tokens,
        docs_meta=DocsMeta(corpus=corpus, num_docs=stats.docs_total, fingerprint=done.digest.hexdigest()),
        tokenizers=(tokenizer,),
        datasets=(dataset,),
    )


def shard_entry(path: Path) -> ShardEntry:
    """Name, size and SHA-256 of one shard."""
    with path.open("rb") as file:
        return ShardEntry(
            name=path.name, bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest()
        )

"""`data prepare`, `fetch`, `retokenize` and `check`."""

from pathlib import Path
from typing import Literal

from paramgolf.cli.options import Json, Switch
from paramgolf.cli.output import print_json, print_rows, print_text
from paramgolf.cli.progress import display

Duplicates = Literal["drop", "keep", "error"]


def prepare_command(
    corpus: str,
    /,
    *,
    variant: str = "sp1024",
    out: Path = Path("data"),
    val_documents: int | None = None,
    limit: int | None = None,
    shard_tokens: int = 100_000_000,
    workers: int | None = None,
    duplicates: Duplicates = "drop",
    overwrite: Switch = False,
) -> int:
    """Turn texts into token shards: stdlib, a folder of text, JSON lines (.gz, .xz, .zst) or Parquet.

    A preparation that was stopped goes on when the command is repeated.

    Parameters
    ----------
    corpus
        Name of a corpus, a file or a folder.
    variant
        Tokenizer: byte260, spNNNN (trained on the corpus), or the path of a .model; those that end in
        _lossless_caps_caseops_v1_reserved have the case transform and byte sidecars.
    out
        Where the data goes.
    val_documents
        The first so many documents are validation; by default the corpus's own split, or a twentieth.
    limit
        Stop after so many training documents.
    shard_tokens
        Tokens of a shard.
    workers
        Threads that encode; by default one a core.
    duplicates
        What to do with a training document that equals a validation document.
    overwrite
        Replace data of the same name made from something else.
    """
    from paramgolf.cli.preparation import show_preparing
    from paramgolf.data.corpora import open_corpus, require_official_split
    from paramgolf.data.prepare import prepare
    from paramgolf.data.preparing import PrepareOptions

    options = PrepareOptions(
        shard_tokens=shard_tokens,
        val_documents=val_documents,
        limit=limit,
        workers=workers,
        duplicates=duplicates,
        overwrite=overwrite,
    )
    found = open_corpus(corpus)
    require_official_split(found, val_documents)
    with display() as shown:
        manifest = prepare(found, out, variant=variant, options=options, progress=show_preparing(shown))
    rows = [
        (entry.name, *(f"{count or 0:,}" for count in (s.docs_train, s.docs_val, s.tokens_train, s.tokens_val)))
        for entry in manifest.datasets
        if (s := entry.stats)
    ]
    header = ("dataset", "documents", "validation", "tokens", "validation")
    print_rows(header, rows, right=(1, 2, 3, 4))
    print_text(f"next: paramgolf data check {out}")
    return 0


def check_command(
    folder: Path,
    /,
    *,
    tokenizer: str | None = None,
    disjoint: Switch = False,
    hashes: Switch = False,
    json: Json = False,
) -> int:
    """Find everything that is wrong with prepared data. Exit code 1 if something is.

    Parameters
    ----------
    folder
        Folder with a manifest, or with shards.
    tokenizer
        byte260 or the path of a .model, for shards without a manifest.
    disjoint
        Also prove that no training document is a validation document; reads everything.
    hashes
        Also compare the SHA-256 of every file with the manifest; reads everything.
    json
        Print as JSON.
    """
    from paramgolf.data.check import check_folder
    from paramgolf.data.tokenizers import load_tokenizer

    known = load_tokenizer(tokenizer) if tokenizer else None
    found = check_folder(folder, tokenizer=known, disjoint=disjoint, hashes=hashes)
    if json:
        print_json([{**finding._asdict(), "path": str(finding.path)} for finding in found])
    for finding in [] if json else found:
        print_text(f"{finding.severity}: {finding.cause}\n  evidence: {finding.evidence}\n  next: {finding.fix}")
    if not found and not json:
        print_text(f"{folder}: nothing is wrong")
    return int(any(finding.severity == "error" for finding in found))


def fetch_command(
    variant: str = "sp1024",
    /,
    *,
    out: Path = Path("data"),
    train_shards: int = 80,
    repo: str = "willdepueoai/parameter-golf",
    remote_root: str = "datasets",
    endpoint: str | None = None,
    cache: Path | None = None,
    with_docs: Switch = False,
    skip_manifest: Switch = False,
) -> int:
    """Download FineWeb as the challenge publishes it. What is there and sound is left alone.

    Parameters
    ----------
    variant
        Tokenizer, such as sp1024 or byte260.
    out
        Where the data goes.
    train_shards
        How many training shards, of 100 million tokens and 0.2 GB each; validation comes whole.
    repo
        Dataset repository on the hub.
    remote_root
        Folder in that repository.
    endpoint
        Another hub, as https://example.org.
    cache
        Where downloads are kept; by default where huggingface_hub keeps them.
    with_docs
        Also the texts themselves, for retokenize.
    skip_manifest
        Go by the names in the repository alone, for one without a manifest; the manifest here stays as it is.
    """
    from paramgolf.cli.preparation import show_fetching
    from paramgolf.data.fetch import FetchOptions, fetch

    options = FetchOptions(
        repo=repo,
        remote_root=remote_root,
        endpoint=endpoint,
        cache=cache,
        with_docs=with_docs,
        skip_manifest=skip_manifest,
    )
    with display() as shown:
        done = fetch(variant, out, train_shards=train_shards, options=options, progress=show_fetching(shown))
    print_text(f"{done.dataset}: {len(done.downloaded):,} files fetched, {len(done.kept):,} were there and are sound")
    print_text(f"next: paramgolf data check {out}")
    return 0


def retokenize_command(
    docs: Path,
    /,
    *,
    variant: tuple[str, ...] = ("sp1024",),
    out: Path = Path("data"),
    sidecar: Path | None = None,
    val_documents: int | None = None,
    workers: int | None = None,
    duplicates: Duplicates = "drop",
    trust: Switch = False,
) -> int:
    """Tokenize the challenge's own documents anew, with the official validation documents.

    Parameters
    ----------
    docs
        docs_selected.jsonl or its folder, from data fetch --with-docs.
    variant
        Tokenizer: byte260, spNNNN, or NNNN=PATH.model to reuse one; may be repeated.
    out
        Where the data goes.
    sidecar
        The side manifest of the documents; by default the one beside them.
    val_documents
        The first so many documents are validation; by default the official 50,000.
    workers
        Threads that encode; by default one a core.
    duplicates
        What to do with a training document that equals a validation document; the official pipeline keeps it.
    trust
        Do not compare the documents with the side manifest's SHA-256.
    """
    from paramgolf.cli.preparation import show_preparing
    from paramgolf.data.preparing import PrepareOptions
    from paramgolf.data.retokenize import retokenize

    options = PrepareOptions(val_documents=val_documents, workers=workers, duplicates=duplicates)
    with display() as shown:
        retokenize(
            docs,
            variant,
            out=out,
            sidecar=sidecar,
            verify=not trust,
            options=options,
            progress=show_preparing(shown),
        )
    print_text(f"next: paramgolf data check {out}")
    return 0

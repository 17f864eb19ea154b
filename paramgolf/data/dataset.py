"""A dataset: the shards, the tokenizer and the sidecars that a run needs, found in a folder and checked."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paramgolf.batch import BOS
from paramgolf.data.corpora import OFFICIAL_VAL_DOCUMENTS, open_corpus
from paramgolf.data.journal import JOURNAL_NAME, has_journal
from paramgolf.data.manifest import MANIFEST_NAME, DatasetEntry, Manifest, dataset_name, read_manifest
from paramgolf.data.prepare import prepare, prepare_plan
from paramgolf.data.preparing import PrepareOptions, PrepareProgress
from paramgolf.data.shards import find_shards, find_sidecars, open_shard, open_sidecar
from paramgolf.data.tokenizers import ByteTokenizer, Tokenizer, load_tokenizer
from paramgolf.data.variants import parse_variant
from paramgolf.errors import DataError, UsageError
from paramgolf.registry import nearest


@dataclass(frozen=True)
class Dataset:
    """What a run reads. Every file was found whole when this was made."""

    name: str
    train: tuple[Path, ...]
    val: tuple[Path, ...]
    val_bytes: tuple[Path, ...]
    """Byte sidecars of the validation shards (CaseOps, D8); empty for other data."""
    tokenizer: Tokenizer
    fingerprint: str
    """12 hexadecimal digits over the names and sizes of the shards and the tokenizer."""


def open_dataset(folder: Path, variant: str | None = None, *, tokenizer: str | Path | None = None) -> Dataset:
    """The dataset in `folder`: one with `datasets/` in it, or one with shards in it.

    `variant` chooses among several, by name or by what follows the corpus in the name. `tokenizer` ("byte260" or the
    path of a .model) is needed where no manifest tells it. Raises `DataError` when something is missing, damaged
    or does not fit, `UsageError` when the choice is open or impossible.
    """
    if not folder.is_dir():
        raise missing_data(folder, "no such folder")
    place = chosen_folder(folder, variant)
    if has_journal(place):
        raise DataError(
            f"the preparation of {place.name} was not finished",
            evidence=f"{place / JOURNAL_NAME} is still there",
            fix="repeat the command that prepares it; it continues where it stopped",
        )
    roots = [place, *(above for above in place.parents[:3] if above / "datasets" in place.parents)]
    root = next((above for above in roots if (above / MANIFEST_NAME).is_file()), None)
    manifest = read_manifest(root / MANIFEST_NAME) if root else None
    entry = manifest.dataset(place.name) if manifest else None
    train, val = find_shards(place, "train"), find_shards(place, "val")
    sidecars = find_sidecars(place, "val")
    for split, shards in (("training", train), ("validation", val)):
        if not shards:
            raise missing_data(place, f"no {split} shards; {len(train)} training and {len(val)} validation shards")
    tokens = sum(open_shard(path).tokens for path in val)
    for path in train:
        open_shard(path)
    if entry:
        check_against_manifest(place, entry, len(val), tokens, has_sidecars=bool(sidecars))
    check_sidecars(place, val, sidecars)
    check_official_split(place, manifest, entry, val)
    if tokenizer is not None:
        chosen = load_tokenizer(tokenizer)
    else:
        chosen = found_tokenizer(place, root or place.parent.parent, manifest, entry)
    if manifest and entry:
        check_tokenizer(chosen, manifest, entry, f"paramgolf data check {root}")
    return Dataset(place.name, train, val, sidecars, chosen, data_fingerprint(train + val + sidecars, chosen))


def chosen_folder(folder: Path, variant: str | None) -> Path:
    """The folder of the shards: `folder` itself or the one below `datasets/` that `variant` names."""
    if find_shards(folder, "train") or find_shards(folder, "val"):
        return folder
    # Doubled by people who download the repository as it is into a folder called datasets (D4).
    layers = (folder / "datasets", folder / "datasets" / "datasets", folder)
    found = {
        inner.name: inner
        for layer in layers
        if layer.is_dir()
        for inner in sorted(layer.iterdir())
        if inner.is_dir() and any(inner.glob("*.bin"))
    }
    if not found:
        contents = ", ".join(sorted(inner.name for inner in folder.iterdir())[:8])
        raise missing_data(folder, f"no shards in it; it holds: {contents or 'nothing'}")
    fitting = [name for name in found if variant is None or name == variant or name.endswith(f"_{variant}")]
    if len(fitting) == 1:
        return found[fitting[0]]
    if fitting:
        raise UsageError(
            f"{folder} holds several datasets{f' called {variant}' if variant else ''}; choose one",
            evidence=", ".join(sorted(fitting)),
            fix=f"--variant {sorted(fitting)[0]}",
        )
    names = [*found, *(name.partition("_")[2] for name in found)]
    raise UsageError(
        f"{folder} holds no dataset {variant!r}{nearest(str(variant), names)}",
        evidence=f"datasets there: {', '.join(found)}",
        fix=f"paramgolf data fetch {variant} --out {folder}",
    )


def missing_data(folder: Path, evidence: str) -> DataError:
    """The error for a folder that is not a dataset."""
    return DataError(
        f"{folder} is not a dataset that can be used",
        evidence=evidence,
        fix=f"paramgolf data fetch sp1024 --out {folder}, or paramgolf data prepare CORPUS --out {folder}",
    )


def check_against_manifest(
    place: Path, entry: DatasetEntry, files_val: int, tokens_val: int, *, has_sidecars: bool
) -> None:
    """Raise `DataError` when the validation split is not the whole one the manifest promises: no score would be true.

    Fewer training shards than promised are allowed; most people fetch some.
    """
    problem = ""
    if entry.stats.files_val is not None and entry.stats.files_val != files_val:
        problem = f"{files_val:,} validation shards, the manifest says {entry.stats.files_val:,}"
    elif entry.stats.tokens_val is not None and entry.stats.tokens_val != tokens_val:
        problem = f"{tokens_val:,} validation tokens, the manifest says {entry.stats.tokens_val:,}"
    elif entry.val_bytes_glob and not has_sidecars:
        problem = f"no byte sidecars, the manifest says {entry.val_bytes_glob}"
    if problem:
        raise DataError(
            f"the validation data of {entry.name} is not complete",
            evidence=f"{place}: {problem}",
            fix=f"paramgolf data fetch {entry.variant}, or paramgolf data check {place}",
        )


def check_tokenizer(chosen: Tokenizer, manifest: Manifest, entry: DatasetEntry, fix: str) -> None:
    """Raise `DataError` unless `chosen` may be the tokenizer of the dataset, as far as the manifest tells.

    The official manifest tells the number of ids, ours the fingerprint too.
    """
    told = manifest.tokenizer(entry.tokenizer_name)
    problem = ""
    if entry.vocab_size is not None and entry.vocab_size != chosen.vocab:
        problem = f"{chosen.name} has {chosen.vocab:,} ids, the manifest says {entry.vocab_size:,}"
    elif told and told.fingerprint is not None and told.fingerprint != chosen.fingerprint:
        problem = f"{chosen.name} has the fingerprint {chosen.fingerprint}, the manifest says {told.fingerprint}"
    if problem:
        raise DataError(f"the tokenizer does not belong to dataset {entry.name}", evidence=problem, fix=fix)


def check_official_split(
    place: Path, manifest: Manifest | None, entry: DatasetEntry | None, val: tuple[Path, ...]
) -> None:
    """Raise `DataError` when FineWeb under its official name has another validation split than the official one.

    A script in use makes it of 10,000 documents, and the other 40,000 are trained on (issue #2127). A manifest that
    promises another number is believed, so that a part of the documents can be worked on; `data check` objects.
    """
    if not place.name.startswith("fineweb10B_"):
        return
    told = (entry and entry.stats.docs_val) or (manifest and manifest.num_val_docs) or OFFICIAL_VAL_DOCUMENTS
    found = sum(int(np.count_nonzero(open_shard(path).map() == BOS)) for path in val)
    if found != told:
        raise DataError(
            "the validation split is not the official one; the other documents may be in the training shards",
            evidence=f"{place}: {found:,} validation documents, {told:,} are wanted (issue #2127)",
            fix=f"paramgolf data fetch {place.name.partition('_')[2]} (CaseOps: --repo"
            " romeerp/parameter-golf-caseops-v1), or paramgolf data retokenize --help",
        )


def check_sidecars(place: Path, val: tuple[Path, ...], sidecars: tuple[Path, ...]) -> None:
    """Raise `DataError` when there are byte sidecars, but not one of the same length for every validation shard."""
    lengths = [open_shard(path).tokens for path in val]
    counted = [open_sidecar(path).tokens for path in sidecars]
    if sidecars and lengths != counted:
        raise DataError(
            f"the byte sidecars of {place.name} do not fit its validation shards",
            evidence=f"shards of {lengths[:5]} tokens, sidecars of {counted[:5]}",
            fix=f"paramgolf data check {place}",
        )


def found_tokenizer(place: Path, root: Path, manifest: Manifest | None, entry: DatasetEntry | None) -> Tokenizer:
    """The tokenizer of the dataset in `place`: the manifest's word, else the only file that fits its name."""
    told = manifest.tokenizer(entry.tokenizer_name) if manifest and entry else None
    size, caseops = re.search(r"_sp(\d+)", place.name), "caseops" in place.name
    if (told and told.model_path is None) or (told is None and place.name.endswith(f"_{ByteTokenizer.name}")):
        return ByteTokenizer()
    wanted = (
        Path(told.model_path).name if told and told.model_path else f"*_{size[1]}_bpe*.model" if size else "*.model"
    )
    found = {
        path.name: path
        for folder in (root / "tokenizers", root / "datasets" / "tokenizers", root, place)
        for path in sorted(folder.glob(wanted))
        if told or not size or ("caseops" in path.name) == caseops
    }
    if len(found) != 1:
        raise DataError(
            f"{'several tokenizers fit' if found else 'no tokenizer is there for'} dataset {place.name}",
            evidence=f"{len(found)} files match {wanted} in {root / 'tokenizers'}: {', '.join(found) or 'none'}",
            fix="--tokenizer PATH.model, or paramgolf data fetch for the data with its tokenizer",
        )
    return load_tokenizer(next(iter(found.values())))


def data_fingerprint(shards: Iterable[Path], tokenizer: Tokenizer) -> str:
    """12 hexadecimal digits over names and sizes of `shards` and the tokenizer; reads no shard."""
    digest = hashlib.sha256(tokenizer.fingerprint.encode())
    for path in shards:
        digest.update(f"\n{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()[:12]


def prepared(
    source: str,
    *,
    variant: str,
    root: Path,
    options: PrepareOptions | None = None,
    progress: PrepareProgress | None = None,
) -> Dataset:
    """The dataset that a run names by `source`: a prepared folder, or a corpus (see `open_corpus`).

    A corpus is prepared as `variant` (see `parse_variant`) once, into `root/<corpus>_<variant>-<digest>`, and used
    again as long as its files and the options are the same. Raises what `open_dataset` and `prepare` raise.
    """
    if is_prepared(Path(source)):
        model = variant if variant.endswith(".model") and "=" not in variant else None
        return open_dataset(Path(source), variant if model is None else None, tokenizer=model)
    corpus = open_corpus(source)
    kind = parse_variant(variant)
    name = dataset_name(corpus.name, kind.name)
    out = root / f"{name}-{prepare_plan(corpus, kind, options or PrepareOptions())[:8]}"
    prepare(corpus, out, variant=variant, options=options, progress=progress)
    return open_dataset(out, name)


def is_prepared(folder: Path) -> bool:
    """Whether `folder` holds token shards, or folders of them."""
    layouts = ("*.bin", "*/*_train_*.bin", "datasets/*/*.bin", "datasets/datasets/*/*.bin")
    return folder.is_dir() and any(any(folder.glob(layout)) for layout in layouts)

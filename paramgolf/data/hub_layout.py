"""What a repository of tokenized data offers: which folder is a variant, which files belong to it (D4)."""

import re
from collections.abc import Iterable

from paramgolf.data.hub import HubRepository, RemoteFile
from paramgolf.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from paramgolf.errors import DataError, UsageError
from paramgolf.registry import nearest

SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
DOCUMENT_FILES = ("docs_selected.jsonl", "docs_selected.source_manifest.json")


def remote_folder(listing: Iterable[RemoteFile], variant: str, repo: str, remote_root: str) -> str:
    """The remote folder whose shards are `variant`. Raises `UsageError` with what there is instead."""
    root = f"{remote_root.strip('/')}/" if remote_root.strip("/") else ""
    folders = {file.path.rpartition("/")[0] for file in listing if file.path.endswith(".bin")}
    inside = sorted((folder for folder in folders if folder.startswith(root)), key=lambda path: (len(path), path))
    if not inside:
        raise UsageError(
            f"{repo} has no shards below {remote_root!r}",
            evidence=f"shards are in: {', '.join(sorted(folders)) or 'no folder'}",
            fix="--remote-root FOLDER",
        )
    names = {folder.rpartition("/")[2]: folder for folder in reversed(inside)}
    variants = {name.partition("_")[2] or name: name for name in names}
    name = variant if variant in names else variants.get(variant)
    if name is None:
        raise UsageError(
            f"{repo} has no variant {variant!r}{nearest(variant, variants)}",
            evidence=f"it has: {', '.join(sorted(variants))}",
            fix=f"paramgolf data fetch {next(iter(sorted(variants)))}",
        )
    return names[name]


def remote_manifest(source: HubRepository, listing: Iterable[RemoteFile], place: str, remote_root: str) -> Manifest:
    """The manifest that speaks of the folder `place`. Raises `DataError` when there is none."""
    dataset = place.rpartition("/")[2]
    root = remote_root.strip("/")
    above = [place.rsplit("/", 1)[0], *([place.rsplit("/", 2)[0]] if place.count("/") > 1 else []), root, ""]
    paths = [f"{folder}/{MANIFEST_NAME}".lstrip("/") for folder in above]
    known = {file.path: file for file in listing}
    for path in paths:
        if path in known:
            manifest = read_manifest(source.download(known[path]))
            if manifest.dataset(dataset):
                return manifest
    raise DataError(
        f"{source.repo} has no manifest that speaks of {dataset}",
        evidence=f"looked at: {', '.join(dict.fromkeys(paths))}",
        fix="--skip-manifest, to go by the names of the files",
    )


def chosen_shards(
    listing: Iterable[RemoteFile], place: str, train_shards: int, manifest: Manifest | None
) -> list[RemoteFile]:
    """All validation files of the folder and its first `train_shards` training shards."""
    files = [file for file in listing if file.path.rpartition("/")[0] == place and SAFE_NAME.fullmatch(file.name)]
    train = [file for file in files if "_train_" in file.name and file.name.endswith(".bin")]
    val = [file for file in files if "_val_" in file.name and file.name.endswith(".bin")]
    entry = manifest.dataset(place.rpartition("/")[2]) if manifest else None
    promised = entry.stats.files_train if entry else None
    there = len(train) if promised is None else min(promised, len(train))
    if train_shards > there or train_shards < 0:
        raise UsageError(
            f"{train_shards} training shards were asked for, there are {there}",
            evidence=f"{place}: {len(train)} in the repository, {promised} in its manifest",
            fix=f"--train-shards {there}",
        )
    if not val:
        raise DataError(f"{place} has no validation shards", evidence=f"{len(files)} files", fix="--repo OWNER/NAME")
    return val + train[:train_shards]


def tokenizer_files(listing: Iterable[RemoteFile], dataset: str, manifest: Manifest | None) -> list[RemoteFile]:
    """The files of the dataset's tokenizer: those the manifest names, else those of its vocabulary."""
    there = [file for file in listing if "/tokenizers/" in f"/{file.path}" and SAFE_NAME.fullmatch(file.name)]
    entry = manifest.dataset(dataset) if manifest else None
    told = manifest.tokenizer(entry.tokenizer_name) if manifest and entry else None
    if told:
        paths = (told.model_path, told.vocab_path, told.path)
        names = {path.rpartition("/")[2] for path in paths if path}
        found = [file for file in there if file.name in names]
        model = (told.model_path or "").rpartition("/")[2]
        if model and model not in {file.name for file in found}:
            raise DataError(
                f"the tokenizer of {dataset} is not in the repository",
                evidence=f"the manifest names {told.model_path}; there are: {', '.join(file.name for file in there)}",
                fix="fetch it from elsewhere and give it with --tokenizer",
            )
        return unique_names(found)
    size = re.search(r"_(?:sp|byte)(\d+)", dataset)
    transform = "caseops" in dataset
    fitting = [file for file in there if size and re.search(rf"_{size[1]}(\D|$)", file.name)]
    return unique_names(file for file in fitting if ("caseops" in file.name) == transform)


def document_files(listing: Iterable[RemoteFile], repo: str) -> list[RemoteFile]:
    """The frozen selection and its side manifest. Raises `DataError` when the repository has none."""
    found = unique_names(file for file in listing if file.name in DOCUMENT_FILES)
    if DOCUMENT_FILES[0] not in {file.name for file in found}:
        raise DataError(f"{repo} does not hold {DOCUMENT_FILES[0]}", fix="leave out --with-docs, or another --repo")
    return found


def unique_names(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """One file of each name, the one nearest to the root."""
    return list({file.name: file for file in sorted(files, key=lambda file: -file.path.count("/"))}.values())

"""Fetch tokenized data from the Hugging Face hub into the official layout (D4).

Every file is checked: header and length of shards, SHA-256 where the hub has one. Good files stay, broken ones are
fetched again, and a folder that holds another export is refused instead of mixed up.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from paramgolf.data.encoding import ordered_map
from paramgolf.data.hub import HubRepository, RemoteFile, is_same_file, quiet_hub
from paramgolf.data.hub_layout import chosen_shards, document_files, remote_folder, remote_manifest, tokenizer_files
from paramgolf.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    merged_manifest,
    read_manifest,
    write_atomically,
    write_manifest,
)
from paramgolf.data.shards import checked_header
from paramgolf.data.tokenizers import load_tokenizer
from paramgolf.errors import DataError

RECORD_NAME = ".fetched.json"


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """Where to fetch from and what besides the shards."""

    repo: str = "willdepueoai/parameter-golf"
    """Dataset repository. Others in use: kevclark/parameter-golf, romeerp/parameter-golf-caseops-v1."""
    remote_root: str = "datasets"
    """Folder of the repository that holds `manifest.json`, `datasets/` and `tokenizers/`."""
    revision: str = "main"
    endpoint: str | None = None
    """Another hub. None: the public one."""
    cache: Path | None = None
    """The hub's cache. None: where huggingface_hub keeps it."""
    with_docs: bool = False
    """Also the documents themselves (tens of gigabytes), to tokenize them anew."""
    skip_manifest: bool = False
    """Go by the names in the repository alone."""
    workers: int = 8
    """Files fetched at a time."""


class Fetching(NamedTuple):
    """How far a fetch is: one file more is in place."""

    name: str
    files: int
    files_total: int
    bytes: int
    bytes_total: int


class Fetched(NamedTuple):
    """What a fetch did."""

    dataset: str
    folder: Path
    downloaded: tuple[str, ...]
    kept: tuple[str, ...]
    """Files that were there and good."""
    replaced_manifest: bool
    """Whether the manifest that was there told something else of this dataset, as one of another repository does."""


class Wanted(NamedTuple):
    """A remote file and where it goes."""

    file: RemoteFile
    target: Path


def fetch(
    variant: str,
    out: Path,
    *,
    train_shards: int = 80,
    options: FetchOptions | None = None,
    progress: Callable[[Fetching], None] | None = None,
) -> Fetched:
    """Fetch `variant` (`byte260`, `sp1024`, …) into `out`: all validation shards, the first `train_shards`, tokenizer.

    Running it again continues. Raises `UsageError` for a variant, repository or number of shards that does not exist,
    `DataError` when the hub cannot be reached, sends damaged files, or `out` holds another export of that name.
    """
    options = options or FetchOptions()
    source = HubRepository(repo=options.repo, revision=options.revision, endpoint=options.endpoint, cache=options.cache)
    with quiet_hub():
        source = source.pinned()
        listing = source.files()
        place = remote_folder(listing, variant, options.repo, options.remote_root)
        name = place.rpartition("/")[2]
        folder = out / "datasets" / name
        manifest = None if options.skip_manifest else remote_manifest(source, listing, place, options.remote_root)
        shards = chosen_shards(listing, place, train_shards, manifest)
        wanted = [Wanted(file, folder / file.name) for file in shards]
        wanted += [Wanted(file, out / "tokenizers" / file.name) for file in tokenizer_files(listing, name, manifest)]
        if options.with_docs:
            wanted += [Wanted(file, out / file.name) for file in document_files(listing, options.repo)]
        record = read_record(folder)
        good = list(ordered_map(lambda item: is_in_place(item, record, options.repo), wanted, options.workers))
        refuse_other_export(folder, listing, place, options.repo)
        missing = [item for item, kept in zip(wanted, good, strict=True) if not kept]
        download_all(source, missing, [item for item in wanted if item not in missing], options.workers, progress)
    write_record(folder, source, [item for item in wanted if item.target.parent == folder])
    replaced = bool(manifest) and update_manifest(out / MANIFEST_NAME, manifest, name)
    kept = tuple(item.target.name for item in wanted if item not in missing)
    return Fetched(name, folder, tuple(item.target.name for item in missing), kept, replaced)


def is_in_place(item: Wanted, record: dict[str, list[object]], repo: str) -> bool:
    """Whether the target is the remote file already. Raises `DataError` when it is a good file of another export."""
    file, target = item
    if not target.is_file():
        return False
    stat = target.stat()
    if record.get(target.name) == [stat.st_size, stat.st_mtime_ns, file.sha256]:
        return True
    whole = is_whole(target)
    if whole is not False and is_same_file(target, file):
        return True
    if not whole:
        return False
    raise DataError(
        f"{target.name} is a good file, but not that of {repo}",
        evidence=f"{target}: {stat.st_size:,} bytes; in the repository: {file.size:,} bytes,"
        f" SHA-256 {str(file.sha256)[:12]}",
        fix=f"delete {target.parent} to replace it, or choose another --out",
    )


def is_whole(path: Path) -> bool | None:
    """Whether a shard or a tokenizer can be used; None for files of other kinds."""
    try:
        if path.suffix == ".bin":
            checked_header(path)
        elif path.suffix == ".model":
            load_tokenizer(path)
        else:
            return None
    except DataError:
        return False
    return True


def refuse_other_export(folder: Path, listing: Iterable[RemoteFile], place: str, repo: str) -> None:
    """Raise `DataError` when `folder` holds shards that the repository does not know: splits would be mixed."""
    known = {file.name for file in listing if file.path.rpartition("/")[0] == place}
    strange = sorted(path.name for path in folder.glob("*.bin") if path.name not in known)
    if strange:
        raise DataError(
            f"{folder} holds shards that {repo} does not have",
            evidence=f"{len(strange)}, such as {strange[0]}",
            fix=f"delete {folder} to replace it, or choose another --out",
        )


def download_all(
    source: HubRepository,
    missing: list[Wanted],
    kept: list[Wanted],
    workers: int,
    progress: Callable[[Fetching], None] | None,
) -> None:
    """Put every missing file into place, several at a time, and tell of each."""
    files, total = len(kept), len(kept) + len(missing)
    done = sum(item.file.size for item in kept)
    everything = done + sum(item.file.size for item in missing)
    for item in ordered_map(lambda item: put_in_place(source, item), missing, workers):
        files, done = files + 1, done + item.file.size
        if progress:
            progress(Fetching(item.target.name, files, total, done, everything))


def put_in_place(source: HubRepository, item: Wanted) -> Wanted:
    """Download one file and link it to its target. Raises `DataError` when it is not the shard its name promises."""
    blob = source.download(item.file)
    if item.target.suffix == ".bin":
        try:
            checked_header(blob)
        except DataError as error:
            raise DataError(
                f"{item.file.name} in {source.repo} is not a good shard",
                evidence=error.evidence,
                fix="--repo OWNER/NAME",
            ) from error
    item.target.parent.mkdir(parents=True, exist_ok=True)
    partial = item.target.with_name(f".{item.target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(blob, partial)
    except OSError:  # another file system, or one without links
        shutil.copyfile(blob, partial)
    os.replace(partial, item.target)
    return item


def read_record(folder: Path) -> dict[str, list[object]]:
    """Size, time and SHA-256 of the files that an earlier fetch put into `folder`, so that none is hashed twice."""
    try:
        files = json.loads((folder / RECORD_NAME).read_bytes())["files"]
        return {str(name): list(values) for name, values in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_record(folder: Path, source: HubRepository, items: Iterable[Wanted]) -> None:
    """Note what was verified, and where it came from."""
    files = {}
    for file, target in items:
        stat = target.stat()
        files[file.name] = [stat.st_size, stat.st_mtime_ns, file.sha256]
    record = {"repo": source.repo, "revision": source.revision, "files": read_record(folder) | files}
    write_atomically(folder / RECORD_NAME, json.dumps(record, indent=1) + "\n")


def update_manifest(path: Path, remote: Manifest | None, dataset: str) -> bool:
    """Write what `remote` says of `dataset` beside what the local manifest says of the others.

    True when the local one spoke otherwise of this dataset: it was left from another repository or an older export.
    """
    if remote is None:
        return False
    try:
        local = read_manifest(path) if path.exists() else None
    except DataError:
        local = None
    told = local.dataset(dataset) if local else None
    stale = path.exists() and (local is None or told not in (None, remote.dataset(dataset)))
    # What lies here of other datasets is described by the manifest they came with, whatever `remote` says of them.
    kept = tuple(
        entry
        for entry in (local.datasets if local else ())
        if entry.name != dataset and (path.parent / "datasets" / entry.name).is_dir()
    )
    names = {entry.name for entry in kept}
    rest = replace(remote, datasets=tuple(entry for entry in remote.datasets if entry.name not in names))
    others = local and replace(local, datasets=kept)
    write_manifest(merged_manifest(rest, others), path)
    return stale

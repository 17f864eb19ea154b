"""The Hugging Face hub, as little of it as fetching needs: list a repository at one commit, get files whole."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from paramgolf.errors import DataError, UsageError


class RemoteFile(NamedTuple):
    """One file of a repository."""

    path: str
    size: int
    sha256: str | None
    """Known for files in large file storage."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """A dataset repository, pinned to a commit by `pinned`."""

    repo: str
    revision: str = "main"
    endpoint: str | None = None
    """None: the public hub, or what `HF_ENDPOINT` says to huggingface_hub."""
    cache: Path | None = None
    """None: where huggingface_hub keeps everything."""

    def pinned(self) -> "HubRepository":
        """This repository at the commit that its revision stands for now.

        Raises `UsageError` when it does not exist, `DataError` when the hub cannot be reached.
        """
        hub = hub_library()
        with hub_errors(self.repo):
            info = hub.HfApi(endpoint=self.endpoint).dataset_info(self.repo, revision=self.revision)
        return replace(self, revision=info.sha or self.revision)

    def files(self) -> tuple[RemoteFile, ...]:
        """Every file of the repository, in order of path."""
        hub = hub_library()
        with hub_errors(self.repo):
            tree = hub.HfApi(endpoint=self.endpoint).list_repo_tree(
                self.repo, repo_type="dataset", revision=self.revision, recursive=True
            )
            found = [
                RemoteFile(item.path, item.size, item.lfs.sha256 if item.lfs else None)
                for item in tree
                if isinstance(item, hub.hf_api.RepoFile)
            ]
        return tuple(sorted(found))

    def download(self, file: RemoteFile) -> Path:
        """`file` in the hub's cache, checked against its length and SHA-256; a broken download continues.

        Raises `DataError` when the hub cannot be reached, or gives other bytes twice.
        """
        hub = hub_library()
        found = ""
        for force in (False, True):
            with hub_errors(self.repo):
                path = hub.hf_hub_download(
                    self.repo,
                    file.path,
                    repo_type="dataset",
                    revision=self.revision,
                    endpoint=self.endpoint,
                    cache_dir=self.cache,
                    force_download=force,
                )
            blob = Path(path).resolve()
            if is_same_file(blob, file):
                return blob
            found = f"{blob.stat().st_size:,} bytes, SHA-256 {sha256_of(blob)[:12]}"
        raise DataError(
            f"{file.name} is damaged in the repository or on the way",
            evidence=f"{self.repo}: {found}; the repository lists {file.size:,} bytes, SHA-256 {str(file.sha256)[:12]}",
            fix="try again later; if it stays so, tell the owner of the repository",
        )


def is_same_file(path: Path, file: RemoteFile) -> bool:
    """Whether the local `path` has the length and, where known, the SHA-256 of `file`."""
    if path.stat().st_size != file.size:
        return False
    return file.sha256 is None or sha256_of(path) == file.sha256


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hub_library():  # type: ignore[no-untyped-def]  # an optional package has no type when it is absent
    """The package huggingface_hub. Raises `UsageError` when it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.hf_api
    except ImportError:
        raise UsageError(
            "fetching needs huggingface_hub, which is not installed", fix="pip install 'paramgolf[data]'"
        ) from None
    return huggingface_hub


@contextmanager
def quiet_hub() -> Iterator[None]:
    """No progress bars of the library within: we report progress ourselves."""
    bars = hub_library().utils
    if bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn the errors of the library and of the network under it into ours."""
    errors = hub_library().errors
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"there is no dataset repository {repo!r}, or it is not public",
            evidence=str(error).strip().splitlines()[0],
            fix="--repo OWNER/NAME; for a private one, hf auth login",
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(f"{repo!r} is not the name of a repository", evidence=str(error)) from error
    except (OSError, errors.EntryNotFoundError, *transport_errors()) as error:
        cause = error.__cause__ or error
        raise DataError(
            f"{repo} cannot be fetched from",
            evidence=f"{type(cause).__name__}: {str(cause).strip().splitlines()[0] if str(cause).strip() else ''}",
            fix="repeat the command; it continues where it stopped",
        ) from error


def transport_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library under huggingface_hub raises; which library it is depends on the version."""
    loaded = (sys.modules.get(name) for name in ("httpx2", "httpx", "requests"))
    return tuple(getattr(module, "HTTPError", None) or module.RequestException for module in loaded if module)

"""The true bytes of code that a run's submission has."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from paramgolf.bundle.amalgamate import amalgamate
from paramgolf.bundle.shrink import packed
from paramgolf.run import Run

SIZES: dict[str, int] = {}
"""Digest of a configuration and of this package -> bytes; seeds and names change a few at most."""


def bundle_size(run: Run, kept: Path | None = None) -> int:
    """Bytes of the bundle of `run`, as `paramgolf bundle` writes it.

    Takes a minute or two the first time; the file `kept` remembers it for other processes. Raises `UsageError` when
    python-minifier is not installed, `GolfError` when something in the configuration is not of this package.
    """
    key = f"{run.digest} {package_digest()}"
    if key not in SIZES:
        SIZES.update(remembered(kept))
    if key not in SIZES:
        SIZES[key] = len(packed(amalgamate(run).lean).content)
        remember(kept, {**remembered(kept), key: SIZES[key]})
    return SIZES[key]


@cache
def package_digest() -> str:
    """12 hexadecimal characters that identify the source of the package."""
    root, found = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def remembered(kept: Path | None) -> dict[str, int]:
    """What the file says; nothing when there is none, or when it is damaged."""
    try:
        sizes = json.loads(kept.read_text(encoding="utf-8")) if kept else {}
    except (OSError, ValueError):
        return {}
    whole = isinstance(sizes, dict) and all(isinstance(size, int) for size in sizes.values())
    return sizes if whole else {}


def remember(kept: Path | None, sizes: dict[str, int]) -> None:
    """Write the file, sizes under this version of the package only."""
    if kept is not None:
        current = {key: size for key, size in sizes.items() if key.endswith(package_digest())}
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_name(f"{kept.name}.{os.getpid()}")
        new.write_text(json.dumps(current, indent=1), encoding="utf-8")
        new.replace(kept)

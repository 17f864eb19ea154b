"""The true bytes of code that a run's submission has."""

from paramgolf.bundle.amalgamate import amalgamate
from paramgolf.bundle.shrink import packed
from paramgolf.run import Run

SIZES: dict[str, int] = {}
"""Digest of a configuration -> bytes, worked out once a process: seeds and names change a few at most."""


def bundle_size(run: Run) -> int:
    """Bytes of the bundle of `run`, as `paramgolf bundle` writes it. Takes some seconds the first time.

    Raises `UsageError` when python-minifier is not installed.
    """
    if run.digest not in SIZES:
        SIZES[run.digest] = len(packed(amalgamate(run).lean).content)
    return SIZES[run.digest]

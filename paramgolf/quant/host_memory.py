"""Memory of the process that calibrates and quantizes, where a few GB are all that there is."""

import ctypes
from contextlib import suppress


def give_back_memory() -> None:
    """Let the system have what freed tensors have left, where the C library can (glibc).

    It would keep that for the next ones, and keep more the more often sizes change: 2 GB of pr1855.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)

"""Watches what code does while it scores: files it opens, connections it tries, programs it starts.

Python tells such things to audit hooks, which nothing can take off again, so there is one for the process and it
listens only inside `watching`. Code of other languages that is called from Python goes unheard: for that the score is
taken again without a network (`reproduction.py`).
"""

import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paramgolf.errors import GolfError

NETWORK_EVENTS = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "socket.sendmsg",
    "urllib.Request",
)
CODE_ENDINGS = (".py", ".pyc")
"""Python code is counted as code."""
PROGRAM_EVENTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")


class NetworkRefused(GolfError, OSError):
    """The judged code asked for the network while it scored."""


@dataclass
class Watched:
    """What was seen, each thing once, in order."""

    files: dict[str, int] = field(default_factory=dict)
    """Path -> bytes of every file opened for reading that is no part of Python, its packages or the system."""
    network: dict[str, None] = field(default_factory=dict)
    programs: dict[str, None] = field(default_factory=dict)

    def plus(self, other: "Watched") -> "Watched":
        """Both together."""
        return Watched(self.files | other.files, self.network | other.network, self.programs | other.programs)


@dataclass
class AuditEar:
    """The state of the one hook of this process."""

    installed: bool = False
    watched: Watched | None = None
    ignored: tuple[str, ...] = ()


EAR = AuditEar()


@contextmanager
def watching(also_ignored: Sequence[Path] = ()) -> Iterator[Watched]:
    """Inside, reads of files outside Python and the system are noted, and the network is refused.

    Raises `NetworkRefused` into the code that tries to connect; the attempt is noted all the same.
    """
    if not EAR.installed:
        sys.addaudithook(heard)
        EAR.installed = True
    watched = Watched()
    outer = EAR.watched, EAR.ignored
    EAR.ignored = (*system_places(), *(str(path.resolve()) for path in also_ignored))
    EAR.watched = watched
    try:
        yield watched
    finally:
        EAR.watched, EAR.ignored = outer


def heard(event: str, arguments: tuple[Any, ...]) -> None:
    """The hook. Must not do anything that is audited itself, but for `stat`."""
    watched = EAR.watched
    if watched is None:
        return
    if event == "open":
        note_open(watched, arguments)
    elif event in NETWORK_EVENTS:
        what = f"{event} {', '.join(str(a) for a in arguments if not hasattr(a, 'fileno'))}"[:200]
        watched.network[what] = None
        raise NetworkRefused(f"the network is not allowed while scoring: {what}", fix="score without it")
    elif event in PROGRAM_EVENTS:
        watched.programs[f"{event} {arguments[0]}"[:200]] = None


def note_open(watched: Watched, arguments: tuple[Any, ...]) -> None:
    """Note a file that is opened for reading."""
    path, mode, flags = (*arguments, None, None)[:3]
    writes = (
        isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT) and not (isinstance(mode, str) and "r" in mode)
    )
    if not isinstance(path, str | bytes) or writes:
        return
    place = os.path.abspath(os.fsdecode(path))
    real = os.path.realpath(place)
    if place.startswith(EAR.ignored) or real.startswith(EAR.ignored) or place.endswith(CODE_ENDINGS):
        return
    try:
        watched.files[place] = os.stat(place).st_size
    except OSError:
        return


def system_places() -> tuple[str, ...]:
    """Folders of Python, its packages, this package and the operating system."""
    paths = {path for path in sysconfig.get_paths().values() if path}
    own = str(Path(__file__).resolve().parent.parent)
    system = [os.sep + name + os.sep for name in ("proc", "sys", "dev", "etc", "usr", "lib", "lib64")]
    caches = os.path.join(tempfile.gettempdir(), "torchinductor")
    return (*paths, *(os.path.realpath(path) for path in paths), sys.prefix, sys.base_prefix, own, caches, *system)

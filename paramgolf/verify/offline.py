"""Runs a program in a folder without a network, and learns which files it opened."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from paramgolf.errors import GolfError
from paramgolf.verify.watch import NETWORK_EVENTS, Watched, system_places

HEARD = "heard-by-the-judge"
"""Folder in which every Python process of the program leaves what was heard of it."""

EAR_OF_CHILD = '''"""Put in place by the judge: no network, and a list of the files that are read."""
import atexit, json, os, sys

FOLDER, IGNORED, NETWORK = {folder!r}, {ignored!r}, {network!r}
SEEN = {{"files": {{}}, "network": {{}}}}


def hear(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path, mode, flags = (*arguments, None, None)[:3]
        place = os.path.realpath(os.path.abspath(path))
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT) and not (mode and "r" in mode)
        if not writes and not place.startswith(IGNORED) and not place.endswith((".py", ".pyc")):
            try:
                SEEN["files"][place] = os.stat(place).st_size
            except OSError:
                pass
    elif event in NETWORK:
        where = ", ".join(str(a) for a in arguments if not hasattr(a, "fileno"))
        # Processes of one run talk to one another through the loopback; a namespace of their own holds nothing else.
        if not any(own in where for own in ("127.0.0.1", "localhost", "::1", "AF_UNIX")) and where[:1] != "/":
            SEEN["network"][(event + " " + where)[:200]] = None
            raise OSError("the judge has blocked the network")


def leave():
    with open(os.path.join(FOLDER, str(os.getpid()) + ".json"), "w") as file:
        json.dump(SEEN, file)


sys.addaudithook(hear)
atexit.register(leave)
'''


class Ran(NamedTuple):
    """What became of a program."""

    said: str
    """Standard output."""
    kept_away: str
    """How it had no network, in words."""
    watched: Watched


def run_offline(command: Sequence[str], folder: Path, *, seconds: float) -> Ran:
    """Run `command` in `folder` without a network, `python` standing for this interpreter.

    In a network namespace of its own where the system allows that; in any case every Python process refuses what is not
    the loopback. Raises `GolfError` when the program fails or takes longer than `seconds`.
    """
    heard = folder / HEARD
    heard.mkdir()
    ear = EAR_OF_CHILD.format(
        folder=str(heard), ignored=(*system_places(), os.path.realpath(folder)), network=NETWORK_EVENTS
    )
    (folder / "sitecustomize.py").write_text(ear, encoding="utf-8")
    own = own_namespace()
    words = [sys.executable if word in ("python", "python3") else word for word in command]
    try:
        done = subprocess.run(
            [*own, *words], cwd=folder, env=clean_environment(folder), capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise GolfError(
            f"scoring again took longer than {seconds:g} s", fix="give more by --replay-seconds, or --skip reproduction"
        ) from None
    except OSError as error:
        raise GolfError("the command cannot be run", evidence=f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise GolfError("the artifact cannot be scored from the counted code alone", evidence=tail[-600:])
    ways = "a namespace without one and refused sockets" if own else "refused sockets (no namespace is allowed here)"
    return Ran(done.stdout, f"network blocked by {ways}", heard_in(heard))


def heard_in(folder: Path) -> Watched:
    """What all processes left in `folder`."""
    watched = Watched()
    for path in sorted(folder.glob("*.json")):
        left = json.loads(path.read_text(encoding="utf-8"))
        watched = watched.plus(Watched(left["files"], left["network"]))
    return watched


def own_namespace() -> list[str]:
    """The words before a command that give it no network; empty where the system does not allow it."""
    unshare = shutil.which("unshare")
    for words in ([unshare, "-n"], [unshare, "-r", "-n"]) if unshare else ():
        try:
            if subprocess.run([*words, "true"], capture_output=True, timeout=20).returncode == 0:
                return [str(word) for word in words]
        except (OSError, subprocess.TimeoutExpired):
            continue
    return []


def clean_environment(folder: Path) -> dict[str, str]:
    """The environment of the program: nothing of ours, the folder first on Python's path."""
    kept = {"PATH": os.defpath, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)}
    return {**kept, "OMP_WAIT_POLICY": "PASSIVE", "LC_ALL": "C.UTF-8"}

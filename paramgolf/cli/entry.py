"""From the words of the command line to an exit code."""

import errno
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cyclopts import CycloptsError

from paramgolf.cli.application import application
from paramgolf.errors import GolfError, UsageError

TRACEBACK = "--traceback"
BY_CTRL_C, BY_SIGTERM = 128 + signal.SIGINT, 128 + signal.SIGTERM
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command that `words` (by default those of the process) spell; returns its exit code."""
    # Threads of torch that wait for one another must not spin: on two cores that others used too, 40 steps of the
    # demo took 14 to 21 s instead of 164 to 175. Read when torch is imported, so it is set before any command runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = list(sys.argv[1:] if words is None else words)
    wanted = [word for word in given if word != TRACEBACK]
    try:
        with sigterm_unwinds():
            code = application()(wanted) or 0
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return BY_CTRL_C
    except BrokenPipeError:
        # The reader has enough (`| head`). Nothing may be flushed into the pipe on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CycloptsError, GolfError, OSError) as error:
        if TRACEBACK in given:
            traceback.print_exc()
        told = told_error(error, wanted)
        print(f"error: {told}", file=sys.stderr)
        return told.exit_code


def told_error(error: CycloptsError | GolfError | OSError, words: Sequence[str]) -> GolfError:
    """`error` with cause, evidence and the next command."""
    if isinstance(error, GolfError):
        return error
    if isinstance(error, CycloptsError):
        cause = str(error)
        return UsageError(cause[:1].lower() + cause[1:].rstrip("."), fix=help_command(words))
    reason = (error.strerror or str(error)).lower()
    place = Path(str(error.filename)) if error.filename else Path()
    if error.errno in NO_SPACE:
        folder = next(above for above in (place.absolute(), *place.absolute().parents) if above.is_dir())
        free = f"{shutil.disk_usage(folder).free:,} bytes free in {folder}"
        fix = "free some space there, then repeat the command; a run goes on with --resume auto"
        return GolfError(
            f"no room to write: {reason}", evidence=f"{place}, {free}" if error.filename else free, fix=fix
        )
    return GolfError(f"{place}: {reason}" if error.filename else reason, fix="check that path and who may use it")


def help_command(words: Sequence[str]) -> str:
    """The command that shows how what was meant by `words` is spelled."""
    app, path = application(), ["paramgolf"]
    for word in words:
        if word.startswith("-") or word not in app:
            break
        app = app[word]
        path.append(word)
    return " ".join([*path, "--help"])


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM leave through every `finally`, as Ctrl-C does, so that nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(signal.SIGTERM, leave_by_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


def leave_by_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    """The handler of SIGTERM outside training, which has its own."""
    raise SystemExit(BY_SIGTERM)

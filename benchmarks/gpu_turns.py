"""A GPU of one's own: which there are, and whose turn it is on each."""

import os
from pathlib import Path

from filelock import FileLock

from paramgolf.events import Event


class Turns:
    """Order among the processes of one GPU: one trains at a time, and the next compiles while the one before is scored.

    A killed process loses its turns.
    """

    def __init__(self, folder: Path, gpu: str) -> None:
        self.compiling, self.clock = FileLock(folder / f".gpu{gpu}.compile"), FileLock(folder / f".gpu{gpu}.clock")

    def heard(self, event: Event) -> None:
        """Listen to the run: wait before its clock starts, and let the next one compile once it has stopped."""
        if event["event"] == "warmed_up":
            self.clock.acquire()
        elif event["event"] == "trained":
            self.compiling.release()

    def over(self) -> None:
        """Give up both."""
        self.compiling.release(force=True)
        self.clock.release(force=True)


def visible_gpus(number: int) -> list[str]:
    """Names of the first `number` GPUs that this process may use; one name that stands for none with 0."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (visible or [str(gpu) for gpu in range(number)])[:number] or ["0"]


def environment(gpu: str, gpus: int) -> dict[str, str] | None:
    """Of a process on `gpu`, one of `gpus` that share the processor's cores."""
    if not gpus:
        return None
    share = str(max(len(os.sched_getaffinity(0)) // gpus, 1))
    threads = {"OMP_NUM_THREADS": share, "TORCHINDUCTOR_COMPILE_THREADS": share}
    return {**threads, **os.environ, "CUDA_VISIBLE_DEVICES": gpu}

"""Runs that are killed, and runs of two processes. Started by `test_processes.py`; prints one JSON object.

It imports once and forks for every run: a run takes a fraction of a second, an interpreter with torch three.
"""

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent))

from tiny import tiny_dataset, tiny_run, tiny_session

import paramgolf.train.checkpoint as checkpoint
from paramgolf.errors import Interrupted
from paramgolf.events import read_events
from paramgolf.stages import execute
from paramgolf.train.distributed import placed

RUN = tiny_run(steps=20, checkpoint_steps=2, log_every=1)
Work = Callable[[], object]


def forked(work: Work) -> int:
    """Do `work` in a process of its own; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except (Interrupted, KeyboardInterrupt):
        code = 130
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def ended(child: int) -> int:
    """The exit code of a process, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def whole_run(data: Path, path: Path) -> object:
    return execute(tiny_session(RUN, tiny_dataset(data), path))


def outcome(path: Path) -> dict[str, Any]:
    """What must not depend on how often a run was killed."""
    weights = load_file(path / "checkpoint" / checkpoint.FILE_NAME)
    result = json.loads((path / "result.json").read_text())
    return {
        "weights": {name: tensor.numpy().tobytes().hex() for name, tensor in sorted(weights.items())},
        "artifact": (path / "artifact.pgolf").read_bytes().hex(),
        "scores": [result[name] for name in ("val_bpb_raw", "val_bpb_export", "val_bpb", "steps", "artifact_bytes")],
        "files": sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()),
    }


def killed_at_random(data: Path, path: Path, seed: int, seconds: float) -> list[int]:
    """Start the run again and again, signalling each process after a random time; returns the exit codes."""
    chance, codes = random.Random(seed), []
    for _ in range(5):
        child = forked(lambda: whole_run(data, path))
        time.sleep(chance.uniform(0.0, seconds))
        os.kill(child, chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        codes.append(ended(child))
    codes.append(ended(forked(lambda: whole_run(data, path))))
    return codes


def suicide(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_around(name: str, moment: str, count: int) -> Work:
    """Arrange that this process is killed `moment` the file `name` is put in its place for the `count`-th time."""
    usual, left = os.replace, count

    def replace(source: Any, target: Any) -> None:
        nonlocal left
        left -= Path(target).name == name
        if left == 0 and moment == "before":
            suicide()
        usual(source, target)
        if left == 0 and moment == "after":
            suicide()

    os.replace = replace
    return suicide


def killed_half_way(count: int) -> None:
    """Arrange that this process is killed when half of the `count`-th checkpoint is written."""
    usual, left = checkpoint.save_file, count

    def save_file(tensors: Any, path: Path, *rest: Any) -> None:
        nonlocal left
        left -= 1
        usual(tensors, path, *rest)
        if left == 0:
            os.truncate(path, path.stat().st_size // 2)
            suicide()

    checkpoint.save_file = save_file


def killed_at(data: Path, path: Path, arrange: Work) -> list[int]:
    """Kill the run at an arranged moment, then let it go on to its end."""

    def doomed() -> None:
        arrange()
        whole_run(data, path)

    return [ended(forked(doomed)), ended(forked(lambda: whole_run(data, path)))]


def in_ranks(data: Path, path: Path, world: int) -> list[int]:
    """One run of `world` processes over gloo, told of one another as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def one_rank(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        with placed("cpu") as place:
            execute(tiny_session(RUN, tiny_dataset(data / str(rank)), path, place))

    children = [forked(lambda rank=rank: one_rank(rank)) for rank in range(world)]
    return [ended(child) for child in children]


def losses(path: Path) -> list[float]:
    return [event["loss"] for event in read_events(path / "events.jsonl") if event["event"] == "step"]


MOMENTS: dict[str, Work] = {
    "half of a checkpoint": lambda: killed_half_way(3),
    "before a checkpoint": lambda: killed_around("state.safetensors", "before", 3),
    "after a checkpoint": lambda: killed_around("state.safetensors", "after", 3),
    "before the last checkpoint": lambda: killed_around("state.safetensors", "before", 11),
    "after the last checkpoint": lambda: killed_around("state.safetensors", "after", 11),
    "before the artifact": lambda: killed_around("artifact.pgolf", "before", 1),
    "after the artifact": lambda: killed_around("artifact.pgolf", "after", 1),
    "before the result": lambda: killed_around("result.json", "before", 1),
}


def main(root: Path) -> None:
    torch.set_num_threads(1)
    data, told = root / "data", {}
    began = time.perf_counter()
    whole_codes = [ended(forked(lambda: whole_run(data, root / "whole")))]
    seconds = time.perf_counter() - began
    told["whole"] = {"codes": whole_codes, **outcome(root / "whole")}
    told["again"] = {"codes": [ended(forked(lambda: whole_run(data, root / "again")))], **outcome(root / "again")}
    for name, arrange in MOMENTS.items():
        path = root / name.replace(" ", "_")
        told[name] = {"codes": killed_at(data, path, arrange), **outcome(path)}
    for seed in range(4):
        path = root / f"random_{seed}"
        told[f"random {seed}"] = {"codes": killed_at_random(data, path, seed, seconds), **outcome(path)}
    codes = in_ranks(data, root / "ranks", 2)
    ranks = {"codes": codes, "losses": losses(root / "ranks"), "alone": losses(root / "whole")}
    print(json.dumps({"runs": told, "ranks": {**ranks, **outcome(root / "ranks")}, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

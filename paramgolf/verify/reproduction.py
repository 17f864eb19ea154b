"""Check 10, reproduction: the score once more, from the artifact and the counted code, in an empty folder, offline."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from io import BytesIO
from lzma import decompress
from pathlib import Path
from typing import NamedTuple

from paramgolf.artifact.code import code_archive, config_modules
from paramgolf.data.dataset import Dataset
from paramgolf.errors import GolfError
from paramgolf.run import Run
from paramgolf.verify.ruling import Ruling, failed, passed

REPRODUCTION = "reproduction"
SAME_MACHINE = 1e-5
"""Bits per byte by which the same artifact may score differently on one machine."""
OTHER_MACHINE = 5e-4
"""The same between devices of other kinds, whose matrix products round differently."""

BLOCK_SOCKETS = '''"""Put in place by the judge: no sockets but those of the file system."""
import socket


class Refused(socket.socket):
    def __init__(self, family=-1, *rest, **named):
        if family not in (socket.AF_UNIX,):
            raise OSError("the judge has blocked the network")
        super().__init__(family, *rest, **named)


socket.socket = Refused
'''


class Replayed(NamedTuple):
    """A score that was taken again."""

    val_loss: float
    val_bpb: float
    tokens: int
    bytes: int
    seconds: float
    network: str
    """How the network was kept away, in words."""


class Claimed(NamedTuple):
    """The scores that a target states."""

    val_loss: float | None
    val_bpb: float | None
    tokens: int | None = None
    bytes: int | None = None
    same_device: bool = True


def check_reproduction(again: Replayed, claimed: Claimed) -> list[Ruling]:
    """Whether the stated scores come again."""
    allowed = SAME_MACHINE if claimed.same_device else OTHER_MACHINE
    evidence = (
        f"again {again.val_bpb:.8f} bpb, {again.val_loss:.8f} nats a token in {again.seconds:.1f} s; {again.network}"
    )
    wrong = []
    for name, stated, measured in (
        ("val_bpb", claimed.val_bpb, again.val_bpb),
        ("val_loss", claimed.val_loss, again.val_loss),
    ):
        if stated is not None and abs(stated - measured) > allowed * max(1.0, abs(measured)):
            wrong.append(f"{name} stated {stated:.8f}, differs by {measured - stated:+.6f}")
    for name, count, counted in (("tokens", claimed.tokens, again.tokens), ("bytes", claimed.bytes, again.bytes)):
        if count is not None and count != counted:
            wrong.append(f"{name} stated {count:,}, counted {counted:,}")
    if wrong:
        said = "the stated score does not come again from the artifact and the code"
        return [failed(REPRODUCTION, said, f"{'; '.join(wrong)}; {evidence}", "reproduction")]
    said = "the score comes again from the artifact and the counted code, in an empty folder"
    return [passed(REPRODUCTION, said, evidence, "reproduction", "self_contained")]


def replayed_run(run: Run, config: Path, artifact: Path, dataset: Dataset, *, device: str, seconds: float) -> Replayed:
    """Score `artifact` in an empty folder that holds the archive of the counted code and nothing else of ours.

    Raises `GolfError` when it does not run there, with the end of what it said.
    """
    modules = sorted(config_modules(run))
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        folder = Path(name)
        with tarfile.open(fileobj=BytesIO(decompress(code_archive("paramgolf.stages", also=modules)))) as archive:
            archive.extractall(folder, filter="data")
        shutil.copy(Path(__file__).with_name("replay.py"), folder / "replay.py")
        shutil.copy(config, folder / "config.toml")
        shutil.copy(artifact, folder / "artifact.pgolf")
        ask = {
            "modules": modules,
            "config": "config.toml",
            "artifact": "artifact.pgolf",
            "val": [str(path.resolve()) for path in dataset.val],
            "sidecars": [str(path.resolve()) for path in dataset.val_bytes],
            "tokenizer": str(getattr(dataset.tokenizer, "path", Path(dataset.tokenizer.name))),
            "device": device,
        }
        if hasattr(dataset.tokenizer, "path"):
            ask["tokenizer"] = str(Path(str(ask["tokenizer"])).resolve())
        (folder / "ask.json").write_text(json.dumps(ask), encoding="utf-8")
        network = run_offline(["-c", "from replay import replay_main; replay_main()"], folder, seconds=seconds)
        answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    if not answer["package_inside"]:
        raise GolfError(
            "the replay took the package from elsewhere", evidence="it was not the unpacked archive that ran"
        )
    return Replayed(
        answer["val_loss"], answer["val_bpb"], int(answer["tokens"]), int(answer["bytes"]), answer["seconds"], network
    )


def run_offline(arguments: Sequence[str], folder: Path, *, seconds: float) -> str:
    """Run this Python in `folder` without a network; returns how it was kept away.

    In a network namespace of its own where the system allows that, else with sockets refused inside Python. Raises
    `GolfError` when the program fails or takes longer than `seconds`.
    """
    (folder / "sitecustomize.py").write_text(BLOCK_SOCKETS, encoding="utf-8")
    own = own_namespace()
    command = [*own, sys.executable, *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=clean_environment(folder), capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise GolfError(
            f"scoring again took longer than {seconds:g} s", fix="give more by --replay-seconds, or --skip reproduction"
        ) from None
    if done.returncode:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise GolfError("the artifact cannot be scored from the counted code alone", evidence=tail[-600:])
    return f"network blocked by {'a namespace without one and ' if own else ''}refused sockets"


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
    """The environment of the replay: nothing of ours, the folder first on Python's path."""
    kept = {"PATH": os.defpath, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)}
    return {**kept, "OMP_WAIT_POLICY": "PASSIVE", "LC_ALL": "C.UTF-8"}

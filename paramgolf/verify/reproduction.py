"""Check 10, reproduction: the score once more, from the artifact and the counted code, in an empty folder, offline."""

import json
import shlex
import shutil
import tarfile
import tempfile
import time
from io import BytesIO
from lzma import decompress
from pathlib import Path
from typing import NamedTuple

from paramgolf.artifact.code import code_archive, config_modules
from paramgolf.bundle.training_log import read_training_log
from paramgolf.data.dataset import Dataset
from paramgolf.errors import GolfError
from paramgolf.folder import RunFolder
from paramgolf.run import Run
from paramgolf.verify.offline import run_offline
from paramgolf.verify.ruling import Ruling, failed, passed
from paramgolf.verify.watch import Watched

REPRODUCTION = "reproduction"
SAME_MACHINE = 1e-5
"""Bits per byte by which the same artifact may score differently on one machine."""
OTHER_MACHINE = 5e-4
"""The same between devices of other kinds, whose matrix products round differently."""


class Replayed(NamedTuple):
    """A score that was taken again."""

    val_loss: float
    val_bpb: float
    tokens: int
    bytes: int
    seconds: float
    network: str
    """How the network was kept away, in words."""
    watched: Watched = Watched()
    """Files read outside the folder, and connections tried."""


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
        if count is not None and counted and count != counted:
            wrong.append(f"{name} stated {count:,}, counted {counted:,}")
    if wrong:
        said = "the stated score does not come again from the artifact and the code"
        return [failed(REPRODUCTION, said, f"{'; '.join(wrong)}; {evidence}", "reproduction")]
    said = "the score comes again from the artifact and the counted code, in an empty folder"
    return [passed(REPRODUCTION, said, evidence, "reproduction", "self_contained")]


def replayed_run(run: Run, kept: RunFolder, dataset: Dataset, *, device: str, seconds: float) -> Replayed:
    """Score the artifact of a run in an empty folder that holds the archive of the counted code, nothing else of ours.

    Raises `GolfError` when it does not run there, with the end of what it said.
    """
    modules = sorted(config_modules(run))
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        folder = Path(name)
        with tarfile.open(fileobj=BytesIO(decompress(code_archive("paramgolf.stages", also=modules)))) as archive:
            archive.extractall(folder, filter="data")
        shutil.copy(Path(__file__).with_name("replay.py"), folder / "replay.py")
        shutil.copy(kept.config, folder / "config.toml")
        shutil.copy(kept.artifact, folder / "artifact.pgolf")
        ask = {
            "modules": modules,
            "config": "config.toml",
            "artifact": "artifact.pgolf",
            "digest": kept.read_json(kept.result)["digest"],
            "val": [str(path.resolve()) for path in dataset.val],
            "sidecars": [str(path.resolve()) for path in dataset.val_bytes],
            "tokenizer": str(getattr(dataset.tokenizer, "path", Path(dataset.tokenizer.name))),
            "device": device,
        }
        if hasattr(dataset.tokenizer, "path"):
            ask["tokenizer"] = str(Path(str(ask["tokenizer"])).resolve())
        (folder / "ask.json").write_text(json.dumps(ask), encoding="utf-8")
        ran = run_offline(["python", "-c", "from replay import replay_main; replay_main()"], folder, seconds=seconds)
        answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    if not answer["package_inside"]:
        raise GolfError(
            "the replay took the package from elsewhere", evidence="it was not the unpacked archive that ran"
        )
    counts = int(answer["tokens"]), int(answer["bytes"])
    return Replayed(answer["val_loss"], answer["val_bpb"], *counts, answer["seconds"], ran.kept_away, ran.watched)


def replayed_command(folder: Path, command: str, *, seconds: float) -> Replayed:
    """Run `command` in a copy of a submission's folder, offline, and read the score from what it says or logs.

    Weights, logs of earlier runs and everything else of the folder come along: what is counted is checked elsewhere.
    Raises `GolfError` when it fails or tells no score.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        place = Path(name) / folder.name
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("*.log", "__pycache__", "sitecustomize.py"))
        ran = run_offline(shlex.split(command), place, seconds=seconds)
        texts = [ran.said, *(log.read_text("utf-8", "replace") for log in sorted(place.rglob("*.log")))]
    facts = [read_training_log(text) for text in texts]
    scores = [score for fact in facts for score in fact.scores if not score.diagnostic]
    if not scores:
        raise GolfError(
            "the command tells no score", evidence=f"no val_loss and val_bpb in {len(ran.said):,} characters of output"
        )
    exact = next((score for score in reversed(scores) if "exact" in score.name), scores[-1])
    tokens = next((fact.val_tokens for fact in facts if fact.val_tokens), 0)
    return Replayed(exact.val_loss, exact.val_bpb, tokens, 0, time.perf_counter() - began, ran.kept_away, ran.watched)

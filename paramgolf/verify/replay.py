"""Scores an artifact from the counted code alone. Runs in an empty folder, against the unpacked archive of the code.

Copied beside the archive and started there by `reproduction.py`; it imports nothing of the judge.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from paramgolf.artifact.container import expected_of, unpack
from paramgolf.config import from_toml
from paramgolf.data.dataset import Dataset
from paramgolf.data.tokenizers import load_tokenizer
from paramgolf.events import Events
from paramgolf.quant.plan import restore
from paramgolf.run import Run
from paramgolf.stages import fresh_model
from paramgolf.train.distributed import Place
from paramgolf.validation import Validation


def replay(ask: dict[str, Any]) -> dict[str, float]:
    """The score of `ask`: modules, config, artifact and its digest, validation shards, sidecars, tokenizer, device."""
    for name in ask["modules"]:
        import_module(name)
    run = from_toml(Run, Path(ask["config"]).read_text(encoding="utf-8"))
    place = Place(torch.device(ask["device"]))
    shards, sidecars = (tuple(map(Path, ask[name])) for name in ("val", "sidecars"))
    dataset = Dataset("replayed", (), shards, sidecars, load_tokenizer(ask["tokenizer"]), "")
    model = fresh_model(run, place)
    restore(model, unpack(Path(ask["artifact"]).read_bytes(), expected_of(model), digest=ask["digest"]))
    model.at(1.0)
    validation = Validation.of(run, dataset, place, Events())
    done = validation.final(model)
    return {
        "val_loss": done.tally.nats_per_token,
        "val_bpb": done.tally.bits_per_byte,
        "tokens": done.tally.tokens,
        "bytes": done.tally.bytes,
        "seconds": done.seconds,
    }


def replay_main() -> None:
    """Read the question from `ask.json`, write the answer to `answer.json`."""
    answer = replay(json.loads(Path("ask.json").read_text(encoding="utf-8")))
    answer["package_inside"] = float(
        str(Path(sys.modules["paramgolf"].__file__ or "").resolve()).startswith(str(Path.cwd()))
    )
    Path("answer.json").write_text(json.dumps(answer), encoding="utf-8")

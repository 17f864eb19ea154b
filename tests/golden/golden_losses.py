"""First training losses of every preset, at reduced width, on the CPU.

`python tests/golden/golden_losses.py` writes them anew. They come from the real trainer on tokens of a fixed
generator, so that a change of model, optimizer, schedule or loader that moves a number shows. Arithmetic differs in
the last bits between versions of torch and processors: bf16 instead of fp32 in Muon moves these losses by 1e-5, a
learning rate that is 5 % larger by 3e-4 and more, so they are compared to 1e-4.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from tiny import CPU

from paramgolf.batch import BOS
from paramgolf.data.shards import ShardWriter
from paramgolf.evaluate.evaluation import EvaluateConfig
from paramgolf.optim.groups import Optimizer
from paramgolf.optim.schedule import Progress
from paramgolf.presets import PRESETS, preset
from paramgolf.quant.plan import QuantConfig
from paramgolf.run import Run
from paramgolf.stages import fresh_model
from paramgolf.train.clock import Clock
from paramgolf.train.loop import Trainer

FILE = Path(__file__).parent / "losses.json"
SEQ_LEN, ROWS = 64, 8
FRACTIONS = (0.0, 0.0, 0.9)
"""Share of training at which each step is taken: the last one with everything that begins late."""


def reduced(run: Run) -> Run:
    """The preset at width 128 on small batches of two parts, at the start of a long run by steps.

    Heads keep the 16 channels that partial rotation needs. Rows that grow do so to the same proportions.
    """
    dim, tokens = 128, SEQ_LEN * ROWS
    heads = max(count for count in range(1, run.model.heads + 1) if not dim % count and not count % run.model.kv_heads)
    model = replace(run.model, dim=dim, heads=heads, context=tokens)
    settings: dict[str, Any] = {"by": "steps", "steps": 20_000}
    if growth := run.train.seq_growth:
        settings["seq_growth"] = replace(growth, earlier=tuple(SEQ_LEN >> n for n in range(len(growth.earlier), 0, -1)))
    return replace(
        run,
        seed=1337,
        model=model,
        quant=QuantConfig(),  # exports and scores nothing, with windows that these rows could not hold
        evaluate=EvaluateConfig(),
        train=replace(run.train, batch_tokens=tokens, device_tokens=tokens // 2, seq_len=SEQ_LEN, **settings),
    )


def fixed_tokens(vocab: int) -> np.ndarray:
    """Documents of about 90 tokens in which some tokens are far more frequent than others."""
    random = np.random.Generator(np.random.PCG64(7))
    ids = 2 + (random.random(40_000) ** 3 * (vocab - 2)).astype(np.uint16)
    ids[random.random(40_000) < 1 / 90] = BOS
    ids[0] = BOS
    return ids


def first_losses(name: str) -> list[float]:
    """Losses of the first steps of a preset, nats a token."""
    run = reduced(preset(name))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(Path(folder), "golden", "train", shard_tokens=10_000) as writer:
            writer.write(fixed_tokens(run.model.vocab))
        micro = run.train.batch_tokens // run.train.accumulation(1)
        loader = run.data.loader.build(writer.paths, tokens=micro, seq_len=SEQ_LEN, seed=run.seed)
        model = fresh_model(run, CPU)
        clock = Clock(run.train, run.contest.train_seconds)
        trainer = Trainer(run.train, model, Optimizer(model, run.optim), loader, clock, CPU)
        losses = []
        for step, fraction in enumerate(FRACTIONS):
            trainer.take_step(Progress(fraction=fraction, step=step, left=10_000.0))
            losses.append(trainer.finished_loss(step))
    return losses


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: [round(x, 6) for x in first_losses(name)] for name in PRESETS}, indent=2) + "\n")
    print(FILE.read_text())

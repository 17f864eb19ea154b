"""The demo: the baseline at a size that a laptop's CPU trains in two minutes."""

from dataclasses import replace

from paramgolf.contest import DEMO
from paramgolf.data.config import DataConfig
from paramgolf.presets.baseline import baseline
from paramgolf.run import Run
from paramgolf.techniques.data import Sequential
from paramgolf.techniques.evaluate import Sliding
from paramgolf.techniques.optim import Warmdown
from paramgolf.train.config import TrainConfig


def demo() -> Run:
    """4 layers of width 128 on the source text of the installed Python, by steps, so that it repeats bit for bit."""
    run = baseline()
    return replace(
        run,
        name="demo",
        contest=DEMO,
        data=DataConfig(corpus="stdlib", variant="sp1024", loader=Sequential()),
        model=replace(run.model, dim=128, layers=4, heads=4, kv_heads=2, context=256),
        optim=replace(
            run.optim,
            matrix=replace(run.optim.matrix, momentum_steps=50, precision="float32"),
            schedule=Warmdown(share=0.6),
        ),
        train=TrainConfig(
            batch_tokens=8_192, device_tokens=8_192, seq_len=256, by="steps", steps=300, log_every=25, warmup=0
        ),
        evaluate=replace(run.evaluate, protocol=Sliding(stride=128), batch_tokens=16_384),
    )

"""The demo: the baseline at a size that a laptop's CPU trains in two minutes."""

from dataclasses import replace

from paramgolf.contest import DEMO
from paramgolf.data.config import DataConfig
from paramgolf.presets.baseline import baseline
from paramgolf.presets.golf import at_equal_slope
from paramgolf.quant.training_batches import TrainingBatches
from paramgolf.run import Run
from paramgolf.techniques.artifact import MixingCoder
from paramgolf.techniques.data import Shuffled
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
        # In file order, neighbouring rows come from one module: 2.78 bpb where shuffled rows give 2.18 (docs/LOG.md).
        data=DataConfig(corpus="stdlib", variant="sp1024", loader=Shuffled()),
        model=replace(run.model, dim=128, layers=4, heads=4, kv_heads=2, context=128),
        optim=replace(
            run.optim,
            matrix=replace(run.optim.matrix, momentum_steps=150, precision="float32"),
            schedule=Warmdown(share=0.6),
        ),
        train=TrainConfig(
            batch_tokens=2_048, device_tokens=2_048, seq_len=128, by="steps", steps=1_000, log_every=25, warmup=0
        ),
        quant=replace(at_equal_slope(run.quant, states=8), calibration=TrainingBatches(batches_read=64)),
        artifact=replace(run.artifact, coder=MixingCoder()),
        evaluate=replace(run.evaluate, protocol=Sliding(stride=64), batch_tokens=8_192),
    )

"""Presets of the non-record track: ternary and binary weights, a universal transformer, random adapters.

Where the catalogue is silent on a setting, the baseline's stands.
"""

from dataclasses import replace

from paramgolf.artifact.container import ArtifactConfig
from paramgolf.contest import Contest
from paramgolf.model.mlp import FeedForward
from paramgolf.optim.groups import OptimConfig
from paramgolf.optim.muon import MuonConfig
from paramgolf.presets.baseline import baseline
from paramgolf.presets.march import pr549
from paramgolf.run import Run
from paramgolf.techniques.artifact import LzmaCoder
from paramgolf.techniques.evaluate import Temperature
from paramgolf.techniques.model import (
    BinaryLinear,
    FactorizedEmbedding,
    IterationEmbedding,
    PolySoftcap,
    QKGain,
    QKNorm,
    RandomAdapters,
    Recurrence,
    TernaryLinear,
    Yarn,
    ZLoss,
)
from paramgolf.techniques.optim import RowNorm, Warmdown
from paramgolf.techniques.quant import Binary, Int8Rows, Ternary


def ternary() -> Run:
    """Ternary U-Net (#640), 2026-03-24. Published: 1.1570 in ten minutes with 73.7 M parameters.

    10 layers of width 768 at 1.6 bits a weight, so without weight decay and averages; logits at a temperature of 0.90,
    chosen on training text; LZMA. Not here: the norm before its output projections and FP8 for what stays unquantized.
    The published count, here and in `binary`, exceeds the described parts by 6,291,456: one 8192 × 768 matrix that does
    not grow with the layers. It was counted and not kept: 1.3 MB more, at ternary digits, would not have fitted (an
    untied head left unused has that shape; the catalogue does not name it).
    """
    run = baseline()
    return replace(
        run,
        name="ternary",
        data=replace(run.data, variant="sp8192"),
        model=replace(
            run.model,
            vocab=8192,
            dim=768,
            layers=10,
            embedding=FactorizedEmbedding(rank=254),
            on_qk=(QKNorm(), Yarn(base=5000.0, trained=1024, longest=2048), QKGain(start=2.25)),
            mlp=FeedForward(mult=4.0),
            linear=TernaryLinear(group=128),
            softcap=PolySoftcap(cap=10.0),
            objective=ZLoss(weight=1e-4),
        ),
        optim=OptimConfig(
            matrix=MuonConfig(lr=0.04, steps=3),
            token=replace(run.optim.token, lr=0.02),
            scalar=replace(run.optim.scalar, lr=0.02),
            schedule=Warmdown(share=0.2),
            on_update=(RowNorm(),),
        ),
        train=replace(run.train, warmup=5),
        quant=replace(run.quant, attention=Ternary(group=128), mlp=Ternary(group=128), projection=Int8Rows()),
        artifact=ArtifactConfig(coder=LzmaCoder()),
        evaluate=replace(run.evaluate, on_logits=(Temperature(value=0.90),)),
    )


def binary() -> Run:
    """Binary U-Net. Published: 1.1239 after 50,000 steps, about two hours, with 106 M parameters in 15 layers.

    Signs instead of ternary digits. Not here: the running mean mixed into its blocks. In ten minutes it is worse than
    ternary.
    """
    run = ternary()
    return replace(
        run,
        name="binary",
        contest=Contest(name="two-hours", train_seconds=7_200.0),
        model=replace(run.model, layers=15, linear=BinaryLinear(group=128)),
        train=replace(run.train, steps=50_000),
        quant=replace(run.quant, attention=Binary(group=128), mlp=Binary(group=128)),
    )


def pr1110() -> Run:
    """#1110, a universal transformer. Published: 1.2249 in 4.95 MB with 8.1 M parameters at 101.6 ms a step.

    3 blocks in 4 sweeps with a learned vector for each. Its width is not in the catalogue: at 512 it has 6.0 M.
    """
    run = baseline()
    return replace(
        run,
        name="pr1110",
        model=replace(
            run.model,
            layers=3,
            order=Recurrence(first=0, last=2, starts=(0.0, 0.0, 0.0)),
            on_step=(*run.model.on_step, IterationEmbedding()),
        ),
    )


def pr2058() -> Run:
    """#2058, random-linear adapters. Published: 1.1971. 12 layers of 3×, feed-forwards as random matrices and rank 160.

    The rest of its stack is not in the catalogue: #549's stands here.
    """
    run = pr549()
    return replace(
        run,
        name="pr2058",
        model=replace(run.model, layers=12, on_blocks=(RandomAdapters(rank=160),)),
    )

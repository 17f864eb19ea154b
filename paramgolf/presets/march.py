"""Record presets of March 2026: 1,024 pieces, from longer rows to eleven layers with XSA, EMA and side embeddings.

Exports go from int8 over int6 rows and GPTQ-lite to GPTQ; embedding and tables stay int8. Published scores are of 8
H100 in 600 s.
"""

from dataclasses import replace

from paramgolf.artifact.container import ArtifactConfig
from paramgolf.model.config import GPTConfig
from paramgolf.model.mlp import FeedForward
from paramgolf.optim.adam import AdamConfig
from paramgolf.optim.groups import OptimConfig
from paramgolf.optim.muon import MuonConfig
from paramgolf.presets.baseline import baseline
from paramgolf.run import Run
from paramgolf.techniques.artifact import LzmaCoder, ZstdCoder
from paramgolf.techniques.data import Coprime
from paramgolf.techniques.evaluate import SGDTTT, Sliding
from paramgolf.techniques.model import (
    XSA,
    BigramHash,
    LeakyReLUSquared,
    LNScale,
    OrthogonalInit,
    QKGain,
    QKNorm,
    Rope,
    SmearV1,
    UNetSkips,
    ValueEmbedding,
)
from paramgolf.techniques.optim import EMA, SWA, WarmdownSteps
from paramgolf.techniques.quant import GPTQ, QuantileSearch, RowGridCodes, SelectivePruning, SelfGenerated
from paramgolf.train.config import TrainConfig


def seq2048() -> Run:
    """LongContextSeq2048, 2026-03-18. Published: 1.206. The baseline on rows of 2,048 with lower learning rates.

    The table of rotations was built for 1,024 positions and stretched, here and in every record before #1218.
    """
    run = baseline()
    return replace(
        run,
        name="seq2048",
        model=replace(run.model, context=2048, on_qk=(QKNorm(), Rope(trained_for=1024), QKGain(start=1.5))),
        optim=replace(
            run.optim,
            matrix=replace(run.optim.matrix, lr=0.032),
            token=replace(run.optim.token, lr=0.04),
            scalar=replace(run.optim.scalar, lr=0.032),
        ),
        train=replace(run.train, seq_len=2048),
    )


def seq4096() -> Run:
    """TrainingOptSeq4096, 2026-03-19. Published: 1.2014. Rows of 4,096, smaller batches, high momentum."""
    run = seq2048()
    return replace(
        run,
        name="seq4096",
        model=replace(run.model, context=4096),
        optim=replace(
            run.optim,
            matrix=replace(run.optim.matrix, lr=0.02, momentum=0.99, momentum_start=0.92, momentum_steps=1500),
            token=replace(run.optim.token, lr=0.03),
            scalar=replace(run.optim.scalar, lr=0.02),
            schedule=WarmdownSteps(iterations=3000),
        ),
        train=replace(run.train, batch_tokens=393_216, device_tokens=49_152, seq_len=4096),
    )


def pr162() -> Run:
    """#162, 2026-03-20. Published: 1.1458. 9 layers, 3× feed-forward, smear, bigram hash, orthogonal start, SWA.

    Export: int6 blocks by absmax, int8 embedding and tables, zstd. The catalogue gives no learning rates for it: those
    of #198's lineage stand here.
    """
    run = baseline()
    return replace(
        run,
        name="pr162",
        model=replace(
            run.model,
            context=2048,
            on_embed=(BigramHash(rows=4096, width=128),),
            on_input=(SmearV1(),),
            on_qk=(QKNorm(), Rope(trained_for=1024), QKGain(start=1.5)),
            mlp=FeedForward(mult=3.0),
            init=OrthogonalInit(),
        ),
        optim=OptimConfig(
            matrix=MuonConfig(lr=0.025, momentum=0.99, momentum_start=0.92, momentum_steps=1500, weight_decay=0.04),
            token=AdamConfig(lr=0.035, weight_decay=0.04),
            scalar=AdamConfig(lr=0.025, weight_decay=0.04),
            schedule=WarmdownSteps(iterations=3000),
            clip=0.3,
            average=SWA(below=0.5, every=50),
        ),
        train=TrainConfig(batch_tokens=786_432, device_tokens=98_304, seq_len=2048, val_every=4000),
        quant=replace(run.quant, attention=RowGridCodes(bits=6), mlp=RowGridCodes(bits=6)),
        artifact=ArtifactConfig(coder=ZstdCoder()),
        evaluate=replace(run.evaluate, protocol=Sliding(stride=64)),
    )


def pr198() -> Run:
    """#198, 2026-03-20. Published: 1.1318. Eleven layers, a bigram table of 2,048 rows."""
    run = pr162()
    model = replace(run.model, layers=11, on_embed=(BigramHash(rows=2048, width=128),))
    return replace(run, name="pr198", model=model)


def pr287() -> Run:
    """#287, 2026-03-21. Published: 1.1271. XSA in the last 4 layers, EMA instead of SWA."""
    run = pr198()
    return replace(
        run,
        name="pr287",
        model=replace(run.model, on_heads=(XSA(last=4),)),
        optim=replace(run.optim, average=EMA(decay=0.997)),
    )


def pr315() -> Run:
    """#315, 2026-03-21. Published: 1.1248. Rotation of 16 of 64 channels, LN scale.

    Its late QAT never ran: the compiled graph kept the switch off (training catalogue §3.7).
    """
    run = pr287()
    on_qk = (QKNorm(), Rope(channels=16, trained_for=1024), QKGain(start=1.5))
    return replace(run, name="pr315", model=replace(run.model, on_qk=on_qk, on_norm=(LNScale(),)))


def pr414() -> Run:
    """#414 on #374, 2026-03-22. Published: 1.1228 best, 1.1233 mean; 26,993,756 parameters; about 7,100 steps.

    Value embedding in layers 9 and 10, warmdown of 3,500 steps. What its settings name and did not run: tight SWA (its
    snapshots were collected, never used: EMA alone is exported) and late QAT. Base 10,000 for 1,024 positions,
    stretched to 2,048: about 22,080. Export: int6 GPTQ-lite, one quantile a matrix, and zstd.
    """
    run = pr315()
    lite = RowGridCodes(bits=6, clip=QuantileSearch(floor=1.0))
    return replace(
        run,
        name="pr414",
        quant=replace(run.quant, attention=lite, mlp=lite),
        model=replace(run.model, on_value=(ValueEmbedding(width=128, last=2),)),
        optim=replace(run.optim, schedule=WarmdownSteps(iterations=3500)),
    )


def pr549() -> Run:
    """#549, 2026-03-23. Published: 1.1194 after SGD test-time training; 26,928,220 parameters; 7,185 steps.

    Squared leaky ReLU, a bigram table of 1,536 rows, at most 9,000 steps, side projections stepped by AdamW. SWA and
    late QAT did not run, as in #414. Export: GPTQ-lite and lzma.
    """
    run = pr414()
    return replace(
        run,
        name="pr549",
        model=replace(run.model, activation=LeakyReLUSquared(slope=0.5), on_embed=(BigramHash(rows=1536, width=128),)),
        optim=replace(run.optim, projections="scalar"),
        train=replace(run.train, steps=9000),
        artifact=ArtifactConfig(coder=LzmaCoder()),
        evaluate=replace(run.evaluate, protocol=SGDTTT(lr=0.002)),
    )


def pr1019() -> Run:
    """#1019, 2026-03-25. Published: 1.1147; 27,067,484 parameters. XSA in all layers, bigram table 3,072 × 112.

    No test-time training; its SWA snapshots were never used. Export: int6 GPTQ calibrated on the model's own text, the
    best of five quantiles for each matrix; its code added the damping twice. Codes of ±1 are pruned if the artifact is
    too large.
    """
    run = pr549()
    feedback = GPTQ(bits=6, clip=QuantileSearch(), damping=0.02)
    return replace(
        run,
        name="pr1019",
        model=replace(run.model, on_heads=(XSA(),), on_embed=(BigramHash(rows=3072, width=112),)),
        train=replace(run.train, steps=20_000),
        quant=replace(
            run.quant,
            attention=feedback,
            mlp=feedback,
            calibration=SelfGenerated(),
            refine=(SelectivePruning(),),
        ),
        evaluate=replace(run.evaluate, protocol=Sliding(stride=64)),
    )


def pr1060() -> Run:
    """#1060, 2026-03-29. Published: 1.1122. The coprime loader, bigram table 2,816 × 112."""
    run = pr1019()
    return replace(
        run,
        name="pr1060",
        data=replace(run.data, loader=Coprime()),
        model=replace(run.model, on_embed=(BigramHash(rows=2816, width=112),)),
    )


def full_model() -> GPTConfig:
    """What every record from #1218 on shares: 11 layers, 4× feed-forward, XSA, gated skips, partial rotation."""
    model = pr315().model
    return replace(
        model,
        on_embed=(),
        on_input=(),
        on_qk=(QKNorm(), Rope(channels=16), QKGain(start=4.0)),
        on_heads=(XSA(),),
        mlp=FeedForward(mult=4.0),
        activation=LeakyReLUSquared(slope=0.5),
        on_step=(UNetSkips(gated=True),),
    )

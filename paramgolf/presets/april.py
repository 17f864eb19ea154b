"""Record presets of the first half of April 2026: larger vocabularies, recurrence, parallel halves; rows of 2,048.

Exports are int6 GPTQ and brotli, from #1394 on with SDClip and of the embedding too; small tensors are fp16. Hessians
are summed over ranks, where the records kept rank 0's.
"""

from dataclasses import replace

from paramgolf.artifact.container import ArtifactConfig
from paramgolf.optim.adam import AdamConfig
from paramgolf.optim.groups import OptimConfig
from paramgolf.optim.muon import MuonConfig
from paramgolf.presets.march import full_model, pr1060
from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.plan import QuantConfig
from paramgolf.quant.training_batches import TrainingBatches
from paramgolf.run import Run
from paramgolf.techniques.artifact import BrotliCoder
from paramgolf.techniques.data import Shuffled
from paramgolf.techniques.evaluate import SGDTTT, NgramTilt
from paramgolf.techniques.model import (
    BigramHash,
    ParallelHalves,
    QKGain,
    QKNorm,
    Recurrence,
    Rope,
    SerialLanes,
    SplitLanes,
    TwoLanes,
    UntiedPasses,
    ValueEmbedding,
)
from paramgolf.techniques.optim import EMA, RowNorm, Warmdown
from paramgolf.techniques.quant import GPTQ, HessianSDClip, Int8Rows, MixedBits, QuantileSearch, SDClip


def pr1204() -> Run:
    """#1204, 2026-03-31. Published: 1.1063. Serial lanes from layer 7; layers 4 and 5 once more, their MLPs untied.

    The repeat began at step 3,000 of about 6,200: here at 0.48 of training. Not here: layer 0 without attention.
    Its "split learning rates" scale gradients of matrices that Muon normalizes: a hidden no-op, left out. Export: int6
    where inputs are strongest, int5 elsewhere; how many is not in the catalogue.
    """
    run = pr1060()
    return replace(
        run,
        name="pr1204",
        model=replace(
            run.model,
            on_embed=(BigramHash(rows=2816, width=112),),
            stream=SerialLanes(last=4),
            order=Recurrence(first=4, last=5, starts=(0.48,)),
            repeats=UntiedPasses(controls=True, mlp=True),
        ),
        quant=replace(run.quant, allocate=MixedBits(keep=60, bits=5)),
    )


def pr1218() -> Run:
    """#1218, 2026-04-01. Published: 1.0979; 34,401,371 parameters; 5,967 steps of 98.9 ms.

    4,096 pieces, 4× feed-forward, weight decay 0.085, gated skips; smear, bigram hash and value residual removed, value
    embedding kept. From here on the table of rotations is built for the training length and not stretched. Export: int6
    GPTQ on 64 batches of training text, int8 embedding.
    """
    run = pr1060()
    feedback = GPTQ(bits=6, clip=QuantileSearch())
    return replace(
        run,
        name="pr1218",
        data=replace(run.data, variant="sp4096"),
        model=replace(full_model(), vocab=4096, on_value=(ValueEmbedding(width=128, last=2),)),
        optim=OptimConfig(
            matrix=MuonConfig(lr=0.02, momentum=0.99, momentum_start=0.92, momentum_steps=1500, weight_decay=0.085),
            token=AdamConfig(lr=0.03, weight_decay=0.085),
            scalar=AdamConfig(lr=0.02, weight_decay=0.02),
            schedule=Warmdown(share=0.667),
            clip=0.3,
            average=EMA(decay=0.997),
        ),
        train=replace(run.train, steps=20_000, reserve_seconds=10.0),
        quant=QuantConfig(
            attention=feedback,
            mlp=feedback,
            embed=Int8Rows(),
            scale=PlainValues(bits=16),
            calibration=TrainingBatches(batches_read=64),
        ),
        artifact=ArtifactConfig(coder=BrotliCoder()),
    )


def pr1285() -> Run:
    """#1285, 2026-04-03. Published: 1.0912. Row normalization, layers 4 and 5 once more, weight decay 0.090.

    The repeat began at step 3,000 of about 5,500: here at 0.5 of training.
    """
    run = pr1218()
    return replace(
        run,
        name="pr1285",
        model=replace(run.model, order=Recurrence(first=4, last=5, starts=(0.5,))),
        optim=replace(run.optim, matrix=replace(run.optim.matrix, weight_decay=0.090), on_update=(RowNorm(),)),
    )


def pr1334() -> Run:
    """#1334, 2026-04-04. Published: 1.0897. Split lanes from layer 7, QK gain 5.0 by its README.

    The log of the later #1477 prints a gain of 4.0; which ran in #1334 is not known.
    """
    run = pr1285()
    on_qk = (QKNorm(), Rope(channels=16), QKGain(start=5.0))
    return replace(run, name="pr1334", model=replace(run.model, on_qk=on_qk, stream=SplitLanes(last=4)))


def pr1394() -> Run:
    """#1394, 2026-04-05. Published: 1.0856; 35,943,512 parameters; 4,986 steps of 118 ms.

    8,192 pieces, no value embedding, layers 4 and 5 twice more from half of training on ("Loop45 × 2" names two extra
    passes), shuffled windows, row normalization. Export: steps by SDClip, 12.85 σ; int8 GPTQ of the embedding, 20 σ.
    """
    run = pr1218()
    feedback = GPTQ(bits=6, clip=SDClip(sigmas=12.85))
    return replace(
        run,
        name="pr1394",
        data=replace(run.data, variant="sp8192", loader=Shuffled()),
        model=replace(run.model, vocab=8192, on_value=(), order=Recurrence(first=4, last=5, starts=(0.50, 0.50))),
        optim=replace(run.optim, on_update=(RowNorm(),)),
        train=replace(run.train, reserve_seconds=12.0),
        quant=replace(run.quant, attention=feedback, mlp=feedback, embed=GPTQ(bits=8, clip=SDClip(sigmas=20.0))),
    )


def pr1412() -> Run:
    """#1412, 2026-04-06. Published: 1.0835. Parallel halves from layer 7, extra passes one after the other.

    Export: rows that meet strong inputs get wider clips.
    """
    run = pr1394()
    order = Recurrence(first=4, last=5, starts=(0.50, 0.65))
    feedback = GPTQ(bits=6, clip=HessianSDClip(sigmas=12.85, weight=0.175))
    return replace(
        run,
        name="pr1412",
        model=replace(run.model, stream=ParallelHalves(last=4), order=order),
        quant=replace(run.quant, attention=feedback, mlp=feedback),
    )


def pr1413() -> Run:
    """#1413, 2026-04-06. Published: 1.0828 after SGD test-time training. QK gain 5.0 on #1394."""
    run = pr1394()
    on_qk = (QKNorm(), Rope(channels=16), QKGain(start=5.0))
    evaluation = replace(run.evaluate, protocol=SGDTTT(lr=0.005))
    return replace(run, name="pr1413", model=replace(run.model, on_qk=on_qk), evaluate=evaluation)


def pr1493() -> Run:
    """#1493, 2026-04-09. Published: 1.0810 after SGD test-time training; 35,944,536 parameters; 4,550 steps of 129 ms.

    Layers 3 to 5 twice more from 0.35 of training on, parallel halves from layer 7, QK gain 5.25, weight decay 0.095.
    When the passes begin, rows of the U-Net skips come to join other layers than before (architecture §6.3). Its log
    (seed 42) also names a hashed embedding of 16,384 rows in test-time training, which the catalogue does not describe:
    not here.
    """
    run = pr1394()
    return replace(
        run,
        name="pr1493",
        model=replace(
            run.model,
            on_qk=(QKNorm(), Rope(channels=16), QKGain(start=5.25)),
            stream=ParallelHalves(last=4),
            order=Recurrence(first=3, last=5, starts=(0.35, 0.35)),
        ),
        optim=replace(
            run.optim,
            matrix=replace(run.optim.matrix, lr=0.022, weight_decay=0.095),
            schedule=Warmdown(share=0.72),
            average=EMA(decay=0.9965),
        ),
        evaluate=replace(run.evaluate, protocol=SGDTTT(lr=0.005)),
    )


def pr1514() -> Run:
    """#1514, 2026-04-09. Published: 1.0798. Momentum 0.97, QK gain 5.0, the passes from half of training on.

    Its value residual was an option left off. The settings of its n-gram tilt are not known: these are #2135's.
    """
    run = pr1493()
    return replace(
        run,
        name="pr1514",
        model=replace(
            run.model,
            on_qk=(QKNorm(), Rope(channels=16), QKGain(start=5.0)),
            order=Recurrence(first=3, last=5, starts=(0.50, 0.50)),
        ),
        optim=replace(run.optim, matrix=replace(run.optim.matrix, momentum=0.97)),
        evaluate=replace(run.evaluate, on_logits=(NgramTilt(),)),
    )


def pr1529() -> Run:
    """#1529, 2026-04-10. Published: 1.0758. Two lanes from layer 8 (variant D) in place of parallel halves."""
    run = pr1493()
    return replace(run, name="pr1529", model=replace(run.model, stream=TwoLanes(last=3)))

"""Presets after the last record, on canonical data: mostly evaluation; of training, learned bounds and growing rows.

All were scored with phased test-time training.
"""

from dataclasses import replace

from paramgolf.presets.packed_era import LAST_ADAPTERS, pr1855
from paramgolf.quant.training_batches import TrainingBatches
from paramgolf.run import Run
from paramgolf.techniques.evaluate import NgramTilt, PhasedTTT
from paramgolf.techniques.model import AsymLogit, LeakyReLUSquared, QKGain, QKNorm, Rope
from paramgolf.techniques.quant import LQER, AWQLite
from paramgolf.train.growth import SeqGrowth

NO_QV_ADAPTERS = replace(LAST_ADAPTERS, targets=("k", "out", "mlp", "head"), lr=0.75e-4)
"""Adapters of #1953: none on q and v, three quarters of the learning rate."""


def pr1945() -> Run:
    """#1945. Published: 1.0594. #1855 with AWQ-lite (#1908) and two learned bounds of the logits (#1923).

    There only test-time training moves the bounds, from 30; here they are parameters and learn all along.
    """
    run = pr1855()
    return replace(
        run,
        name="pr1945",
        model=replace(run.model, softcap=AsymLogit(cap=30.0)),
        quant=replace(run.quant, refine=(AWQLite(width=64, top=1), *run.quant.refine)),
    )


def pr1953() -> Run:
    """#1953. Published: 1.05855. QK gain 5.25; scored with 2,560 tokens of context (training stays at 2,048).

    Its adapters leave out q and v.
    """
    run = pr1945()
    return replace(
        run,
        name="pr1953",
        model=replace(run.model, on_qk=(QKNorm(), Rope(channels=16), QKGain(start=5.25))),
        evaluate=replace(run.evaluate, protocol=PhasedTTT(adapters=NO_QV_ADAPTERS, length=2560)),
    )


def pr2014() -> Run:
    """#2014. Published: 1.05759 (reproduced at 1.05831); 35,945,673 parameters; 4,885 steps of 122.0 ms.

    Documents cut at 1,024 tokens until 0.1 of training, at 2,048 until 0.7, at 3,072 to the end; scored with 3,072
    (its plain evaluation at stride 1,536); 4 s kept. Part of the gain over #1855 is that longer evaluation. One phase,
    24 documents side by side, short documents in chunks of 8 and 24.
    """
    run = pr1953()
    adapters = replace(NO_QV_ADAPTERS, documents=24, short=("256:8", "2000:24"))
    growth = SeqGrowth(earlier=(1024, 2048), until=(0.1, 0.7), rewarm=32)
    return replace(
        run,
        name="pr2014",
        train=replace(run.train, seq_len=3072, seq_growth=growth, reserve_seconds=4.0),
        evaluate=replace(run.evaluate, protocol=PhasedTTT(adapters=adapters, length=3072, phases=1)),
    )


def pr2140() -> Run:
    """#2140. Published: 1.0570. Slope 0.3 on #2014 (null before export: 1.06017 against 1.06014) and an n-gram tilt."""
    run = pr2014()
    evaluation = replace(run.evaluate, on_logits=(NgramTilt(),))
    return replace(
        run, name="pr2140", model=replace(run.model, activation=LeakyReLUSquared(slope=0.3)), evaluate=evaluation
    )


def pr2135() -> Run:
    """#2135 on #2130. Published: 1.05651. Matrices at 0.028 and learned bounds; the rest is export and evaluation.

    Export: calibration on 32 batches instead of 16, LQER with steps for 32 numbers. Scored with 2,560 tokens of
    context, one phase, no adapters on q and v, and an n-gram tilt. The catalogue does not say which of #1953's and
    #2014's other settings #2130 has: here it stands on #1945.
    """
    run = pr1945()
    return replace(
        run,
        name="pr2135",
        optim=replace(run.optim, matrix=replace(run.optim.matrix, lr=0.028)),
        quant=replace(
            run.quant,
            calibration=TrainingBatches(batches_read=32),
            refine=(AWQLite(width=64, top=1), LQER(rank=4, top=3, bits=4, group=32)),
        ),
        evaluate=replace(
            run.evaluate, protocol=PhasedTTT(adapters=NO_QV_ADAPTERS, length=2560, phases=1), on_logits=(NgramTilt(),)
        ),
    )

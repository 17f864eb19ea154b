"""The last record with this laboratory's own export and test-time training."""

from dataclasses import replace
from typing import Literal

from paramgolf.presets.packed_era import pr1855
from paramgolf.quant.plan import QuantConfig
from paramgolf.run import Run
from paramgolf.techniques.artifact import MixingCoder
from paramgolf.techniques.evaluate import PhasedTTT
from paramgolf.techniques.quant import EqualSlope, RateDistortion, SmallInt8


def golf() -> Run:
    """#1855's training; export at equal slope, which fills the budget; adapters that read each token once.

    On one H100, trained for 299 s: at the record's bytes 0.41 of what its export loses, at its loss 0.843 of its bytes
    (docs/rate_distortion.md); test-time training at 2.03 times its tokens per GPU-second (docs/evaluation.md).
    """
    run = pr1855()
    protocol = run.evaluate.protocol
    assert isinstance(protocol, PhasedTTT)
    # A chunk learns through its own tokens alone, so that it takes a larger rate to learn as much.
    adapters = replace(protocol.adapters, remember=True, lr=3e-4)
    return replace(
        run,
        name="golf",
        quant=at_equal_slope(run.quant, states=256),
        artifact=replace(run.artifact, coder=MixingCoder()),
        evaluate=replace(run.evaluate, protocol=replace(protocol, adapters=adapters)),
    )


def at_equal_slope(quant: QuantConfig, *, states: Literal[8, 256]) -> QuantConfig:
    """`quant` with every matrix coded at one slope of loss by bytes, by trellises of `states`, and vectors in int8."""
    matrix = RateDistortion(states=states, rows="curvature", columns=True, choose_rate=True, recenter=True)
    return replace(
        quant,
        attention=matrix,
        mlp=matrix,
        embed=matrix,
        gate=SmallInt8(),
        scale=SmallInt8(),
        allocate=EqualSlope(),
        refine=(),
        order_units=True,
    )

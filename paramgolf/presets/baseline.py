"""The published baseline: 9 layers of width 512, 1,024 pieces, int8 and zlib (1.2244 bpb on FineWeb)."""

from paramgolf.data.config import DataConfig
from paramgolf.model.config import GPTConfig
from paramgolf.model.mlp import FeedForward
from paramgolf.optim.groups import OptimConfig
from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.plan import QuantConfig
from paramgolf.run import Run
from paramgolf.techniques.data import Sequential
from paramgolf.techniques.model import (
    BranchScale,
    QKGain,
    QKNorm,
    ReLUSquared,
    Rope,
    TanhSoftcap,
    UNetSkips,
    X0Mix,
    ZeroOut,
)
from paramgolf.techniques.optim import WarmdownSteps
from paramgolf.techniques.quant import Int8Rows


def baseline() -> Run:
    """NaiveBaseline, 2026-03-17. Published: 1.2172 before export, 1.2244 after; 15,863,489 bytes; 13,780 steps.

    One deliberate difference: the embedding and its Adam moments are fp32 here, bf16 there.
    """
    return Run(
        name="baseline",
        data=DataConfig(corpus="fineweb10B", variant="sp1024", loader=Sequential()),
        model=GPTConfig(
            on_read=(X0Mix(),),
            on_qk=(QKNorm(), Rope(), QKGain(start=1.5)),
            mlp=FeedForward(mult=2.0),
            activation=ReLUSquared(),
            on_branch=(BranchScale(),),
            on_step=(UNetSkips(),),
            init_out=ZeroOut(),
            softcap=TanhSoftcap(cap=30.0),
        ),
        optim=OptimConfig(schedule=WarmdownSteps(iterations=1200)),
        quant=QuantConfig(attention=Int8Rows(), mlp=Int8Rows(), embed=Int8Rows(), scale=PlainValues(bits=32)),
    )

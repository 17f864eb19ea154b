"""What cannot work is refused when the model is configured, with the reason."""

import dataclasses
from typing import Any

import pytest
from token_batches import SMALL

from paramgolf.model.mlp import FeedForward
from paramgolf.techniques.model import (
    GLU,
    XSA,
    AttentionOutGate,
    BigramHash,
    DGAttention,
    DifferentialAttention,
    FactorizedEmbedding,
    KeyOffset,
    LayerWidths,
    LayerWindows,
    Rope,
    SmearV2,
    SparseGate,
    TrigramHash,
    ValueEmbedding,
    Yarn,
)


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ({"on_qk": (Rope(channels=10),)}, "10 channels of a head of 8"),
        ({"on_qk": (Rope(channels=3),)}, "in pairs"),
        ({"on_qk": (Rope(channels=2, trained_for=8),)}, "trained_for=8 with 2"),
        ({"on_qk": (Yarn(channels=5),)}, "in pairs"),
        ({"on_qk": (Yarn(trained=10, longest=5),)}, "stretch nothing"),
        ({"on_qk": (KeyOffset(first=8),)}, "leaves nothing"),
        ({"on_heads": (XSA(last=5),)}, "last 5 of 4 layers"),
        ({"on_heads": (SparseGate(width=33),)}, "33 of 32 channels"),
        ({"on_heads": (AttentionOutGate(width=0),)}, "0 of 32 channels"),
        ({"on_embed": (SmearV2(width=33),)}, "33 of 32 channels"),
        ({"on_embed": (BigramHash(rows=1),)}, "holds no pairs"),
        ({"on_embed": (TrigramHash(width=0),)}, "holds no triples"),
        ({"on_value": (ValueEmbedding(last=5),)}, "last 5 of 4 layers"),
        ({"on_value": (DGAttention(),), "layers": 1}, "no way up"),
        ({"attention": DifferentialAttention(), "heads": 1, "kv_heads": 1}, "do not pair"),
        ({"attention": DifferentialAttention(form="full"), "kv_heads": 1}, "do not pair"),
        ({"attention": DifferentialAttention(form="full"), "on_heads": (XSA(),)}, "mixes two"),
        ({"window": LayerWindows(sizes=(1, 2, 3, 4, 5))}, "5 sizes for 4 layers"),
        ({"mlp": LayerWidths(mults=(1.0,) * 5)}, "5 widths for 4 layers"),
        ({"mlp": LayerWidths(mults=(0.001,))}, "no hidden width"),
        ({"mlp": GLU(mult=0.0)}, "no hidden width"),
        ({"mlp": FeedForward(mult=0.01)}, "no hidden width"),
        ({"embedding": FactorizedEmbedding(rank=0)}, "embeds nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(slots: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(SMALL, **slots)


def test_settings_that_no_model_could_take_are_refused_by_themselves():
    for make in (
        lambda: LayerWindows(sizes=()),
        lambda: LayerWindows(sizes=(-1,)),
        lambda: LayerWidths(mults=()),
        lambda: LayerWidths(mults=(0.0,)),
    ):
        with pytest.raises(ValueError, match="at least one"):
            make()

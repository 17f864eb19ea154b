"""Compiled in one graph, every technique computes what it computes uncompiled, gradients included."""

import dataclasses
from typing import Any

import pytest
import torch
from probes import PLAIN, STACK, Place, model_places, packed, probe, samples, tokens, with_technique

from paramgolf.batch import Batch
from paramgolf.model.config import GPTConfig
from paramgolf.techniques.model import (
    XSA,
    BigramHash,
    BranchScale,
    KeyOffset,
    LayerWindows,
    LeakyReLUSquared,
    LNScale,
    MultiToken,
    QKGain,
    QKNorm,
    Rope,
    SmearV1,
    SmearV2,
    SparseGate,
    TanhSoftcap,
    UNetSkips,
    ValueEmbedding,
    ValueResidual,
    X0Mix,
)

RECORD = dataclasses.replace(
    PLAIN,
    on_embed=(SmearV2(),),
    on_read=(X0Mix(),),
    on_norm=(LNScale(),),
    on_qk=(QKNorm(), Rope(channels=4), QKGain()),
    on_heads=(XSA(), SparseGate(scale=0.5)),
    activation=LeakyReLUSquared(),
    on_branch=(BranchScale(),),
    on_step=(UNetSkips(gated=True),),
    softcap=TanhSoftcap(),
)
"""The stream and the attention of the last records."""
CROWDED = dataclasses.replace(
    STACK,
    on_embed=(BigramHash(rows=50, width=8, signs=True),),
    on_input=(SmearV1(),),
    on_qk=(QKNorm(), Rope(channels=4, trained_for=16), KeyOffset(first=4), QKGain()),
    on_value=(ValueEmbedding(width=8), ValueResidual()),
    on_heads=(XSA(gated=True),),
    window=LayerWindows(sizes=(5, 0)),
    objective=MultiToken(),
)
"""What hands something from place to place: notes, neighbours, several masks, several targets."""
BATCHES = {
    "rows": Batch(tokens(2, 24), tokens(2, 24, seed=1)),
    "packed": packed((13, 20, 4, 11)),
}
SAMPLES = samples(2, 10, seed=6) + samples(3, 10, seed=7)


def agrees(config: GPTConfig, batch: Batch, backend: str) -> None:
    torch._dynamo.reset()
    model = probe(config)
    names, parameters = zip(*model.named_parameters(), strict=True)
    compiled: Any = torch.compile(model.loss, fullgraph=True, dynamic=False, backend=backend)
    losses = []
    for loss in (model.loss, compiled):
        torch.manual_seed(1)  # for noise in training
        losses.append(loss(batch))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(loss, parameters) for loss in losses]
    for name, eager, got in zip(names, *gradients, strict=True):
        torch.testing.assert_close(got, eager, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("config", "batch"),
    [
        pytest.param(RECORD, BATCHES["rows"], id="record rows"),
        pytest.param(CROWDED, BATCHES["packed"], id="crowded packed"),
        pytest.param(RECORD, BATCHES["packed"], id="record packed", marks=pytest.mark.nightly),
        pytest.param(CROWDED, BATCHES["rows"], id="crowded rows", marks=pytest.mark.nightly),
    ],
)
def test_stacks_compile_in_one_graph(config: GPTConfig, batch: Batch):
    agrees(config, batch, "aot_eager")


@pytest.mark.nightly
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("place", model_places(), ids=str)
def test_techniques_compile_in_one_graph(place: Place, batch: Batch):
    agrees(with_technique(STACK, place), batch, "aot_eager")


@pytest.mark.nightly
@pytest.mark.parametrize("config", [config for _, config in SAMPLES], ids=[name for name, _ in SAMPLES])
def test_techniques_compile_beside_others(config: GPTConfig):
    agrees(config, BATCHES["packed"], "aot_eager")


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch against itself
@pytest.mark.parametrize("config", [RECORD, CROWDED], ids=["record", "crowded"])
def test_code_made_for_them_computes_the_same(config: GPTConfig):
    agrees(config, BATCHES["packed"], "inductor")


def test_what_progress_switches_off_leaves_the_graph():
    """The weights of tokens ahead move without a new graph, until one is gone."""
    torch._dynamo.reset()
    model = probe(dataclasses.replace(PLAIN, objective=MultiToken(weights=(0.5, 0.25), until=0.6)))
    graphs = []

    def counted(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled: Any = torch.compile(model.loss, fullgraph=True, dynamic=False, backend=counted)
    seen = []
    for progress in (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0):
        model.at(progress)
        torch.testing.assert_close(compiled(BATCHES["rows"]), model.loss(BATCHES["rows"]))
        seen.append(len(graphs))
    assert seen == [1, 1, 1, 2, 2, 3, 3]

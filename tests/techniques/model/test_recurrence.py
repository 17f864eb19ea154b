"""Depth: orders as published, rows of skips, passes of their own, sweeps."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from paramgolf.batch import Batch
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT, parameter_count, turns
from paramgolf.model.slots import Order
from paramgolf.optim.groups import OptimConfig, Optimizer
from paramgolf.optim.schedule import Progress
from paramgolf.parts import declared
from paramgolf.techniques.model import (
    BranchScale,
    IterationEmbedding,
    QKNorm,
    Recurrence,
    UNetSkips,
    UntiedPasses,
    X0Mix,
)

SMALL = GPTConfig(
    vocab=32,
    dim=16,
    layers=4,
    heads=2,
    kv_heads=1,
    context=16,
    backend="plain",
    on_read=(X0Mix(),),
    on_qk=(QKNorm(),),
    on_branch=(BranchScale(),),
    on_step=(UNetSkips(),),
)
IDS = torch.randint(2, 32, (2, 9), generator=torch.Generator().manual_seed(0))
BATCH = Batch(IDS[:, :-1], IDS[:, 1:])


def model_of(**changes: Any) -> GPT:
    torch.manual_seed(0)
    model = GPT(replace(SMALL, **changes))
    model.reset()
    model.at(0.0)
    return model


@pytest.mark.parametrize(
    ("order", "progress", "expected"),
    [
        (Recurrence(first=3, last=5, starts=(0.35, 0.35)), 0.34, "0 1 2 3 4 5 6 7 8 9 10"),
        (Recurrence(first=3, last=5, starts=(0.35, 0.35)), 0.35, "0 1 2 3 4 5 3 4 5 3 4 5 6 7 8 9 10"),
        (Recurrence(first=4, last=5, starts=(0.5, 0.5)), 1.0, "0 1 2 3 4 5 4 5 4 5 6 7 8 9 10"),
        (Recurrence(first=4, last=5, starts=(0.5, 0.65)), 0.6, "0 1 2 3 4 5 4 5 6 7 8 9 10"),
        (Recurrence(first=0, last=10, starts=(0.0,)), 0.0, " ".join(map(str, [*range(11), *range(11)]))),
    ],
)
def test_orders_are_the_published_ones(order: Order, progress: float, expected: str):
    assert list(order(11, progress)) == [int(word) for word in expected.split()]


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        (Recurrence(first=3, last=5, starts=(0.35, 0.35)), 8),
        (Recurrence(first=4, last=5, starts=(0.5, 0.5)), 7),
        (Recurrence(first=4, last=5, starts=()), 5),
    ],
)
def test_skips_have_a_row_for_each_pair_of_the_longest_order(order: Order, rows: int):
    config = replace(SMALL, layers=11, order=order)
    (skips,) = [p for name, p, _ in declared(GPT(config)) if name.startswith("on_step")]
    assert skips.shape == (rows, 16)


def test_only_the_rows_of_running_pairs_learn():
    model = model_of(layers=11, order=Recurrence(first=3, last=5, starts=(0.35, 0.35)))
    (rows,) = [p for name, p, _ in declared(model) if name.startswith("on_step")]
    for progress, running in ((0.0, 5), (0.35, 8)):
        model.at(progress)
        model.zero_grad()
        model.loss(BATCH).backward()
        assert rows.grad is not None
        assert rows.grad.abs().sum(1).gt(0).tolist() == [place < running for place in range(8)]


def test_the_pairs_of_the_looped_order_are_the_published_ones():
    """5←4, 3←3, 4←5, 5←4, 6←3, 7←2, 8←1, 9←0 as training catalogue §9 has them."""
    order = [*Recurrence(first=3, last=5, starts=(0.0, 0.0))(11, 0.0)]
    half = len(order) // 2
    pairs = list(zip(order[half:], reversed(order[:half])))
    assert pairs == [(5, 4), (3, 3), (4, 5), (5, 4), (6, 3), (7, 2), (8, 1), (9, 0)]


def test_a_segment_that_does_not_fit_is_refused_when_configured():
    with pytest.raises(ValueError, match="ends at layer 5, the model at 3"):
        replace(SMALL, order=Recurrence(first=3, last=5))
    for wrong in ({"first": 3, "last": 2}, {"starts": (0.5, 0.2)}, {"starts": (1.5,)}):
        with pytest.raises(ValueError):
            Recurrence(**wrong)  # type: ignore[arg-type]


def test_the_model_says_when_its_graph_changes():
    config = replace(SMALL, order=Recurrence(starts=(0.35, 0.6)))
    assert config.switches == (0.35, 0.6)
    assert SMALL.switches == ()


def test_an_untied_pass_owns_what_was_chosen_and_shares_the_rest():
    model = model_of(order=Recurrence(first=1, last=2, starts=(0.5, 0.5)), repeats=UntiedPasses())
    shared = model_of(order=Recurrence(first=1, last=2, starts=(0.5, 0.5)))
    # mix 2×16 and two scales of 16, for two further passes of two layers
    assert parameter_count(model) - parameter_count(shared) == 4 * (32 + 32)
    again = model.block(1, 2)
    assert again is not model.block(1, 0)
    assert again.attention.q is model.block(1, 0).attention.q
    assert again.mlp is model.block(1, 0).mlp
    with_mlp = model_of(order=Recurrence(first=1, last=2, starts=(0.5, 0.5)), repeats=UntiedPasses(mlp=True))
    assert parameter_count(with_mlp) - parameter_count(model) == 4 * 2 * 16 * 64


def test_a_pass_begins_with_what_its_layer_has_learned():
    order = Recurrence(first=1, last=2, starts=(0.5,))
    model = model_of(order=order, repeats=UntiedPasses(mlp=True))
    shared = model_of(order=order)
    optimizers = [Optimizer(each, OptimConfig()) for each in (model, shared)]
    for step in range(3):
        for each, optimizer in zip((model, shared), optimizers):
            each.at(0.1 * step)
            each.loss(BATCH).backward()
            optimizer.step(Progress(0.1 * step, step, 10))
            optimizer.zero_grad()
    for each in (model, shared):
        each.at(0.2)
        each.at(0.5)
    assert model.order == (0, 1, 2, 1, 2, 3)
    assert torch.equal(model.loss(BATCH), shared.loss(BATCH))
    model.loss(BATCH).backward()
    optimizers[0].step(Progress(0.5, 3, 10))
    model.at(0.6)
    own, layer = model.block(1, 1).mlp.up.weight, model.block(1, 0).mlp.up.weight  # type: ignore[union-attr]
    assert not torch.equal(own, layer), "a pass that runs learns by itself"


def test_weights_put_into_a_fresh_model_stay_when_it_is_told_the_progress():
    """As resuming and scoring do: only before a pass has begun may its weights be overwritten."""
    model = model_of(order=Recurrence(first=1, last=2, starts=(0.5,)), repeats=UntiedPasses())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.25)
        for parameter in model.again["1_1"].parameters():
            parameter.fill_(0.5)
    model.at(0.7)
    assert all((parameter == 0.5).all() for parameter in model.again["1_1"].parameters())


def test_passes_that_run_from_the_first_step_start_as_copies():
    model = model_of(order=Recurrence(first=1, last=2, starts=(0.0,)), repeats=UntiedPasses(mlp=True))
    assert model.order == (0, 1, 2, 1, 2, 3)
    own, layer = model.block(1, 1).mlp.up.weight, model.block(1, 0).mlp.up.weight  # type: ignore[union-attr]
    assert own is not layer
    assert torch.equal(own, layer)


def test_nothing_to_untie_is_refused():
    with pytest.raises(ValueError, match="unties nothing"):
        UntiedPasses(controls=False)


def test_an_iteration_embedding_is_added_where_a_sweep_begins():
    model = model_of(layers=2, order=Recurrence(first=0, last=1, starts=(0.0, 0.0)), on_step=(IterationEmbedding(),))
    (part,) = model.on_step
    assert part.rows.shape == (3, 16)
    with torch.no_grad():
        part.rows.copy_(torch.arange(3.0)[:, None].expand(3, 16))
    x = torch.zeros(1, 1, 16)
    added = [float(part(x, place, 6, [])[0, 0, 0].detach()) for place in range(6)]
    assert added == [0, 0, 1, 0, 2, 0]


def test_an_iteration_embedding_needs_whole_sweeps():
    with pytest.raises(ValueError, match="sweeps through all 4 layers"):
        replace(SMALL, order=Recurrence(first=1, last=2), on_step=(IterationEmbedding(),))


def test_turns_count_how_often_a_layer_has_come():
    assert turns((0, 1, 2, 1, 2, 1)) == [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, 2)]

"""Curvature of real models against gradients taken apart, token by token."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import shaken_model
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.errors import GolfError
from paramgolf.model.gpt import GPT
from paramgolf.quant.calibrate import collect_hessians, wanted_hessians
from paramgolf.quant.curvature import (
    CPU_PASS_TOKENS,
    TableSums,
    collect_curvature,
    measured_curvature,
    pass_tokens,
    smaller,
    watched_lookup,
)
from paramgolf.quant.plan import QuantConfig, items_of
from paramgolf.techniques.model import FactorizedEmbedding, Recurrence, UntiedEmbedding
from paramgolf.techniques.quant import GPTQ, EqualSlope, RateDistortion


def model_with(**changes: Any) -> GPT:
    return shaken_model(0.05, **changes)


def some_batch(rows: int = 2, length: int = 16, seed: int = 1) -> Batch:
    ids = torch.randint(4, 260, (rows, length + 1), generator=torch.Generator().manual_seed(seed))
    return Batch(ids[:, :-1], ids[:, 1:])


def drawn(model: GPT, batch: Batch) -> Batch:
    """`batch` with the targets that the measurement draws, in its order."""
    with torch.no_grad():
        chances = model.logits(model.hidden(batch)).softmax(-1).flatten(0, 1)
    targets = chances.multinomial(1, generator=torch.Generator().manual_seed(0))
    return batch._replace(targets=targets.view_as(batch.ids))


@pytest.mark.parametrize("changes", [{}, {"order": Recurrence(first=0, last=1)}], ids=["once", "again"])
def test_rows_are_the_mean_square_of_the_gradient_by_outputs(changes):
    """Against hooks on the outputs of one projection, with recurrence as with one pass."""
    model, batch = model_with(**changes), some_batch()
    linear, name = model.blocks[0].mlp.down, "blocks.0.mlp.down.weight"
    gradients: list[Tensor] = []
    inputs: list[Tensor] = []

    def keep(_: object, seen: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(seen[0].detach().flatten(0, -2))
        output.register_hook(lambda gradient: gradients.append(gradient.detach().flatten(0, -2)))

    targets_drawn = drawn(model, batch)
    handle = linear.register_forward_hook(keep)
    model(targets_drawn).sum().backward()
    handle.remove()
    found = measured_curvature(model, [batch])[name]
    assert len(gradients) == (1 if not changes else 2)
    torch.testing.assert_close(found.rows, torch.cat(gradients).square().mean(0), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(found.hessian, torch.cat(inputs).mT @ torch.cat(inputs), rtol=1e-4, atol=1e-5)


def test_a_head_of_its_own_has_the_mean_of_all_draws():
    """p (1 - p) times the slope of the bound of the logits, token by token."""
    model, batch = model_with(embedding=UntiedEmbedding()), some_batch()
    found = measured_curvature(model, [batch])
    with torch.no_grad():
        last = model.hidden(batch)
    raw = F.linear(last, model.embedding.head_weight()).detach().requires_grad_()
    bounded = model.softcap(raw)
    (slope,) = torch.autograd.grad(bounded.sum(), raw)
    chances = bounded.detach().softmax(-1)
    squares = (chances * (1 - chances) * slope.square()).flatten(0, 1)
    expected = squares.mean(0) + squares.sum() / len(squares) ** 2
    torch.testing.assert_close(found["embedding.head"].rows, expected, rtol=1e-4, atol=1e-10)
    counts = torch.bincount(batch.ids.flatten(), minlength=260) / batch.ids.numel()
    uses = (counts + chances.flatten(0, 1).mean(0) + 1 / batch.ids.numel()) / 2
    torch.testing.assert_close(found["embedding.weight"].rows, uses, rtol=1e-4, atol=1e-8)


def test_a_tied_table_is_the_sum_of_both_uses():
    model, batch = model_with(), some_batch()
    found = measured_curvature(model, [batch])["embedding.weight"]
    assert found.hessian.shape == (16, 16)
    assert found.rows.mean() == pytest.approx(1.0, rel=1e-4), "columns hold the mean over rows"
    seen, never = batch.ids.unique(), [i for i in range(260) if i not in batch.ids]
    assert found.rows[seen].mean() > found.rows[never].mean()


def test_a_narrow_table_is_measured_by_its_own_rows():
    """Of the lookup: the gradients by what the projection to the model's width is given, token by token."""
    model, batch = model_with(embedding=FactorizedEmbedding(rank=7)), some_batch()
    sums = TableSums(260, 7, torch.device("cpu"))
    rows: list[Tensor] = []

    def keep(_: object, seen: tuple[Tensor, ...]) -> None:
        seen[0].register_hook(lambda gradient: rows.append(gradient.flatten(0, -2)))

    handle = model.embedding.into.register_forward_pre_hook(keep)
    with watched_lookup(model.embedding, batch.ids, sums):
        model(batch).sum().backward()
    handle.remove()
    torch.testing.assert_close(sums.lookup_gram, rows[0].mT @ rows[0], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    "changes", [{}, {"embedding": FactorizedEmbedding(rank=24)}, {"embedding": FactorizedEmbedding(rank=7)}], ids=str
)
def test_its_prediction_is_what_noise_costs(changes):
    """Small changes of each matrix raise the Kullback-Leibler divergence by about what the curvature says."""
    model, batch = model_with(**changes), some_batch(8, 32)
    found = measured_curvature(model, [batch])
    with torch.no_grad():
        before = model.logits(model.hidden(batch)).log_softmax(-1)
        between = [name for name in found if name.startswith("embedding.") and name != "embedding.weight"]
        assert len(between) == (2 if changes else 0)
        for name in ("blocks.0.mlp.up.weight", "blocks.1.attention.out.weight", "embedding.weight", *between):
            parameter = model.get_parameter(name)
            kept, measured, predicted = parameter.clone(), 0.0, 0.0
            for seed in range(8):
                noise = 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
                parameter.copy_(kept + noise)
                after = model.logits(model.hidden(batch)).log_softmax(-1)
                measured += float((before.exp() * (before - after)).sum())
                predicted += float((found[name].rows / 2 * ((noise @ found[name].hessian) * noise).sum(1)).sum())
            parameter.copy_(kept)
            assert 0.4 < predicted / measured < 2.5, (name, predicted, measured)


def test_the_model_is_left_as_it_was():
    model, batch = model_with(), some_batch()
    model.get_parameter("blocks.0.mlp.up.weight").requires_grad_(False)
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    before = model(batch)
    measured_curvature(model, [batch])
    assert torch.equal(model(batch), before)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert "embed" not in vars(model.embedding)
    assert "head_bias" not in vars(model.embedding)
    assert all(getattr(module, "delta", None) is None for module in model.modules())


def test_text_read_in_parts_gives_the_same():
    """Documents that lie side by side in a packed row, cut between them."""
    ids = some_batch(1, 32).ids
    ids[0, [0, 16]] = BOS
    whole = Batch(ids, ids.roll(-1, 1), torch.tensor([0, 16, 32], dtype=torch.int32), 16)
    parts = list(smaller(whole, 16))
    assert [part.ids.shape for part in parts] == [(1, 16), (1, 16)]
    assert all(part.cu_seqlens is not None and part.cu_seqlens.tolist() == [0, 16] for part in parts)
    assert torch.equal(torch.cat([part.targets for part in parts], 1), whole.targets)
    rows = list(smaller(some_batch(5, 8), 16))
    assert [tuple(part.ids.shape) for part in rows] == [(2, 8), (2, 8), (1, 8)]


def test_a_cpu_reads_a_few_rows_at_a_time_and_few_logits(monkeypatch: pytest.MonkeyPatch):
    """As many as there is memory for: the pass of a whole training batch took 15 GB."""
    assert pass_tokens(some_batch(64, 128)) == CPU_PASS_TOKENS
    assert pass_tokens(some_batch(1, 5000)) == 5000, "rows stay whole"
    model, batch = model_with(), some_batch()
    whole = measured_curvature(model, [batch])
    monkeypatch.setattr("paramgolf.quant.curvature.CPU_HEAD_LOGITS", 5 * model.config.vocab)
    for name, found in measured_curvature(model, [batch]).items():
        torch.testing.assert_close(found.rows, whole[name].rows, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(found.hessian, whole[name].hessian, rtol=1e-4, atol=1e-5)


def test_calibration_hands_it_to_the_items():
    model = model_with()
    coded = RateDistortion(rows="curvature")
    config = QuantConfig(attention=coded, mlp=coded, embed=coded, allocate=EqualSlope())
    hessians = collect_hessians(model, [some_batch()], config)
    assert hessians.keys() == collect_curvature(model, [some_batch()]).keys()
    assert wanted_hessians(model, config) == hessians.keys()
    items = {item.name: item for item in items_of(model, config, hessians)}
    assert items["blocks.0.mlp.up.weight"].rows.shape == items["blocks.0.mlp.up.weight"].weight.shape[:1]
    plain = QuantConfig(attention=GPTQ(), mlp=GPTQ(), embed=GPTQ())
    assert not any(name.startswith("rows") for name in collect_hessians(model, [some_batch()], plain))


def test_what_overflows_is_refused_by_name():
    model = model_with()
    with torch.no_grad():
        model.blocks[1].mlp.up.weight.fill_(1e30)
    with pytest.raises(GolfError, match="not finite"):
        measured_curvature(model, [some_batch()])

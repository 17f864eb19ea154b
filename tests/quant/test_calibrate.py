"""Hessians of real models: the sums of what every projection sees, against hooks on the plain matrix product."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from tiny import shaken_model
from torch import Tensor, nn

from paramgolf.batch import BOS, Batch
from paramgolf.errors import GolfError, UsageError
from paramgolf.model.gpt import GPT
from paramgolf.parts import Linear, Role, declared
from paramgolf.quant.calibrate import collect_hessians, require_inputs, wanted_hessians
from paramgolf.quant.matrices import head_name, projections
from paramgolf.quant.plan import QuantConfig, quantize
from paramgolf.quant.training_batches import TrainingBatches
from paramgolf.techniques.model import (
    BigramHash,
    FactorizedEmbedding,
    LegendreDepth,
    Recurrence,
    SparseGate,
    UntiedEmbedding,
    UntiedPasses,
)
from paramgolf.techniques.quant import GPTQ, LQER, AdaptiveClip, EqualSlope, Int8Rows, SDClip, SelfGenerated
from paramgolf.techniques.quant.self_generated import SAMPLED_STEP

EVERYTHING = QuantConfig(attention=GPTQ(), mlp=GPTQ(), embed=GPTQ(), projection=GPTQ())


def model_with(**changes: Any) -> GPT:
    return shaken_model(0.02, **changes)


def some_batches(number: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(4, 260, (2, 21), generator=generator) for _ in range(number)]
    return [Batch(ids[:, :-1], ids[:, 1:]) for ids in rows]


def seen_by_products(model: GPT, batches: list[Batch], monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Σ x xᵀ by name of the weight, from the matrix products themselves: with each projection on its own."""
    names = {id(parameter): name for name, parameter, _ in declared(model)}
    sums: dict[str, Tensor] = {}
    plain = F.linear

    def watched(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        owner = getattr(weight, "_base", None)
        name = names.get(id(weight)) or names.get(id(owner))
        if name:
            flat = x.double().reshape(-1, x.shape[-1])
            sums[name] = sums.get(name, 0) + flat.mT @ flat
        return plain(x, weight, bias)

    monkeypatch.setattr("paramgolf.parts.F.linear", watched)
    monkeypatch.setattr("paramgolf.model.attention.project_together", project_apart, raising=False)
    monkeypatch.setattr("paramgolf.model.block.project_together", project_apart)
    with torch.no_grad():
        for batch in batches:
            model.logits(model.hidden(batch))
    monkeypatch.undo()
    return sums


def project_apart(x: Tensor, linears: Any) -> tuple[Tensor, ...]:
    return tuple(linear(x) for linear in linears)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"order": Recurrence(first=0, last=1, starts=(0.0, 0.0))},
        {"on_embed": (BigramHash(rows=50, width=8),)},
    ],
    ids=["plain", "recurrent", "with_table"],
)
def test_hessians_are_sums_over_every_product(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    model, batches = model_with(**changes), some_batches()
    expected = seen_by_products(model, batches, monkeypatch)
    hessians = collect_hessians(model, batches, EVERYTHING)
    assert set(hessians) >= set(expected)
    for name, total in expected.items():
        torch.testing.assert_close(hessians[name].double(), total, rtol=1e-4, atol=1e-4)
    for name in set(hessians) - set(expected):
        assert torch.equal(hessians[name], 120.0 * torch.eye(len(hessians[name]))), "a table that is looked up"
    assert {name for name in hessians if name in expected} == set(projections(model)) | {head_name(model)}


def test_projections_of_one_input_have_one_hessian():
    hessians = collect_hessians(model_with(), some_batches(), EVERYTHING)
    assert torch.equal(hessians["blocks.0.attention.q.weight"], hessians["blocks.0.attention.v.weight"])
    assert not torch.equal(hessians["blocks.0.attention.q.weight"], hessians["blocks.1.attention.q.weight"])


def test_nothing_of_the_model_is_changed():
    model, batch = model_with(), some_batches(1)[0]
    linear = model.get_submodule("blocks.0.attention.q")
    assert isinstance(linear, Linear)
    adapter = nn.Tanh()
    linear.delta = adapter
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        cost = model(batch)
    seen = collect_hessians(model, [batch], EVERYTHING)
    assert linear.delta is adapter
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in before.items())
    with torch.no_grad():
        assert torch.equal(model(batch), cost)
    assert "blocks.0.attention.q.weight" in seen
    other = model_with().get_submodule("blocks.0.attention.q")
    assert other.delta is None


def test_watches_are_taken_off_when_the_text_fails():
    model = model_with()

    def failing() -> Any:
        yield some_batches(1)[0]
        raise RuntimeError("no more text")

    with pytest.raises(RuntimeError, match="no more text"):
        collect_hessians(model, failing(), EVERYTHING)
    assert all(module.delta is None for module in model.modules() if isinstance(module, Linear))


def test_projections_that_no_token_reaches_are_told():
    """A kernel that passed over their watches would leave them so: their codes would silently be the nearest ones."""
    with pytest.raises(GolfError, match="calibration saw no input of blocks") as caught:
        collect_hessians(model_with(), [], EVERYTHING)
    assert "12 projections" in caught.value.evidence


def test_only_what_is_wanted_is_collected():
    model = model_with()
    assert wanted_hessians(model, QuantConfig()) == set()
    mlp = {name for name, _, role in declared(model) if role is Role.MLP}
    assert wanted_hessians(model, QuantConfig(mlp=GPTQ())) == mlp
    assert set(collect_hessians(model, some_batches(1), QuantConfig(mlp=GPTQ()))) == mlp
    every = set(projections(model)) | {"embedding.weight"}
    for whole in (QuantConfig(allocate=AdaptiveClip()), QuantConfig(refine=(LQER(weighted=True),))):
        assert wanted_hessians(model, whole) == every
    assert wanted_hessians(model, QuantConfig(refine=(LQER(),))) == set()


def test_an_untied_head_has_its_inputs_and_the_embedding_none():
    model = model_with(embedding=UntiedEmbedding(head_std=0.1))
    assert head_name(model) == "embedding.head"
    hessians = collect_hessians(model, some_batches(), EVERYTHING)
    assert torch.equal(hessians["embedding.weight"], 120.0 * torch.eye(16))
    # Final hidden states are normalized: 16 channels of mean square 1.
    assert float(hessians["embedding.head"].trace()) == pytest.approx(120 * 16, rel=1e-3)


def test_what_stands_before_the_head_has_its_inputs_though_the_head_needs_none():
    model = model_with(embedding=FactorizedEmbedding(rank=8))
    config = QuantConfig(projection=GPTQ())
    hessians = collect_hessians(model, some_batches(), config)
    assert hessians.keys() == {"embedding.into.weight", "embedding.back.weight"}
    assert float(hessians["embedding.back.weight"].trace()) == pytest.approx(120 * 16, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "config", "said"),
    [
        ({}, QuantConfig(scale=GPTQ()), "quant.scale=gptq needs the inputs"),
        ({"on_heads": (SparseGate(),)}, QuantConfig(gate=GPTQ()), "quant.gate=gptq needs the inputs"),
        (
            {"on_blocks": (LegendreDepth(),), "layers": 3},
            QuantConfig(mlp=GPTQ()),
            "order_0 is multiplied",
        ),
    ],
)
def test_what_no_calibration_could_collect_is_refused_before_training(
    changes: dict[str, Any], config: QuantConfig, said: str
):
    model = model_with(**changes)
    with pytest.raises(UsageError, match=said):
        require_inputs(model, config)
    with pytest.raises(GolfError, match="which calibration did not collect"):
        quantize(model, config, collect_hessians(model, some_batches(1), config))


@pytest.mark.parametrize("embedding", [UntiedEmbedding(), FactorizedEmbedding(rank=8)])
def test_what_can_be_calibrated_is_not_refused(embedding: Any):
    changes = {"embedding": embedding, "on_embed": (BigramHash(rows=8, width=8),)}
    changes |= {"order": Recurrence(first=0, last=1, starts=(0.5,)), "repeats": UntiedPasses(mlp=True)}
    require_inputs(model_with(**changes), EVERYTHING)


def test_inputs_that_overflow_are_refused_by_name():
    model = model_with()
    with torch.no_grad():
        model.get_parameter("blocks.0.mlp.up.weight").fill_(1e30)
    with pytest.raises(GolfError, match=r"inputs of parameter blocks\.0\.mlp\.down\.weight are not finite"):
        collect_hessians(model, some_batches(1), QuantConfig(mlp=GPTQ()))


def test_a_model_is_quantized_with_what_was_collected():
    model, batches = model_with(), some_batches()
    config = replace(EVERYTHING, mlp=GPTQ(bits=4, clip=SDClip(sigmas=4.0)))
    hessians = collect_hessians(model, batches, config)
    stored = quantize(model, config, hessians)
    nearest = quantize(model, config, {name: torch.eye(len(hessian)) for name, hessian in hessians.items()})
    name = "blocks.1.mlp.up.weight"
    weight, hessian = model.get_parameter(name).detach(), hessians[name]
    losses = [
        float(((kept[name].dense() - weight) @ hessian * (kept[name].dense() - weight)).sum())
        for kept in (stored, nearest)
    ]
    assert losses[0] < losses[1]


def test_training_text_is_read_as_far_as_asked():
    batches = some_batches(5)
    assert list(TrainingBatches(batches_read=2).batches(model_with(), iter(batches))) == batches[:2]
    with pytest.raises(ValueError):
        TrainingBatches(batches_read=0)


def test_the_model_writes_its_own_text():
    model = model_with()
    maker = SelfGenerated(sequences=5, length=9, together=2, seed=3)
    first, again = (list(maker.batches(model, iter(()))) for _ in range(2))
    assert [tuple(batch.ids.shape) for batch in first] == [(2, 8), (2, 8), (1, 8)]
    assert all(
        torch.equal(a.ids, b.ids) and torch.equal(a.targets, b.targets) for a, b in zip(first, again, strict=True)
    )
    assert all((batch.ids[:, 0] == BOS).all() for batch in first)
    assert all(torch.equal(batch.ids[:, 1:], batch.targets[:, :-1]) for batch in first)
    other = list(replace(maker, seed=4).batches(model, iter(())))
    assert not torch.equal(torch.cat([b.ids for b in first]), torch.cat([b.ids for b in other]))


@pytest.mark.parametrize("allocate", [None, EqualSlope()], ids=["inputs", "curvature"])
def test_passes_that_make_the_text_are_not_counted(allocate: EqualSlope | None):
    model = model_with()
    config = QuantConfig(attention=GPTQ(), mlp=GPTQ(), embed=GPTQ(), allocate=allocate)
    maker = SelfGenerated(sequences=3, length=9, together=2)
    read = collect_hessians(model, list(maker.batches(model, iter(()))), config)
    made = collect_hessians(model, maker.batches(model, iter(())), config)
    assert read.keys() == made.keys()
    assert all(torch.equal(made[name], read[name]) for name in read)


def test_rows_may_be_longer_than_those_that_are_read_at_a_time():
    model = model_with(context=128)
    maker = SelfGenerated(sequences=1, length=SAMPLED_STEP + 5, temperature=1e-6)
    (batch,) = maker.batches(model, iter(()))
    with torch.no_grad():
        assert torch.equal(batch.targets, model.logits(model.hidden(batch)).argmax(-1))


def test_cold_text_is_what_the_model_thinks_likeliest():
    model = model_with()
    (batch,) = SelfGenerated(sequences=1, length=6, temperature=1e-6).batches(model, iter(()))
    with torch.no_grad():
        likeliest = model.logits(model.hidden(batch)).argmax(-1)
    assert torch.equal(batch.targets, likeliest)


@dataclass(frozen=True, kw_only=True)
class NeedsOne(Int8Rows):
    needs_hessian: ClassVar[bool] = True


def test_what_no_calibration_can_collect_is_told_by_name():
    model = model_with()
    config = QuantConfig(scale=NeedsOne())
    hessians = collect_hessians(model, some_batches(1), config)
    with pytest.raises(GolfError, match=r"Hessian of parameter on_step\.0"):
        quantize(model, config, hessians)

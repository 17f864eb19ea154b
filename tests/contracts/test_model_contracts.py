"""What every technique of the forward pass must keep, alone, in the baseline's stack, and beside others."""

import dataclasses

import pytest
import torch
from probes import (
    PLAIN,
    STACK,
    VOCAB,
    Place,
    costs,
    model_places,
    packed,
    probe,
    samples,
    shake,
    tokens,
    with_technique,
)
from torch import Tensor, nn

from paramgolf.batch import BOS, Batch
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.optim.groups import grouped
from paramgolf.parts import Linear, declared
from paramgolf.techniques.model import Recurrence

PLACES = model_places()
DOCUMENTS = (13, 20, 4, 11)


def stacks() -> list[tuple[str, GPTConfig]]:
    """Each technique alone and in the baseline's stack, and the stack by itself."""
    found = [("stack", STACK)]
    for place in PLACES:
        found += [(f"{place} alone", with_technique(PLAIN, place)), (f"{place} in stack", with_technique(STACK, place))]
    return found


FEW = stacks() + samples(2, 6, seed=1) + samples(3, 6, seed=2)
MANY = samples(2, 100, seed=3) + samples(3, 150, seed=4) + samples(6, 50, seed=5)
MORE = [(f"{number} {name}", config) for number, (name, config) in enumerate(MANY)]
every_model = pytest.mark.parametrize(
    "config",
    [
        *(pytest.param(config, id=name) for name, config in FEW),
        *(pytest.param(config, id=name, marks=pytest.mark.nightly) for name, config in MORE),
    ],
)


def test_every_technique_of_the_model_has_a_place():
    names = {place.entry.name for place in PLACES}
    assert {"rope", "qk_gain", "unet_skips", "tied", "relu_squared", "zero_out", "straight"} <= names


@every_model
def test_every_parameter_has_a_role_and_a_group(config: GPTConfig):
    model = GPT(config)
    names = [name for name, _, _ in declared(model)]
    assert len(names) == len(set(names))
    assert sum(parameter.numel() for _, parameter, _ in declared(model)) == parameter_count(model)
    assert sum(len(group) for group in grouped(model).values()) == len(names)


@every_model
def test_reset_reaches_every_parameter_and_repeats(config: GPTConfig):
    model = GPT(config)
    started = []
    for _ in range(2):
        for parameter in model.parameters():
            nn.init.constant_(parameter, float("nan"))
        torch.manual_seed(7)
        model.reset()
        started.append([parameter.clone() for parameter in model.parameters()])
    for name, first, second in zip(dict(model.named_parameters()), *started, strict=True):
        assert first.isfinite().all(), f"{name} was not reset"
        assert torch.equal(first, second), f"{name} starts elsewhere each time"


@every_model
def test_no_token_sees_the_future_and_some_see_the_past(config: GPTConfig):
    model = probe(config)
    ids, targets = tokens(2, 24), tokens(2, 24, seed=1)
    before = costs(model, Batch(ids, targets))
    assert before.isfinite().all()
    for place in (1, 7, 23):
        other = ids.clone()
        other[:, place:] = 2 + (ids[:, place:] - 2 + 5) % (VOCAB - 2)
        after = costs(model, Batch(other, targets))
        assert torch.equal(after[:, :place], before[:, :place]), f"a token before {place} sees it"
        assert (after[:, place:] != before[:, place:]).any(), "the model sees nothing"
    other = ids.clone()
    other[:, 3] = 2 + (ids[:, 3] - 2 + 5) % (VOCAB - 2)
    later = costs(model, Batch(other, targets))[:, 4:] != before[:, 4:]
    assert later.any(), "no token sees the past: the test above is blind"


@every_model
def test_no_document_sees_another(config: GPTConfig):
    model = probe(config)
    batch = packed(DOCUMENTS)
    before = costs(model, batch)
    for changed, length in enumerate(DOCUMENTS):
        first = sum(DOCUMENTS[:changed])
        inside = torch.zeros(sum(DOCUMENTS), dtype=torch.bool)
        inside[first : first + length] = True
        ids = torch.where(inside & (batch.ids != BOS), 2 + (batch.ids - 2 + 9) % (VOCAB - 2), batch.ids)
        after = costs(model, batch._replace(ids=ids))
        assert torch.equal(after[:, ~inside], before[:, ~inside]), f"document {changed} is seen by another"
        assert (after[:, inside] != before[:, inside]).any()


@every_model
def test_rows_do_not_see_one_another(config: GPTConfig):
    model = probe(config)
    ids, targets = tokens(3, 24), tokens(3, 24, seed=1)
    before = costs(model, Batch(ids, targets))
    other = ids.clone()
    other[1] = tokens(1, 24, seed=2)[0]
    after = costs(model, Batch(other, targets))
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] != before[1]).any()


class Nothing(nn.Module):
    """An adapter before it has learned: zeros, and a mark that it was asked."""

    def __init__(self, fan_out: int) -> None:
        super().__init__()
        self.fan_out = fan_out
        self.asked = False

    def forward(self, x: Tensor) -> Tensor:
        self.asked = True
        return x.new_zeros(*x.shape[:-1], self.fan_out)


@every_model
def test_a_fresh_adapter_changes_no_bit_and_hangs_in_every_projection(config: GPTConfig):
    model = probe(config)
    batch = Batch(tokens(2, 24), tokens(2, 24, seed=1))
    before = costs(model, batch)
    hung = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, Linear):
            module.delta = hung[name] = Nothing(module.weight.shape[0])
    assert torch.equal(costs(model, batch), before)
    reached = {name for name, _ in model.named_modules() if any(name.startswith(f"blocks.{i}.") for i in model.order)}
    deaf = [name for name, adapter in hung.items() if name in reached and not adapter.asked]
    assert not deaf, f"{deaf} do not ask their adapter"


@every_model
def test_what_one_pass_leaves_does_not_reach_the_next(config: GPTConfig):
    model = probe(config)
    batch = Batch(tokens(2, 24), tokens(2, 24, seed=1))
    before = costs(model, batch)
    costs(model, Batch(tokens(1, 9, seed=5), tokens(1, 9, seed=6)))
    assert torch.equal(costs(model, batch), before)


@every_model
def test_training_reaches_every_parameter(config: GPTConfig):
    model = probe(config)
    loss = model.loss(Batch(tokens(2, 24), tokens(2, 24, seed=1)))
    loss.backward()
    assert loss.isfinite()
    dead = [
        name
        for name, parameter, _ in declared(model)
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert not dead, f"no gradient reaches {dead}"


@every_model
def test_probabilities_sum_to_one(config: GPTConfig):
    model = probe(config)
    ids = tokens(1, 9).expand(VOCAB, -1)
    targets = torch.arange(VOCAB)[:, None].expand(-1, 9)
    total = costs(model, Batch(ids, targets)).neg().exp().sum(0)
    torch.testing.assert_close(total, torch.ones(9), rtol=1e-4, atol=0)


@pytest.mark.parametrize("place", [place for place in PLACES if place.entry.neutral], ids=str)
@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(STACK, id="stack"),
        *(pytest.param(config, id=name, marks=pytest.mark.nightly) for name, config in samples(3, 8, seed=8)),
    ],
)
def test_what_claims_to_be_neutral_is(place: Place, rest: GPTConfig):
    """On weights that look trained: at a reset, zero output projections would hide everything."""
    field = tuple(item for item in getattr(rest, place.field) if type(item) is not place.entry.config)
    rest = dataclasses.replace(rest, **{place.field: field})
    without, added = probe(rest), probe(with_technique(rest, place), shaken=0.0)
    shared = dict(without.named_parameters())
    with torch.no_grad():
        for name, parameter in added.named_parameters():
            if name in shared:
                parameter.copy_(shared[name])
    batch = Batch(tokens(2, 24), tokens(2, 24, seed=1))
    torch.testing.assert_close(costs(added, batch), costs(without, batch), rtol=1e-5, atol=1e-5)
    own = [name for name, _ in added.named_parameters() if name not in shared]
    assert own, "a neutral technique without parameters does nothing at all"
    shake(added, 0.3, only=own)
    assert not torch.equal(costs(added, batch), costs(without, batch)), "shaken, it still does nothing"


def test_recurrence_runs_the_layers_that_the_order_names():
    """The one slot that no module fills: `at` must set it."""
    model = probe(dataclasses.replace(PLAIN, order=Recurrence(first=1, last=2, starts=(0.6,))))
    batch = Batch(tokens(1, 12), tokens(1, 12, seed=1))
    before = costs(model, batch)
    model.order = (0, 1, 2, 1, 2, 3)
    assert not torch.equal(costs(model, batch), before)
    looped = costs(model, batch)
    model.at(0.4)
    assert model.order == (0, 1, 2, 3)
    assert torch.equal(costs(model, batch), before)
    model.at(1.0)
    assert model.order == (0, 1, 2, 1, 2, 3)
    assert torch.equal(costs(model, batch), looped)

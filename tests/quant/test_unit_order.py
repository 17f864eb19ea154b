"""Hidden units in another order: the same logits from fewer bytes, and nothing that was sorted against the sort."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.model.gpt import GPT
from paramgolf.parts import Role, declared
from paramgolf.presets import preset
from paramgolf.quant.plan import QuantConfig, quantize, restore
from paramgolf.quant.slots import QuantItem
from paramgolf.quant.unit_order import free_pair, in_unit_order, step_lengths, unit_order
from paramgolf.stored import Stored
from paramgolf.techniques.quant import PlainValues, RateDistortion

EXACT = QuantConfig(
    attention=PlainValues(bits=32),
    mlp=PlainValues(bits=32),
    embed=PlainValues(bits=32),
    gate=PlainValues(bits=32),
    order_units=True,
)
CODED = RateDistortion(states=8, rows="curvature", columns=True, choose_rate=True)


@pytest.fixture(scope="module")
def record() -> GPT:
    """A small model with everything that the record's has, its parameters shaken."""
    config = replace(preset("pr1855").model, vocab=300, dim=64, layers=11, heads=4, kv_heads=2, context=256)
    torch.manual_seed(3)
    model = GPT(config)
    model.reset()
    model.at(1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def some_text(length: int = 48) -> Batch:
    """A row of tokens."""
    ids = torch.randint(4, 300, (2, length + 1), generator=torch.Generator().manual_seed(5))
    return Batch(ids[:, :-1], ids[:, 1:])


@torch.no_grad()
def logits(model: GPT) -> Tensor:
    batch = some_text()
    return model.logits(model.hidden(batch)).double()


def copy_of(model: GPT, stored: dict[str, Stored]) -> GPT:
    other = GPT(model.config)
    other.at(1.0)
    restore(other, stored)
    return other


def test_a_model_of_the_record_does_not_notice(record: GPT) -> None:
    moved = copy_of(record, quantize(record, EXACT))
    weights = dict(record.named_parameters())
    changed = {name for name, parameter, _ in declared(moved) if not torch.equal(parameter, weights[name])}
    assert changed == {name for name, _, role in declared(record) if role is Role.MLP}
    torch.testing.assert_close(logits(moved), logits(record), rtol=1e-4, atol=1e-4)


def test_what_goes_with_the_units_goes_along(record: GPT) -> None:
    """Curvature of rows and Hessians stay with their weights: what an error costs is what it was."""
    before: list[QuantItem] = []
    for name, parameter, role in declared(record):
        generator = torch.Generator().manual_seed(len(before))
        rows = torch.randn(parameter.shape[0], generator=generator).exp()
        inputs = torch.randn(200, parameter.shape[-1], generator=generator)
        weight = parameter.detach().clone()
        before.append(QuantItem(name, role, weight, inputs.mT @ inputs, PlainValues(), rows))
    moved = 0
    for old, new in zip(before, in_unit_order(record, before), strict=True):
        assert old.name == new.name
        moved += not torch.equal(old.weight, new.weight)
        assert cost(new) == pytest.approx(cost(old), rel=1e-5)
    assert moved == 22


def cost(item: QuantItem) -> float:
    """Of an error as large as the weight."""
    assert item.hessian is not None
    assert item.rows is not None
    matrix = item.weight.reshape(-1, item.weight.shape[-1])
    rows = item.rows if len(item.rows) == len(matrix) else torch.ones(len(matrix))
    return float((rows.unsqueeze(1) * (matrix @ item.hessian) * matrix).sum())


def pair(units: int = 300) -> tuple[QuantItem, QuantItem]:
    """Two matrices around units of many sizes."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(2000, units, generator=generator) * torch.randn(units, generator=generator).exp()
    makes = torch.randn(units, 32, generator=generator)
    rows = (2 * torch.randn(units, generator=generator)).exp()
    reads = torch.randn(32, units, generator=generator)
    return (
        QuantItem("makes", Role.MLP, makes, None, CODED, rows),
        QuantItem("reads", Role.MLP, reads, inputs.mT @ inputs, CODED, torch.ones(32)),
    )


def test_steps_of_rows_are_sorted_and_within_them_those_of_columns() -> None:
    makes, reads = pair()
    assert makes.rows is not None
    assert reads.hessian is not None
    order = unit_order(makes, reads)
    assert torch.equal(order.sort().values, torch.arange(300))
    by_row = (-4 * makes.rows.double().log2()).round()[order]
    assert bool((by_row.diff() >= 0).all())
    lengths = step_lengths(reads.hessian)[order]
    same = by_row.diff() == 0
    assert int(same.sum()) > 50
    assert bool((lengths.diff()[same] <= 0).all())


def test_without_calibration_rows_stand_by_their_size() -> None:
    makes, reads = pair()
    order = unit_order(makes._replace(rows=None), reads._replace(hessian=None))
    sizes = makes.weight.square().mean(1).sqrt()[order].log2()
    assert bool((sizes.diff() >= -1 / 8 - 1e-6).all())


def test_a_module_with_more_parameters_is_left_alone(record: GPT) -> None:
    module: Any = record.get_submodule("blocks.0.mlp")
    names = {id(parameter): name for name, parameter, _ in declared(record)}
    assert free_pair(module, names) == ("blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight")
    module.slope = torch.nn.Parameter(torch.ones(module.up.weight.shape[0]))
    try:
        assert free_pair(module, names) is None
    finally:
        del module.slope

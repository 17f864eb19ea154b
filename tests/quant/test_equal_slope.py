"""One slope over a whole model: it fills the budget, and no other way of sharing it out loses less."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from paramgolf.errors import OverBytes
from paramgolf.parts import Role
from paramgolf.quant.slots import QuantItem
from paramgolf.stored import Stored
from paramgolf.techniques.quant import EqualSlope, PlainValues, RateDistortion
from paramgolf.techniques.quant.equal_slope import in_threads

CODED = RateDistortion(states=8, rows="curvature", columns=True, choose_rate=True)


def item(
    name: str, seed: int, *, rows: int = 160, columns: int = 128, sharp: float = 1.0, scale: float = 0.05
) -> QuantItem:
    """A matrix whose errors cost `sharp`, on inputs of many sizes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(1000, columns, generator=generator) * torch.exp(
        0.5 * torch.randn(columns, generator=generator)
    )
    curvature = sharp * torch.exp(0.7 * torch.randn(rows, generator=generator))
    weight = scale * torch.randn(rows, columns, generator=generator)
    return QuantItem(name, Role.MLP, weight, inputs.mT @ inputs / 1000, CODED, curvature)


def model_items() -> list[QuantItem]:
    """A sharp one, a flat one, one of large weights, and a vector that is kept as it is."""
    vector = QuantItem("gain", Role.SCALE, torch.ones(50), None, PlainValues(bits=32))
    return [item("sharp", 1, sharp=30.0), vector, item("flat", 2, sharp=0.1), item("large", 3, scale=0.2)]


def entropy_bytes(stored: Mapping[str, Stored]) -> int:
    """What an ideal coder with one table an array needs."""
    total = 0.0
    for array in (array for weight in stored.values() for term in weight.terms for array in term.arrays()):
        _, counts = array.unique(return_counts=True)
        total += float((counts * (counts.sum() / counts.double()).log2()).sum()) / 8 + len(counts)
    return int(total)


def loss(items: list[QuantItem], stored: Mapping[str, Stored]) -> float:
    """The nats that the curvature predicts."""
    return sum(nats(part, stored[part.name].dense()) for part in items if part.hessian is not None)


def nats(part: QuantItem, dense: Tensor) -> float:
    lost = (dense - part.weight).double()
    return float((part.rows.double() / 2 * ((lost @ part.hessian.double()) * lost).sum(1)).sum())


@pytest.mark.parametrize("budget", [14_000, 24_000, 36_000])
def test_it_fills_the_budget_from_below(budget):
    items = model_items()
    stored = EqualSlope()(items, budget, entropy_bytes)
    assert list(stored) == [part.name for part in items]
    assert budget - 2000 <= entropy_bytes(stored) <= budget
    assert torch.equal(stored["gain"].dense(), torch.ones(50))


def test_bytes_go_where_errors_cost_most():
    items = model_items()
    budget = 24_000
    stored = EqualSlope()(items, budget, entropy_bytes)
    alike = {part.name: part.alone() for part in items}
    # Every matrix with the same bits a weight, its own steps just as clever: brought to the same bytes by 6 dB a bit.
    spare = 8 * (entropy_bytes(alike) - entropy_bytes(stored)) / (3 * 160 * 128)
    assert loss(items, stored) < 0.75 * loss(items, alike) * 4**spare
    bits = {
        name: float(weight.terms[0].codes.float().square().mean()) for name, weight in stored.items() if name != "gain"
    }
    assert bits["sharp"] > 10 * bits["flat"]


def test_slopes_are_equal_and_moving_bytes_does_not_pay():
    """One matrix finer and another coarser, brought to the same bytes, lose more: the point is stationary."""
    items = [part for part in model_items() if part.hessian is not None]
    first, second = (part.quantizer.prepared(part.weight, part.hessian, part.rows) for part in items[::2])

    def both(slopes: tuple[float, float]) -> tuple[float, float]:
        terms = first.at(slopes[0]).term, second.at(slopes[1]).term
        stored = {
            part.name: Stored(tuple(part.weight.shape), (term,)) for part, term in zip(items[::2], terms, strict=True)
        }
        return entropy_bytes(stored), loss(items[::2], stored)

    size, equal = both((1e-4, 1e-4))
    for factor in (4.0, 0.25):
        other_size, other = both((1e-4 * factor, 1e-4 / factor))
        assert other * 4 ** (8 * (other_size - size) / (2 * 160 * 128)) > 1.05 * equal


def test_the_same_twice_whatever_the_threads(monkeypatch):
    one = EqualSlope()(model_items(), 24_000, entropy_bytes)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    two = EqualSlope()(model_items(), 24_000, entropy_bytes)
    for name, weight in one.items():
        assert np.array_equal(weight.dense().numpy(), two[name].dense().numpy())


def test_without_a_budget_or_curvature_each_spends_its_own_bits():
    items = [part._replace(rows=None) for part in model_items()]
    for stored in (EqualSlope()(items, 24_000, entropy_bytes), EqualSlope()(model_items(), None, entropy_bytes)):
        for part in items:
            assert torch.equal(stored[part.name].dense(), part.alone().dense())


def test_what_cannot_fit_is_refused_with_its_size():
    with pytest.raises(OverBytes, match="do not fit 150 bytes"):
        EqualSlope(tries=3)(model_items(), 150, entropy_bytes)
    with pytest.raises(ValueError, match="0 tries"):
        EqualSlope(tries=0)


def test_a_budget_beyond_codes_of_a_byte_is_not_filled():
    small = model_items()
    stored = EqualSlope(tries=12)(small, 10_000_000, entropy_bytes)
    assert entropy_bytes(stored) < 10_000_000
    for part in small:
        lost = torch.linalg.vector_norm(stored[part.name].dense() - part.weight)
        assert lost < 0.1 * torch.linalg.vector_norm(part.weight)


def test_threads_keep_torch_to_one_and_give_it_back():
    before = torch.get_num_threads()
    assert in_threads(lambda number: (number, torch.get_num_threads()), [3, 1, 2]) == [(3, 1), (1, 1), (2, 1)]
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda number: 1 // number, [1, 0])
    assert torch.get_num_threads() == before

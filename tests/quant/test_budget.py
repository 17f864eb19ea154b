"""Filling a budget: from below, near, and in few exports."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CPU, tiny_run

from paramgolf.artifact.container import expected_of, pack
from paramgolf.errors import OverBytes, UsageError
from paramgolf.quant.budget import MOST_TRIES, NEAR_BYTES, fill, quantize_to_budget
from paramgolf.quant.plan import QuantConfig, quantize
from paramgolf.quant.slots import ArtifactSize, QuantItem
from paramgolf.quant.step_width import has_widths, steps_scaled, widened
from paramgolf.stages import fresh_model
from paramgolf.stored import Grid, Stored
from paramgolf.techniques.quant import GPTQ, AbsmaxClip, Int8Rows, PlainValues, RateDistortion, RowGridCodes, SDClip

NOTHING: dict[str, Stored] = {}


@given(
    st.integers(10_000, 10**8),
    st.floats(0.3, 3.0),
    st.floats(0.05, 0.9),
    st.floats(-2.0, 2.0),
    st.floats(0.0, 0.5),
)
def test_a_budget_is_filled_from_below(weights: int, slope: float, fixed: float, away: float, bend: float) -> None:
    """Sizes fall with the logarithm of the step, not quite straight; the slope that is known beforehand is wrong."""
    known = weights * math.log2(math.e) / 8
    place = 0.0

    def export(log_factor: float) -> dict[str, Stored]:
        nonlocal place
        place = log_factor
        return NOTHING

    def size_at(x: float) -> int:
        return round(weights * fixed + known * slope * (6 - x - bend * math.tanh(x)))

    found = fill(export, lambda stored: size_at(place), size_at(away), slope=known, tries=MOST_TRIES)
    assert found.best is not None
    best = max(item.bytes for item in found.tries if item.bytes <= size_at(away))
    assert size_at(away) - best <= NEAR_BYTES
    assert len(found.tries) < MOST_TRIES


def test_sizes_that_jump_do_not_lead_astray() -> None:
    sizes = {True: 90_000, False: 120_000}
    place = [0.0]

    def export(log_factor: float) -> dict[str, Stored]:
        place[0] = log_factor
        return NOTHING

    found = fill(export, lambda stored: sizes[place[0] > 0.3], 100_000, slope=40_000, tries=MOST_TRIES)
    assert found.best is not None
    assert min(item.bytes for item in found.tries) == 90_000
    stuck = fill(export, lambda stored: 50_000, 100_000, slope=40_000, tries=MOST_TRIES)
    assert stuck.best is not None
    assert len(stuck.tries) == 2
    assert fill(export, lambda stored: 150_000, 100_000, slope=40_000, tries=MOST_TRIES).best is None


@pytest.mark.parametrize(
    "quantizer",
    [
        RowGridCodes(clip=SDClip(sigmas=11.5)),
        RowGridCodes(bits=5, clip=AbsmaxClip()),
        Int8Rows(keep=0, floor=0.02),
    ],
)
def test_wider_is_coarser_by_the_factor(quantizer: RowGridCodes | Int8Rows) -> None:
    weight = torch.randn(8, 400, generator=torch.Generator().manual_seed(0)) * 0.2

    def step(factor: float) -> torch.Tensor:
        wider = widened(quantizer, factor)
        assert wider is not None
        (term,) = wider(weight, None).terms
        assert isinstance(term, Grid)
        largest = term.codes.abs().amax(1).float() * term.scale.float()
        assert (largest > 0.8 * weight.abs().amax(1)).all() or factor > 2, "tails are cut"
        return term.scale.float()

    for factor in (0.5, 0.9, 1.7):
        torch.testing.assert_close(step(factor), factor * step(1.0), rtol=2e-3, atol=0)


def test_bits_to_spend_are_a_width() -> None:
    assert widened(RateDistortion(bits=4.0), 2.0) == RateDistortion(bits=3.0)
    assert widened(RateDistortion(bits=0.5), 2.0) == RateDistortion(bits=0.05)


@dataclass(frozen=True, kw_only=True)
class Spender:
    """Remembers the budgets it was given; the test's `size` answers what it would come to, and `more`."""

    needs_hessian: ClassVar[bool] = False
    needs_curvature: ClassVar[bool] = False

    budgets: list[int]
    more: int

    def __call__(self, items: Sequence[QuantItem], budget_bytes: int | None, size: ArtifactSize) -> dict[str, Stored]:
        assert budget_bytes is not None
        self.budgets.append(budget_bytes)
        return {item.name: item.alone() for item in items}


@pytest.mark.parametrize("more", [0, 3_000, -9_000])
def test_room_is_made_for_what_comes_after_an_allocator(more: int) -> None:
    model, spender = fresh_model(tiny_run(), CPU), Spender(budgets=[], more=more)

    def size(stored: dict[str, Stored]) -> int:
        return spender.budgets[-1] - 100 + spender.more

    quantize_to_budget(model, QuantConfig(allocate=spender), {}, budget_bytes=50_000, size=size)
    assert len(spender.budgets) == (1 if more == 0 else 2)
    assert 48_000 <= size({}) <= 50_000


def test_an_allocator_that_keeps_to_no_budget_leaves_it_to_the_steps() -> None:
    grid = RowGridCodes(bits=6, clip=SDClip(sigmas=10.0))
    spender = Spender(budgets=[], more=0)
    quant = QuantConfig(attention=grid, mlp=grid, embed=grid, allocate=spender)
    run = tiny_run()
    run = replace(run, model=replace(run.model, dim=64, layers=3))
    model = fresh_model(run, CPU)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))

    def size(stored: dict[str, Stored]) -> int:
        return len(pack(stored, expected_of(model), coder=run.artifact.coder, digest=run.digest))

    goal = int(0.8 * size(quantize(model, replace(quant, allocate=None))))
    assert 0 <= goal - size(quantize_to_budget(model, quant, {}, budget_bytes=goal, size=size)) <= NEAR_BYTES


def test_what_has_no_width_stays() -> None:
    assert widened(PlainValues(), 2.0) is None
    assert not has_widths(QuantConfig())
    quant = QuantConfig(mlp=GPTQ(clip=SDClip(sigmas=12.0)), embed=Int8Rows())
    wider = steps_scaled(quant, 1.5)
    assert wider.mlp == GPTQ(clip=SDClip(sigmas=18.0))
    assert wider.attention == quant.attention
    assert wider.embed == Int8Rows(floor=1.5 / 127)


@pytest.mark.parametrize("share", [0.75, 1.3])
def test_an_export_comes_to_its_bytes(share: float) -> None:
    run = tiny_run()
    run = replace(run, model=replace(run.model, dim=64, layers=3))
    grid = RowGridCodes(bits=6, clip=SDClip(sigmas=10.0))
    quant = QuantConfig(attention=grid, mlp=grid, embed=grid)
    model = fresh_model(run, CPU)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))

    def size(stored: dict[str, Stored]) -> int:
        return len(pack(stored, expected_of(model), coder=run.artifact.coder, digest=run.digest))

    plain = size(quantize(model, quant))
    stored = quantize_to_budget(model, quant, {}, budget_bytes=int(share * plain), size=size)
    assert 0 <= int(share * plain) - size(stored) <= NEAR_BYTES
    with pytest.raises(OverBytes, match="do not fit"):
        quantize_to_budget(model, quant, {}, budget_bytes=1000, size=size)
    with pytest.raises(UsageError, match="no quantizer has a step"):
        quantize_to_budget(model, QuantConfig(), {}, budget_bytes=plain, size=size)


def test_steps_on_the_way_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[float] = []

    def export(log_factor: float) -> dict[str, Stored]:
        places.append(log_factor)
        return NOTHING

    found = fill(export, lambda stored: round(16e6 - 6.4e6 * places[-1]), 14_000_000, slope=6.5e6, tries=MOST_TRIES)
    assert found.best is not None
    assert len(places) <= 4
    assert all(one != two for one, two in pairwise(places))

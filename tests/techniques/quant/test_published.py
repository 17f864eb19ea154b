"""The published quantizers: their formulas, each against a plain reading of its source."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paramgolf.columnspan import ColumnSpan
from paramgolf.lowrank import LowRank
from paramgolf.parts import Role
from paramgolf.quant.correction import weighed_loss
from paramgolf.quant.slots import QuantItem, Quantizer
from paramgolf.stored import Grid, Plain, Stored
from paramgolf.techniques.quant import (
    GPTQ,
    LQER,
    AbsmaxClip,
    AdaptiveClip,
    AWQLite,
    HessianSDClip,
    Int8Rows,
    MixedBits,
    PlainValues,
    QuantileSearch,
    RowGridCodes,
    SDClip,
    SelectivePruning,
    SmallInt8,
)


def normal_weight(rows: int, columns: int, seed: int = 0, size: float = 0.05) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size


def inputs_squared(columns: int, seed: int = 0, size: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    mix = torch.randn(columns, columns, generator=generator) * torch.logspace(-1, 0.5, columns)
    inputs = size * torch.randn(4 * columns, columns, generator=generator) @ mix
    return inputs.mT @ inputs


def item(name: str, weight: Tensor, quantizer: Quantizer, role: Role = Role.MLP, **values: Any) -> QuantItem:
    return QuantItem(name, role, weight, values.get("hessian", inputs_squared(weight.shape[-1])), quantizer)


def grid_term(stored: Stored) -> Grid:
    assert isinstance(stored.terms[0], Grid)
    return stored.terms[0]


def uncounted(stored: object) -> int:
    raise AssertionError("nobody needs the size here")


# clips


@pytest.mark.parametrize("bits", [3, 6, 8])
def test_clips_by_hand(bits: int):
    weight, limit = torch.tensor([[3.0, -4.0], [0.0, 0.0], [1.0, 1.0]]), 2 ** (bits - 1) - 1
    assert (limit * AbsmaxClip()(weight, None, limit)).tolist()[0] == pytest.approx([4.0, 0.0, 1.0])
    sigmas = [(12.5 / 1) ** 0.5, 0.0, 1.0]
    assert (limit * SDClip(sigmas=2.0)(weight, None, limit)).tolist()[0] == pytest.approx([2 * s for s in sigmas])


def test_rows_that_meet_strong_inputs_are_clipped_wider():
    weight = torch.tensor([[1.0, -1.0], [1.0, -1.0], [2.0, 0.0]])
    steps = HessianSDClip(sigmas=31.0, weight=0.5)(weight, torch.tensor([1.0, 3.0]), 31)[0]
    importance = np.array([4.0, 4.0, 2.0])
    expected = np.array([1.0, 1.0, 2**0.5]) * (1 + 0.5 * (importance / importance.mean() - 1))
    assert steps.tolist() == pytest.approx(expected.tolist())
    assert torch.equal(HessianSDClip()(weight, None, 31), SDClip()(weight, None, 31))
    assert torch.equal(HessianSDClip()(torch.zeros(2, 2), torch.ones(2), 31), torch.zeros(1, 2))


@pytest.mark.parametrize("by_row", [True, False])
def test_the_search_takes_the_quantile_of_least_error(by_row: bool):
    weight = normal_weight(6, 500)
    weight[2, 7] = 2.0  # an outlier too large to be clipped, where the other rows gain by it
    rule = QuantileSearch(quantiles=(0.99, 1.0), by_row=by_row)
    grid = grid_term(RowGridCodes(bits=4, clip=rule)(weight, None))
    errors = []
    for share in rule.quantiles:
        step = (np.quantile(weight.abs().numpy(), share, axis=1) / 7).astype(np.float32).astype(np.float16)[:, None]
        kept = np.clip(np.round(weight.numpy() / step.astype(np.float32)), -7, 7) * step.astype(np.float32)
        errors.append(((kept - weight.numpy()) ** 2).sum(1))
    by_rows, whole = np.minimum(*errors), min(error.sum() for error in errors)
    lost = (grid.dense() - weight).square().sum(1).numpy()
    np.testing.assert_allclose(lost.sum(), by_rows.sum() if by_row else whole, rtol=1e-3)
    if by_row:
        assert by_rows.sum() < 0.999 * whole


def test_the_merged_floor_is_of_the_step():
    assert QuantileSearch(floor=1.0)(torch.full((1, 4), 0.01), None, 31).unique().tolist() == pytest.approx([1 / 31])


@pytest.mark.parametrize(
    "clip", [AbsmaxClip(), QuantileSearch(), QuantileSearch(by_row=True), SDClip(), HessianSDClip()]
)
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1), (1, 9), (5, 1), (3, 4)])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.3])
def test_clips_take_any_shape_and_constants(clip: Any, shape: tuple[int, int], value: float):
    weight = torch.full(shape, value)
    for quantizer in (RowGridCodes(clip=clip), GPTQ(clip=clip)):
        stored = quantizer(weight, torch.eye(shape[1]))
        assert stored.shape == shape
        assert torch.allclose(stored.dense(), weight, atol=0.25 * abs(value))


# grids


def test_steps_with_few_bits_cost_little():
    weight = normal_weight(64, 256)
    fine, coarse = (grid_term(RowGridCodes(clip=SDClip(), mantissa=bits)(weight, None)) for bits in (10, 2))
    assert len(coarse.scale.unique()) <= 4 < 40 < len(fine.scale.unique())
    lost = [float((grid.dense() - weight).square().sum()) for grid in (fine, coarse)]
    assert lost[1] == pytest.approx(lost[0], rel=0.1)


def test_gptq_tries_every_alternative_with_its_feedback():
    weight, hessian = normal_weight(9, 40), inputs_squared(40)
    rule = QuantileSearch(quantiles=(0.96, 1.0), by_row=True)
    alone = [GPTQ(bits=4, clip=replace(rule, quantiles=(share,)))(weight, hessian).dense() for share in rule.quantiles]
    both = GPTQ(bits=4, clip=rule)(weight, hessian).dense()
    errors = torch.stack([(kept - weight).square().sum(1) for kept in alone])
    torch.testing.assert_close((both - weight).square().sum(1), errors.min(0).values)
    assert set(errors.argmin(0).tolist()) == {0, 1}, "the weights should leave something to choose"


@given(st.integers(0, 2**31), st.sampled_from([AbsmaxClip(), SDClip(sigmas=11.5), QuantileSearch()]))
def test_gptq_beats_the_row_grid_where_it_counts(seed: int, clip: Any):
    weight, hessian = normal_weight(6, 24, seed), inputs_squared(24, seed)
    nearest = RowGridCodes(bits=5, clip=clip)(weight, hessian)
    fed = GPTQ(bits=5, clip=clip)(weight, hessian)
    assert weighed_loss(fed.dense() - weight, hessian) < weighed_loss(nearest.dense() - weight, hessian)


def test_gptq_is_the_same_for_every_order_of_rows_and_every_time():
    weight, hessian = normal_weight(8, 32), inputs_squared(32)
    quantizer = GPTQ(clip=SDClip())
    stored = quantizer(weight, hessian)
    assert torch.equal(stored.dense(), quantizer(weight.clone(), hessian.clone()).dense())
    turned = torch.arange(7, -1, -1)
    torch.testing.assert_close(quantizer(weight[turned], hessian).dense(), stored.dense()[turned])


def test_columns_come_back_in_their_places():
    """Act order is undone: permuting the inputs permutes the outcome."""
    weight, hessian = normal_weight(8, 32), inputs_squared(32)
    turned = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    straight = GPTQ(clip=SDClip())(weight, hessian).dense()
    again = GPTQ(clip=SDClip())(weight[:, turned], hessian[turned][:, turned]).dense()
    assert (again == straight[:, turned]).float().mean() > 0.99


@pytest.mark.parametrize("quantizer", [RowGridCodes, GPTQ])
@pytest.mark.parametrize("wrong", [{"bits": 1}, {"bits": 9}, {"mantissa": 11}, {"mantissa": -1}])
def test_grids_that_do_not_exist_are_refused(quantizer: Any, wrong: dict[str, int]):
    with pytest.raises(ValueError):
        quantizer(**wrong)


def test_small_tensors():
    vector = torch.linspace(-1, 1, 64)
    stored = SmallInt8()(vector, None)
    assert grid_term(stored).scale.shape == (1,)
    assert torch.allclose(stored.dense(), vector, atol=1 / 254 + 1e-4)
    assert grid_term(SmallInt8()(torch.randn(8, 12), None)).scale.shape == (8,)
    for shape in [(31,), (8193,), (), (0,)]:
        assert isinstance(SmallInt8()(torch.zeros(shape), None).terms[0], Plain)
    assert SmallInt8(others=32)(torch.tensor(0.1), None).dense() == torch.tensor(0.1)


# whole-model techniques


def kept_alone(items: list[QuantItem]) -> dict[str, Stored]:
    return {each.name: each.alone() for each in items}


def some_items(quantizer: Quantizer) -> list[QuantItem]:
    """Four matrices, the second of which loses most; and a vector."""
    sizes = {"a": 0.02, "b": 0.2, "c": 0.05, "d": 0.1}
    matrices = [item(name, normal_weight(24, 64, ord(name), size), quantizer) for name, size in sizes.items()]
    return [*matrices, QuantItem("scale", Role.SCALE, torch.ones(5), None, PlainValues(bits=32))]


@pytest.mark.parametrize("settings", [{}, {"weighted": True, "left_bits": 4}, {"symmetric": True}, {"group": 37}])
def test_lqer_mends_the_matrices_that_lost_most(settings: dict[str, Any]):
    items = some_items(GPTQ(bits=3, clip=SDClip(sigmas=3.0)))
    before = kept_alone(items)
    after = LQER(top=2, **settings)(items, before, None, uncounted)
    assert list(after) == list(before)
    mended = [name for name, stored in after.items() if len(stored.terms) == 2]
    assert sorted(mended) == ["b", "d"]
    for each in items:
        if each.name in mended:
            hessian = each.hessian if settings.get("weighted") else None
            losses = [weighed_loss(kept[each.name].dense() - each.weight, hessian) for kept in (before, after)]
            assert losses[1] < losses[0]
            term = after[each.name].terms[1]
            assert isinstance(term, LowRank)
            symmetric = settings.get("symmetric") or "group" in settings
            most = 2 ** (settings.get("left_bits", 2) - 1)
            assert term.left.codes.abs().max() <= (7 if symmetric else most)
            assert term.left.codes.max() <= (7 if symmetric else most - 1)
        else:
            assert after[each.name] is before[each.name]


def test_lqer_leaves_out_what_does_not_help():
    exact = [item("a", torch.ones(24, 64), GPTQ())]
    stored = {"a": Stored((24, 64), (Plain(values=torch.ones(24, 64)),))}
    assert LQER()(exact, stored, None, uncounted) == stored


def test_awq_lite_refines_the_most_salient_columns():
    items = some_items(GPTQ(bits=4, clip=SDClip(sigmas=4.0)))
    hessian = inputs_squared(64)
    hessian[40:48] *= 100
    hessian[:, 40:48] *= 100
    items[2] = items[2]._replace(hessian=hessian)
    before = kept_alone(items)
    after = AWQLite(width=8, top=1)(items, before, None, uncounted)
    assert [name for name in after if after[name] is not before[name]] == ["c"]
    coarse, span = after["c"].terms
    assert isinstance(span, ColumnSpan)
    assert isinstance(coarse, Grid)
    assert 36 <= span.start <= 44
    assert not coarse.codes[:, span.start : span.start + 8].any()
    torch.testing.assert_close(span.scale.float(), coarse.scale.float() * 7 / 127, rtol=1e-3, atol=1e-7)
    assert span.codes.abs().max() > 7
    losses = [weighed_loss(kept["c"].dense() - items[2].weight, hessian) for kept in (before, after)]
    assert losses[1] < 0.5 * losses[0]


def test_adaptive_clips_are_finer_where_errors_cost_more():
    items = some_items(GPTQ(bits=6, clip=SDClip(sigmas=12.0)))
    rule = AdaptiveClip()
    clips = dict(zip("abcd", rule.clips(items[:4]), strict=True))
    assert clips["b"] < clips["d"] < clips["c"] < clips["a"], "b has the largest weights"
    logs = np.log(list(clips.values()))
    assert logs.mean() == pytest.approx(np.log(12.0), abs=1e-6)
    sensitivities = [float(i.hessian.diagonal().mean() * i.weight.var(1, correction=0).mean()) for i in items[:4]]
    assert np.polyfit(np.log(sensitivities), logs, 1)[0] == pytest.approx(-0.15, abs=1e-6)
    stored = rule(items, None, uncounted)
    assert torch.equal(
        stored["b"].dense(), GPTQ(clip=SDClip(sigmas=clips["b"]))(items[1].weight, items[1].hessian).dense()
    )
    assert torch.equal(stored["scale"].dense(), torch.ones(5))


def test_adaptive_clips_keep_to_their_ends_and_their_mean():
    items = some_items(GPTQ(bits=6, clip=SDClip(sigmas=12.0)))[:4]
    wild = AdaptiveClip(exponent=3.0, around=12.85, shift=0.012).clips(items)
    assert min(wild) >= 6.0 * (1 - 1e-9)
    assert max(wild) <= 24.0 * (1 + 1e-9)
    assert np.log(wild).mean() == pytest.approx(np.log(12.85) + 0.012, abs=1e-6)
    assert AdaptiveClip().clips([]) == []
    embed = [items[0]._replace(role=Role.EMBED)]
    assert AdaptiveClip()(embed, None, uncounted)["a"].dense().equal(embed[0].alone().dense())


def test_mixed_bits_go_by_the_trace():
    items = some_items(GPTQ(bits=6))
    items[2] = items[2]._replace(hessian=100 * items[2].hessian)
    stored = MixedBits(keep=1, bits=4)(items, None, uncounted)
    assert {name: grid_term(stored[name]).bits for name in "abcd"} == {"a": 4, "b": 4, "c": 6, "d": 4}


@dataclass(frozen=True)
class Counting:
    """Half a byte for a code that is not zero; remembers how often it was asked."""

    asked: list[int]

    def __call__(self, stored: Any) -> int:
        self.asked.append(1)
        return sum(int(grid_term(stored[name]).codes.count_nonzero()) // 2 for name in "abcd")


@pytest.mark.parametrize("saved", [10, 60, 150])
def test_pruning_takes_the_cheapest_until_it_fits(saved: int):
    items = some_items(RowGridCodes(bits=4))
    before, size = kept_alone(items), Counting([])
    budget = size(before) - saved
    size.asked.clear()
    after = SelectivePruning(within=20, tries=8)(items, before, budget, size)
    assert 2 <= len(size.asked) <= 5, "near enough is enough"
    assert size(after) <= budget
    assert size(after) >= budget - 40 or saved < 20
    steps = [grid_term(before[name]).scale for name in "abcd"]
    gone, left = [], []
    for name, step in zip("abcd", steps, strict=True):
        old, new = grid_term(before[name]).codes, grid_term(after[name]).codes
        changed = old != new
        assert (old[changed].abs() == 1).all()
        assert not new[changed].any()
        gone += step[changed.any(1)].tolist()
        left += step[(new.abs() == 1).any(1)].tolist()
    assert gone
    assert max(gone) < min(left), "a dearer code went before a cheaper one"


def test_pruning_without_a_budget_or_with_room_changes_nothing():
    items = some_items(RowGridCodes(bits=4))
    before, size = kept_alone(items), Counting([])
    for budget in (None, size(before)):
        assert SelectivePruning()(items, before, budget, size) == before


def test_pruning_gives_all_it_has_when_that_is_not_enough():
    items = some_items(RowGridCodes(bits=4))
    after = SelectivePruning()(items, kept_alone(items), 1, Counting([]))
    assert all(not (grid_term(after[name]).codes.abs() == 1).any() for name in "abcd")


@pytest.mark.parametrize(
    "make",
    [
        lambda: SDClip(sigmas=0.0),
        lambda: HessianSDClip(weight=2.0),
        lambda: QuantileSearch(quantiles=()),
        lambda: QuantileSearch(quantiles=(1.5,)),
        lambda: QuantileSearch(floor=-1.0),
        lambda: GPTQ(damping=-1.0),
        lambda: LQER(rank=0),
        lambda: AWQLite(bits=9),
        lambda: AdaptiveClip(least=7.0, most=6.0),
        lambda: MixedBits(bits=1),
        lambda: SelectivePruning(tries=0),
        lambda: SmallInt8(others=8),
    ],
)
def test_settings_without_a_meaning_are_refused(make: Any):
    with pytest.raises(ValueError):
        make()


def test_int8_rows_are_a_row_grid_without_its_floor():
    weight = normal_weight(8, 100)
    ours = RowGridCodes(bits=8, clip=QuantileSearch(quantiles=(0.9999984,)))(weight, None)
    assert torch.equal(ours.dense(), Int8Rows(keep=0, floor=0.0)(weight, None).dense())

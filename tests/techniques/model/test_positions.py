"""Rotary positions: complex numbers do the same, bases and rates are the published ones; key offset."""

import math

import pytest
import torch
from token_batches import SMALL, has_predecessor, packed_documents, pass_of, plain_rows, random
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.techniques.model import KeyOffset, Rope, Yarn

DIMS = SMALL.dims._replace(context=2048, dim=512, heads=8, kv_heads=4)


def turned(x: Tensor, rates: list[float]) -> Tensor:
    """(T, E) by complex multiplication: pair i is x[i] + j·x[i + half], turned backwards."""
    half = len(rates)
    pairs = torch.complex(x[:, :half].double(), x[:, half : 2 * half].double())
    angles = torch.arange(len(x), dtype=torch.float64)[:, None] * torch.tensor(rates, dtype=torch.float64)
    pairs = pairs * torch.polar(torch.ones_like(angles), -angles)
    return torch.cat((pairs.real, pairs.imag, x[:, 2 * half :].double()), dim=1).float()


@pytest.mark.parametrize(
    ("filler", "rates"),
    [
        (Rope(), [10_000 ** (-2 * i / 8) for i in range(4)]),
        (Rope(channels=4, base=100.0), [1.0, 0.1]),
        (Rope(channels=4, base=100.0, trained_for=12), [1.0, (100 * 4**2) ** -0.5]),
        (Rope(channels=4, base=100.0, trained_for=48), [1.0, 0.1]),
        (Yarn(base=100.0, trained=10, longest=40), [1.0, 100**-0.25, 0.1 / (1 + 3 / 3), 100**-0.75 / (1 + 3 * 2 / 3)]),
    ],
    ids=str,
)
def test_rotation(filler: Rope | Yarn, rates: list[float]):
    batch = plain_rows(1, 20)
    q, k = random(1, 20, 4, 8), random(1, 20, 2, 8, seed=1)
    part = filler.build(SMALL.dims, 0)
    for given, got in zip((q, k), part(q, k, pass_of(batch)), strict=True):
        for head in range(given.shape[2]):
            torch.testing.assert_close(got[0, :, head], turned(given[0, :, head], rates), rtol=1e-4, atol=1e-5)


def test_records_built_for_1024_trained_with_another_base():
    base = Rope(channels=16, trained_for=1024).stretched(16, 2048)
    assert base == pytest.approx(22_080, rel=1e-3)
    assert Rope(channels=16, trained_for=2048).stretched(16, 2048) == 10_000
    assert Rope(channels=16).stretched(16, 98_304) == 10_000


def test_yarn_as_the_ternary_record_had_it():
    rates = Yarn(base=5000.0, trained=1024, longest=2048).rates(64).tolist()
    for i, rate in enumerate(rates):
        ramp = min(max((i / 32 - 0.25) / 0.75, 0), 1)
        assert rate == pytest.approx(5000 ** (-2 * i / 64) / (ramp * (1 / (1024 / 2048) - 1) + 1))


@pytest.mark.parametrize("filler", [Rope(), Rope(channels=16, trained_for=1024), Yarn()], ids=str)
def test_attention_sees_only_differences_of_positions(filler: Rope | Yarn):
    part = filler.build(DIMS, 0)
    q, k = (random(64, seed=seed).expand(1, 300, 1, 64) for seed in (0, 1))
    q, k = (x[0, :, 0] for x in part(q, k, pass_of(plain_rows(1, 300))))
    scores = q @ k.mT
    for gap in (0, 1, 100):
        diagonal = scores.diagonal(-gap)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-3, atol=1e-3)
    assert not math.isclose(scores[100, 0].item(), scores[0, 0].item(), rel_tol=1e-2)


@pytest.mark.parametrize("batch", [packed_documents(), plain_rows()], ids=["packed", "rows"])
@pytest.mark.parametrize(("first", "from_channel"), [(0, 4), (3, 3)])
def test_key_offset_moves_late_channels_inside_the_document(batch: Batch, first: int, from_channel: int):
    q, k = random(*batch.ids.shape, 4, 8), random(*batch.ids.shape, 2, 8, seed=1)
    same, got = KeyOffset(first=first).build(SMALL.dims, 0)(q, k, pass_of(batch))
    assert same is q
    for row, place in torch.cartesian_prod(*map(torch.arange, batch.ids.shape)).tolist():
        source = place - 1 if has_predecessor(batch, row, place) else place
        assert torch.equal(got[row, place, :, :from_channel], k[row, place, :, :from_channel])
        assert torch.equal(got[row, place, :, from_channel:], k[row, source, :, from_channel:])

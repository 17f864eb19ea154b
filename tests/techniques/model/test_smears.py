"""Both smears, token by token."""

import pytest
import torch
from token_batches import SMALL, fresh, has_predecessor, packed_documents, pass_of, plain_rows, random, random_part

from paramgolf.batch import Batch
from paramgolf.techniques.model import SmearV1, SmearV2

BATCHES = [packed_documents(), plain_rows()]


@pytest.mark.parametrize("batch", BATCHES, ids=["packed", "rows"])
def test_v1_lends_a_share_of_the_predecessor(batch: Batch):
    smear = random_part(SmearV1().build(SMALL.dims))
    x = random(*batch.ids.shape, 32)
    got = smear(x, pass_of(batch))
    for row, place in torch.cartesian_prod(*map(torch.arange, batch.ids.shape)).tolist():
        share = 1 / (1 + (-smear.gate).exp())
        before = x[row, place - 1] if has_predecessor(batch, row, place) else torch.zeros(32)
        torch.testing.assert_close(got[row, place], (1 - share) * x[row, place] + share * before)


@pytest.mark.parametrize(("start", "own"), [(0.0, 0.5), (-3.0, torch.sigmoid(torch.tensor(3.0)).item())])
def test_v1_starts_by_either_convention(start: float, own: float):
    smear, batch = fresh(SmearV1(start=start).build(SMALL.dims)), plain_rows()
    x = random(*batch.ids.shape, 32)
    torch.testing.assert_close(smear(x, pass_of(batch))[:, 1:], own * x[:, 1:] + (1 - own) * x[:, :-1])


@pytest.mark.parametrize("batch", BATCHES, ids=["packed", "rows"])
def test_v2_adds_a_share_of_the_unsmeared_predecessor(batch: Batch):
    smear = random_part(SmearV2(width=6).build(SMALL.dims))
    x = random(*batch.ids.shape, 32)
    got = smear(x, pass_of(batch))
    for row, place in torch.cartesian_prod(*map(torch.arange, batch.ids.shape)).tolist():
        share = smear.strength / (1 + (-(smear.gate[0] @ x[row, place, :6])).exp())
        before = x[row, place - 1] if has_predecessor(batch, row, place) else torch.zeros(32)
        torch.testing.assert_close(got[row, place], x[row, place] + share * before)


def test_v2_has_thirteen_parameters_and_starts_as_nothing():
    smear, batch = fresh(SmearV2().build(SMALL.dims)), packed_documents()
    x = random(*batch.ids.shape, 32)
    assert sum(parameter.numel() for parameter in smear.parameters()) == 13
    assert torch.equal(smear(x, pass_of(batch)), x)


def test_what_the_document_before_ruined_does_not_spread():
    """A mask by multiplication would keep NaN."""
    batch = packed_documents((3, 4))
    x = random(*batch.ids.shape, 32)
    x[0, 2] = float("nan")
    for smear in (SmearV1(), SmearV2()):
        assert fresh(smear.build(SMALL.dims))(x, pass_of(batch))[0, 3:].isfinite().all()

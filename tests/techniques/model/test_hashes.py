"""Hashed pairs and triples, token by token."""

import pytest
import torch
from token_batches import SMALL, fresh, has_predecessor, packed_documents, pass_of, plain_rows, random, random_part
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.techniques.model import BigramHash, TrigramHash

BATCHES = [packed_documents((6, 1, 2, 5)), plain_rows()]
ROWS = 37


def pair_and_triple(batch: Batch, row: int, place: int) -> tuple[int, int]:
    ids = batch.ids[row].tolist()
    pair = triple = ROWS - 1
    if has_predecessor(batch, row, place):
        mixed = (36313 * ids[place]) ^ (27191 * ids[place - 1])
        pair = mixed % (ROWS - 1)
        if has_predecessor(batch, row, place - 1):
            triple = (mixed ^ (51497 * ids[place - 2])) % (ROWS - 1)
    return pair, triple


@pytest.mark.parametrize("batch", BATCHES, ids=["packed", "rows"])
@pytest.mark.parametrize("signs", [False, True])
def test_a_pair_reads_its_row(batch: Batch, signs: bool):
    part = random_part(BigramHash(rows=ROWS, width=8, signs=signs).build(SMALL.dims))
    x = random(*batch.ids.shape, 32)
    got = part(x, pass_of(batch))
    for row, place in torch.cartesian_prod(*map(torch.arange, batch.ids.shape)).tolist():
        pair, _ = pair_and_triple(batch, row, place)
        found: Tensor = part.table[pair]
        if signs:
            before = int(batch.ids[row, place - 1]) if place else 0
            found = found * part.signs[(before ^ int(batch.ids[row, place])) % 8192]
        torch.testing.assert_close(got[row, place], x[row, place] + part.scale * (part.projection.weight @ found))


@pytest.mark.parametrize("batch", BATCHES, ids=["packed", "rows"])
def test_a_triple_reads_two_rows(batch: Batch):
    part = random_part(TrigramHash(rows=ROWS, width=8).build(SMALL.dims))
    x = random(*batch.ids.shape, 32)
    got = part(x, pass_of(batch))
    for row, place in torch.cartesian_prod(*map(torch.arange, batch.ids.shape)).tolist():
        found = sum(part.table[number] for number in pair_and_triple(batch, row, place))
        torch.testing.assert_close(got[row, place], x[row, place] + part.scale * (part.projection.weight @ found))


@pytest.mark.parametrize(("std", "zero"), [(0.0, "table"), (0.01, "projection")])
def test_it_starts_as_nothing_and_can_learn(std: float, zero: str):
    part, batch = fresh(BigramHash(rows=ROWS, width=8, table_std=std).build(SMALL.dims)), plain_rows()
    weights = {"table": part.table, "projection": part.projection.weight}
    assert not weights.pop(zero).any()
    (other,) = weights.values()
    assert other.any()
    x = random(*batch.ids.shape, 32)
    y = part(x, pass_of(batch))
    assert torch.equal(y, x)
    (y * random(*y.shape, seed=1)).sum().backward()
    moved = part.table.grad if zero == "table" else part.projection.weight.grad
    assert moved.any()


def test_the_projection_starts_orthogonal():
    part = fresh(BigramHash(rows=ROWS, width=8).build(SMALL.dims))
    torch.testing.assert_close(part.projection.weight.mT @ part.projection.weight, torch.eye(8), rtol=0, atol=1e-5)


def test_signs_are_the_same_in_every_model_and_are_no_weights():
    first, second = (BigramHash(signs=True).build(SMALL.dims) for _ in range(2))
    assert torch.equal(first.signs, second.signs)
    assert first.signs.unique().tolist() == [-1, 1]
    assert abs(first.signs.float().mean()) < 0.01
    assert "signs" not in first.state_dict()


def test_a_row_as_wide_as_the_model_needs_no_projection():
    part = BigramHash(rows=4, width=32).build(SMALL.dims)
    assert sorted(name for name, _ in part.named_parameters()) == ["scale", "table"]

"""What is added to values: a second embedding, the first layer's values, the predecessor's."""

import pytest
import torch
from token_batches import (
    SMALL,
    has_predecessor,
    packed_documents,
    pass_of,
    plain_rows,
    random,
    random_part,
    small_model,
)

from paramgolf.batch import Batch
from paramgolf.techniques.model import DGAttention, ValueEmbedding, ValueResidual
from paramgolf.techniques.model.value_residual import Form


def test_value_embedding_in_the_last_layers_from_one_table():
    model = small_model(on_value=(ValueEmbedding(width=8, last=2),))
    first, second = (random_part(model.blocks[layer].attention.on_value[0], seed=layer) for layer in (2, 3))
    assert [len(block.attention.on_value) for block in model.blocks] == [0, 0, 1, 1]
    assert second.table is None
    batch = plain_rows()
    now, v, x = pass_of(batch), random(2, 9, 2, 8), random(2, 9, 32)
    for part in (first, second):
        table = first.table
        rows = table.table[batch.ids] @ table.projection.weight.mT
        expected = v + part.scale * table.scale * rows.view(2, 9, 2, 8)
        torch.testing.assert_close(part(v, x, now), expected)
    note = now.notes["value_embedding"]
    first(v, x, now)
    assert now.notes["value_embedding"] is note, "a repeated layer computes it again"


def test_value_embedding_costs_what_the_records_say():
    """1,024 pieces, 128 wide, layers 9 and 10: presets 414 and 549."""
    model = small_model(
        vocab=1024, dim=512, layers=11, heads=8, kv_heads=4, on_value=(ValueEmbedding(width=128, last=2),)
    )
    own = [parameter for block in model.blocks for parameter in block.attention.on_value.parameters()]
    assert sum(parameter.numel() for parameter in own) == 1024 * 128 + 256 * 128 + 1 + 2


@pytest.mark.parametrize("form", ["mix", "add", "sigmoid"])
def test_value_residual_forms(form: Form):
    filler = ValueResidual(form=form, first=0.3, own=0.6)
    leave, mix = filler.build(SMALL.dims, 0), random_part(filler.build(SMALL.dims, 2))
    now, x = pass_of(plain_rows()), random(2, 9, 32)
    first, later = random(2, 9, 2, 8, seed=1), random(2, 9, 2, 8, seed=2)
    assert torch.equal(leave(first, x, now), first)
    expected = {
        "mix": lambda: mix.own * later + mix.first * first,
        "add": lambda: later + mix.first * first,
        "sigmoid": lambda: later + first / (1 + (-mix.first).exp()),
    }[form]()
    torch.testing.assert_close(mix(later, x, now), expected)


def test_value_residual_keeps_the_first_pass_of_the_first_layer():
    leave = ValueResidual().build(SMALL.dims, 0)
    now, x = pass_of(plain_rows()), random(2, 9, 32)
    first, again = random(2, 9, 2, 8, seed=1), random(2, 9, 2, 8, seed=2)
    leave(first, x, now)
    leave(again, x, now)
    assert now.notes["value_residual"] is first


@pytest.mark.parametrize("batch", [packed_documents(), plain_rows()], ids=["packed", "rows"])
def test_dg_attention_takes_the_predecessors_share_by_depth(batch: Batch):
    v, x = random(*batch.ids.shape, 2, 8), random(*batch.ids.shape, 32)
    assert DGAttention().build(SMALL.dims, 0) is None
    got = DGAttention().build(SMALL.dims, 2)(v, x, pass_of(batch))
    for row, place in torch.cartesian_prod(*map(torch.arange, batch.ids.shape)).tolist():
        before = v[row, place - 1] if has_predecessor(batch, row, place) else 0.0
        torch.testing.assert_close(got[row, place], v[row, place] - 2 / 3 * before)

"""Masks by blocks against torch's own, which looks at every pair of tokens."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from paramgolf.batch import Batch
from paramgolf.model.masks import BLOCK, block_mask, dense_mask


def packed(length: int, *, cuts: int, seed: int) -> Batch:
    drawn = torch.randint(1, length, (cuts,), generator=torch.Generator().manual_seed(seed))
    edges = torch.tensor(sorted({0, length, *drawn.tolist()}), dtype=torch.int32)
    ids = torch.zeros(1, length, dtype=torch.long)
    return Batch(ids, ids, edges if cuts else None, length)


@pytest.mark.parametrize("length", [128, 300, 640, 1000])
@pytest.mark.parametrize("window", [0, 128, 200])
@pytest.mark.parametrize("cuts", [0, 1, 6])
def test_the_same_blocks_as_torch_finds(length: int, window: int, cuts: int):
    batch = packed(length, cuts=cuts, seed=length + window)
    segments, reach = batch.segments(), window or length

    def inside(b, h, i, j):
        return (i >= j) & (i - j < reach) & (segments[b, i] == segments[b, j])

    ours, theirs = block_mask(batch, window), create_block_mask(inside, 1, None, length, length, device="cpu")
    torch.testing.assert_close(ours.to_dense(), theirs.to_dense(), check_dtype=False)


@pytest.mark.parametrize("cuts", [0, 3])
def test_a_whole_block_hides_nothing(cuts: int):
    batch = packed(1000, cuts=cuts, seed=5)
    mask, dense = block_mask(batch), dense_mask(batch.segments())[0, 0]
    counts, places = mask.full_kv_num_blocks[0, 0], mask.full_kv_indices[0, 0]
    whole = [(q, int(k)) for q in range(len(counts)) for k in places[q, : counts[q]]]
    assert whole
    for q, k in whole:
        assert dense[q * BLOCK : (q + 1) * BLOCK, k * BLOCK : (k + 1) * BLOCK].all()

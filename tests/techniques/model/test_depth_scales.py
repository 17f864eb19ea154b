"""LN scale and gated skips."""

import torch
from token_batches import SMALL, fresh, random, random_part, small_model

from paramgolf.model.block import rms_norm
from paramgolf.techniques.model import LNScale, UNetSkips


def test_ln_scale_shrinks_what_both_halves_read():
    model = small_model(on_norm=(LNScale(),))
    x = random(1, 3, 32)
    for layer, block in enumerate(model.blocks):
        torch.testing.assert_close(block.normed(x), rms_norm(x) / (layer + 1) ** 0.5)


def test_gated_skips_take_a_learned_share():
    part = random_part(UNetSkips(gated=True).build(SMALL.dims))
    entered = [random(1, 3, 32, seed=seed) for seed in range(4)]
    memory: list[torch.Tensor] = []
    left = [part(x, place, 4, memory) for place, x in enumerate(entered)]
    assert memory == []
    # What the two blocks of the first half made enters at places 1 and 2, and comes back in reverse order.
    for row, (place, skip) in enumerate([(2, entered[2]), (3, entered[1])]):
        share = 1 / (1 + (-part.gate[row]).exp())
        torch.testing.assert_close(left[place], (1 - share) * part.weight[row] * skip + share * entered[place])
    assert all(torch.equal(a, b) for a, b in zip(left[:2], entered[:2], strict=True))


def test_gated_skips_start_with_half_of_each():
    part = fresh(UNetSkips(gated=True).build(SMALL.dims))
    x, skip = random(1, 3, 32), random(1, 3, 32, seed=1)
    torch.testing.assert_close(part(x, 3, 4, [skip]), (x + skip) / 2)
    assert sum(parameter.numel() for parameter in part.parameters()) == 2 * 2 * 32
    plain = fresh(UNetSkips().build(SMALL.dims))
    torch.testing.assert_close(plain(x, 3, 4, [skip]), x + skip)

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.quant.rounding import nearest_codes
from paramgolf.reorder import (
    FreeOrder,
    by_size,
    feed_forward_order,
    query_head_order,
    reordered,
    unit_sizes,
    value_channel_order,
)

WIDTH, HEADS, KV = 6, 4, 2


def random_weights(seed, **shapes):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def feed_forward(w, x):
    return (torch.relu(x @ w["gate"].T).square() * (x @ w["up"].T)) @ w["down"].T


def attention(w, x, kv_heads):
    """Causal attention of HEADS heads, without rotation: x (T, D)."""
    q = (x @ w["q"].T).view(len(x), HEADS, WIDTH)
    k, v = ((x @ w[name].T).view(len(x), kv_heads, WIDTH).repeat_interleave(HEADS // kv_heads, 1) for name in "kv")
    scores = torch.einsum("the,she->hts", q, k).masked_fill(~torch.ones(len(x), len(x)).tril().bool(), -torch.inf)
    return torch.einsum("hts,she->the", scores.softmax(-1), v).reshape(len(x), -1) @ w["out"].T


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.booleans())
def test_a_feed_forward_does_not_notice_the_order_of_its_units(seed, sort):
    w = random_weights(seed, gate=(32, 8), up=(32, 8), down=(8, 32))
    order = feed_forward_order(("gate", "up"), "down")
    permutation = by_size(w, order) if sort else torch.randperm(32)
    x = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(feed_forward(reordered(w, order, permutation), x), feed_forward(w, x))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_attention_does_not_notice_the_order_of_heads_of_one_key(seed):
    shape = (HEADS * WIDTH, 8)
    w = random_weights(seed, q=shape, k=(KV * WIDTH, 8), v=(KV * WIDTH, 8), out=(8, HEADS * WIDTH))
    order = query_head_order("q", "out", heads=HEADS, kv_heads=KV, width=WIDTH)
    x = torch.randn(5, 8, dtype=torch.float64)
    moved = reordered(w, order, torch.tensor([1, 0, 3, 2]))
    assert not torch.equal(moved["q"], w["q"])
    torch.testing.assert_close(attention(moved, x, KV), attention(w, x, KV))
    with pytest.raises(ValueError, match="between their 2 groups"):
        reordered(w, order, torch.tensor([2, 1, 0, 3]))


@pytest.mark.parametrize("kv_heads", [HEADS, KV, 1])
def test_attention_does_not_notice_the_order_of_value_channels(kv_heads):
    narrow, wide = (kv_heads * WIDTH, 8), (HEADS * WIDTH, 8)
    w = random_weights(3, q=wide, k=narrow, v=narrow, out=wide[::-1])
    order = value_channel_order("v", "out", heads=HEADS, kv_heads=kv_heads)
    x = torch.randn(5, 8, dtype=torch.float64)
    moved = reordered(w, order, by_size(w, order))
    assert not torch.equal(moved["v"], w["v"])
    torch.testing.assert_close(attention(moved, x, kv_heads), attention(w, x, kv_heads))


def test_codes_of_permuted_weights_are_the_permuted_codes():
    w = random_weights(0, up=(16, 8), down=(8, 16))
    order = feed_forward_order(("up",), "down")
    permutation = by_size(w, order)
    scales = {name: (weight.std(1) / 3).half() for name, weight in w.items()}
    codes = {name: nearest_codes(weight.float(), scales[name], bits=6) for name, weight in w.items()}
    moved = reordered(w, order, permutation)
    again = {"up": scales["up"][permutation], "down": scales["down"]}
    for name, expected in reordered(codes, order, permutation).items():
        assert torch.equal(nearest_codes(moved[name].float(), again[name], bits=6), expected)


def test_units_are_sorted_by_what_makes_and_reads_them():
    w = random_weights(1, up=(12, 4), down=(4, 12))
    order = FreeOrder(("up",), ("down",), groups=3)
    moved = reordered(w, order, by_size(w, order))
    sizes = unit_sizes(moved, order).view(3, 4)
    assert (sizes.diff(dim=1) >= 0).all()
    assert torch.equal(by_size(moved, order), torch.arange(12))


@pytest.mark.parametrize("permutation", [[0, 0, 1, 2], [0, 1, 2], [1, 2, 3, 4]])
def test_what_is_no_permutation_is_refused(permutation):
    w = random_weights(1, up=(4, 4), down=(4, 4))
    with pytest.raises(ValueError, match="not a permutation of 4"):
        reordered(w, feed_forward_order(("up",), "down"), torch.tensor(permutation))


def test_matrices_that_do_not_agree_are_refused():
    w = random_weights(1, up=(6, 4), down=(4, 8))
    with pytest.raises(ValueError, match="alike"):
        by_size(w, feed_forward_order(("up",), "down"))

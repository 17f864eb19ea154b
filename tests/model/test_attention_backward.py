"""The one function from wide product to gated heads against its parts one after another."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paramgolf.model.kernels.flash4 import flash4_attention
from paramgolf.model.kernels.own_value import without_own_value
from paramgolf.model.kernels.query_key import queries_keys_values
from paramgolf.model.kernels.reworked_attention import (
    PaddedDocuments,
    attention_sums_run,
    document_slots,
    padded_rows,
    reworked_attention,
)
from paramgolf.model.rotation import Rotation, rotary_rates


def offsets(lengths: Sequence[int]) -> Tensor:
    """Of documents so long; int32, with the zero before the first."""
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


@given(lengths=st.lists(st.integers(0, 300), min_size=1, max_size=12), rows=st.sampled_from([64, 128]))
def test_slots_of_documents_are_where_flash_attention_pads_them_to(lengths: list[int], rows: int) -> None:
    edges = offsets(lengths)
    tokens = int(edges[-1])
    expected = []
    for index, length in enumerate(lengths):
        first = (int(edges[index]) + index * rows) // rows * rows
        expected += [64 * (first + at) + min(64, length - at // 64 * 64) % 64 for at in range(length)]
    found = document_slots(edges, tokens, rows)
    assert found.tolist() == expected
    assert found.dtype == torch.int32
    slots = found // 64
    assert len(slots.unique()) == tokens
    assert tokens == 0 or int(slots.max()) < padded_rows(edges, tokens, rows)


def test_of_each_64_rows_it_is_told_how_many_are_used_unless_all_are() -> None:
    codes = document_slots(offsets([3, 64, 0, 200]), 267)
    blocks, counts = (codes // 4096).unique(return_counts=True)
    for block, count in zip(blocks, counts, strict=True):
        assert (codes[codes // 4096 == block] % 64 == count % 64).all()


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted.detach().double()).norm() / wanted.detach().double().norm())


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("lengths", "channels"),
    [((3, 297, 1, 699, 0), 16), ((128, 64, 512, 296), 64), ((1000,), 16), ((4, 3, 9) * 130, 16)],
)
def test_gradients_handed_on_between_kernels_are_those_of_the_parts(
    lengths: tuple[int, ...], channels: int, compiled: bool
) -> None:
    if not attention_sums_run():
        pytest.skip("needs a Hopper and flash-attn-4 in the version read")
    edges = offsets(lengths).cuda()
    tokens = int(edges[-1])
    generator = torch.Generator("cuda").manual_seed(3)
    wide, logits, weight = (
        torch.randn(1, tokens, n, device="cuda", generator=generator).bfloat16() for n in (1024, 8, 512)
    )
    gain = torch.randn(8, device="cuda", generator=generator)
    turn = Rotation(rotary_rates(channels, 1e4), 2048).cuda()

    def whole(wide: Tensor, gain: Tensor, logits: Tensor) -> Tensor:
        documents = PaddedDocuments(edges, document_slots(edges, tokens), tokens)
        return reworked_attention(wide, (turn.cos, turn.sin, gain), logits, 4, documents, (0.5, 1.5))

    def parts(wide: Tensor, gain: Tensor, logits: Tensor) -> Tensor:
        q, k, v, tap = queries_keys_values(wide, turn.cos, turn.sin, gain, 4)
        y = flash4_attention(q, k, v, edges, tokens, 0)
        return without_own_value(y, tap, logits, 0.5, 1.5).flatten(2)

    results = []
    for work in (torch.compile(whole, fullgraph=True) if compiled else whole, parts):
        inputs = [tensor.detach().requires_grad_() for tensor in (wide, gain, logits)]
        y = work(*inputs)
        results.append((y, *torch.autograd.grad(y, inputs, weight)))
    for name, mine, theirs in zip(("y", "wide", "gain", "logits"), *results, strict=True):
        assert relative(mine, theirs) < 6e-3, name

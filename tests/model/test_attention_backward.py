"""The one function from wide product to gated heads against its parts one after another."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paramgolf.model.block import Attention
from paramgolf.model.fused import FUSED
from paramgolf.model.gpt import GPT
from paramgolf.model.kernels import kernels_run
from paramgolf.model.kernels.flash4 import flash4_attention
from paramgolf.model.kernels.own_value import without_own_value
from paramgolf.model.kernels.query_key import queries_keys_values
from paramgolf.model.kernels.reworked_attention import (
    PaddedDocuments,
    attention_sums_run,
    document_blocks,
    reworked_attention,
    values_of,
)
from paramgolf.model.rotation import Rotation, rotary_rates
from paramgolf.presets import preset
from paramgolf.techniques.model import Rope


def offsets(lengths: Sequence[int]) -> Tensor:
    """Of documents so long; int32, with the zero before the first."""
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def padded_place(lengths: Sequence[int]) -> list[int]:
    """The padded row of each token, counted by hand."""
    edges = offsets(lengths)
    found: list[int] = []
    for index, length in enumerate(lengths):
        first = (int(edges[index]) + index * 128) // 128 * 128
        found += range(first, first + length)
    return found


@given(lengths=st.lists(st.integers(0, 300), min_size=1, max_size=12))
def test_blocks_hold_the_tokens_that_flash_attention_pads_to_their_rows(lengths: list[int]) -> None:
    edges = offsets(lengths)
    tokens = int(edges[-1])
    blocks = document_blocks(edges, tokens)
    assert blocks.dtype == torch.int32
    assert len(blocks) * 64 == (tokens + len(edges) * 128 - 1) // 128 * 128
    held: list[list[int]] = [[] for _ in blocks]
    for token, row in enumerate(padded_place(lengths)):
        held[row // 64].append(token)
    for code, mine in zip(blocks.tolist(), held, strict=True):
        assert list(range(code // 128, code // 128 + code % 128)) == mine


@pytest.mark.parametrize(("channels", "width", "taken"), [(8, 64, False), (16, 64, True), (16, 32, False)])
def test_only_heads_whose_sums_can_be_read_go_in_one_piece(channels: int, width: int, taken: bool) -> None:
    shape = preset("pr1855").model
    turned = tuple(replace(part, channels=channels) if isinstance(part, Rope) else part for part in shape.on_qk)
    shape = replace(shape, dim=2 * width, heads=2, kv_heads=1, vocab=256, context=64, on_qk=turned)
    model = GPT(replace(shape, fused=FUSED))
    assert {part.one_piece for part in model.modules() if isinstance(part, Attention)} == {taken}


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
    turn = Rotation(rotary_rates(channels, 1e4), tokens).cuda()

    def whole(wide: Tensor, gain: Tensor, logits: Tensor) -> Tensor:
        documents = PaddedDocuments(edges, document_blocks(edges, tokens), tokens)
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


@pytest.mark.gpu
@pytest.mark.parametrize("half", [8, 16, 32])
@pytest.mark.parametrize("heads", [(8, 4), (6, 2)])
def test_sums_are_cleared_and_read_where_attention_adds_to_them(heads: tuple[int, int], half: int) -> None:
    if not kernels_run():
        pytest.skip("needs Triton and a Hopper")
    from paramgolf.model.kernels.gpu.own_value_rows import run_own_value_backward, run_own_value_readied
    from paramgolf.model.kernels.gpu.query_key_rows import run_query_key_backward

    lengths, (many, kv) = (3, 0, 127, 64, 64, 75, 0, 1), heads
    edges, tokens, generator = offsets(lengths).cuda(), sum(lengths), torch.Generator("cuda").manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda", generator=generator)

    wide, y, dy, logits = (
        draw(tokens, *n).bfloat16() for n in ((64 * (many + 2 * kv),), (many, 64), (many, 64), (many,))
    )
    log_sums, v, blocks = draw(many, tokens), values_of(wide, kv, 64), document_blocks(edges, tokens)
    made, stats, sums = run_own_value_readied((y, v, logits, dy), log_sums, blocks, 0.5, 1.5)
    for mine, plain in zip(made, run_own_value_backward(y, v, logits, dy, 0.5, 1.5), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-2, atol=1e-2)
    place = torch.tensor(padded_place(lengths), device="cuda")
    torch.testing.assert_close(stats[0][:, place], log_sums / math.log(2))
    torch.testing.assert_close(stats[1][:, place], (made[0].float() * y.float()).sum(-1).T, rtol=1e-4, atol=1e-3)
    free = torch.ones(stats.shape[2], dtype=torch.bool, device="cuda").index_fill(0, place, False)
    assert (stats[0][:, free] >= 1e30).all()
    assert (stats[1][:, free] == 0).all()
    used = (blocks > 0).repeat_interleave(4096)
    assert (sums[:, used] == 0).all()
    # A row and a channel of each number as the tensor cores' fragments hold 64 rows of 64.
    eight, rows, row, pair, high, low = torch.meshgrid(*(torch.arange(n) for n in (8, 4, 8, 4, 2, 2)), indexing="ij")
    of_row, of_channel = (16 * rows + 8 * high + row).flatten(), (8 * eight + 2 * pair + low).flatten()
    dq = draw(many, len(blocks), 64, 64)
    lain = dq[:, :, of_row, of_channel].reshape(many, -1)
    of_token = dq.reshape(many, -1, 64)[:, place].transpose(0, 1) * 64**-0.5
    rest, gain = [draw(tokens, kv, 64).bfloat16() for _ in range(3)], draw(many)
    turn = (draw(tokens, 1, half), draw(tokens, 1, half), gain, kv, tokens)
    found = run_query_key_backward(wide, [lain, *rest], *turn, blocks=blocks)
    of_rows = run_query_key_backward(wide, [of_token.contiguous(), *rest], *turn)
    for mine, theirs in zip(found, of_rows, strict=True):
        assert relative(mine, theirs) < 1e-3

"""Kernels around attention, head by head, against their plain twins."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from kernel_inputs import error, on_gpu
from torch import Tensor

from paramgolf.model import head_gate
from paramgolf.model.attention import present
from paramgolf.model.head_gate import HeadGate
from paramgolf.model.kernels.flash4 import flash4_attention
from paramgolf.model.kernels.own_value import without_own_value
from paramgolf.model.kernels.query_key import queries_keys_values
from paramgolf.model.rotation import Rotation, rotary_rates
from paramgolf.model.slots import Tap
from paramgolf.techniques.model.xsa import Exclusion


@pytest.mark.parametrize("channels", [64, 16, 13])
def test_channels_that_a_gate_reads_for_the_sake_of_alignment_change_nothing(
    monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    torch.manual_seed(3)
    gate, x = HeadGate(8, 12, torch.nn.init.normal_), torch.randn(2, 5, channels)
    gate.reset()
    given, results = torch.randn(2, 5, 8), []
    for takes in (False, True):
        monkeypatch.setattr(head_gate, "kernel_takes", lambda _, takes=takes: takes)
        leaf = x.clone().requires_grad_()
        logits = gate.logits(Tap(leaf, leaf))
        results.append((logits, *torch.autograd.grad(logits, (leaf, gate.weight), given)))
    for plain, aligned in zip(*results, strict=True):
        torch.testing.assert_close(aligned, plain)


def rotated(turn: Rotation, x: Tensor) -> Tensor:
    """`x` (B, T, heads, E) by the angles of the first T positions."""
    first, second, rest = x.tensor_split([turn.channels // 2, turn.channels], dim=-1)
    cos, sin = turn.cos[: x.shape[1]], turn.sin[: x.shape[1]]
    return torch.cat((first * cos + second * sin, second * cos - first * sin, rest), dim=-1)


def attended(found: Sequence[Tensor], logits: Tensor, rework: Callable[..., Tensor]) -> Tensor:
    """Something that uses queries, keys and values as a layer does, its gradient different for every number."""
    q, k, v, tap = found
    return rework(q + k.repeat_interleave(2, 2) * v.repeat_interleave(2, 2).roll(1, 1), tap, logits, 0.5, 1.5)


def plain_rework(y: Tensor, v: Tensor, logits: Tensor, sharpness: float, height: float) -> Tensor:
    """Own value and gate by the techniques."""
    rest = Exclusion()(y, Tap(y.flatten(2), v))
    return rest * (height * torch.sigmoid(sharpness * logits)).unsqueeze(-1)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("channels", "rows"), [(16, 1), (64, 2)])
def test_heads_in_one_pass_have_the_gradients_of_the_plain_ones(channels: int, rows: int, compiled: bool) -> None:
    wide, gain, logits = on_gpu(rows, 301, 1024), on_gpu(8).float(), on_gpu(rows, 301, 8)
    turn = Rotation(rotary_rates(channels, 1e4), 512).cuda()

    def fused(wide: Tensor, gain: Tensor, logits: Tensor) -> Tensor:
        return attended(queries_keys_values(wide, turn.cos, turn.sin, gain, 4), logits, without_own_value)

    def plain(wide: Tensor, gain: Tensor, logits: Tensor) -> Tensor:
        q, k, v = wide.unflatten(-1, (-1, 64)).split([8, 4, 4], 2)
        q, k = rotated(turn, F.rms_norm(q, (64,))) * gain[:, None], rotated(turn, F.rms_norm(k, (64,)))
        return attended((q, k, v, v), logits, plain_rework)

    inputs = (wide.requires_grad_(), gain.requires_grad_(), logits.requires_grad_())
    exact = tuple(tensor.detach().float().requires_grad_() for tensor in inputs)
    y, wanted, weight = (
        (torch.compile(fused, fullgraph=True) if compiled else fused)(*inputs),
        plain(*exact),
        on_gpu(rows, 301, 8, 64),
    )
    assert error(y, wanted) < 1e-2
    for mine, theirs in zip(
        torch.autograd.grad(y, inputs, weight), torch.autograd.grad(wanted, exact, weight.float()), strict=True
    ):
        assert error(mine, theirs) < 1.5e-2


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("tapped", "window"), [(False, 0), (True, 0), (True, 100)])
def test_gradients_of_keys_that_query_heads_share_come_apart_and_add_up(
    tapped: bool, window: int, compiled: bool
) -> None:
    """FlashAttention-4 once for each head of the groups, the sums in the kernel of queries and keys."""
    if "fa4" not in present("cuda"):
        pytest.skip("needs flash-attn-4")
    wide, gain, weight = on_gpu(1, 1000, 1024), on_gpu(8).float(), on_gpu(1, 1000, 8, 64)
    edges = torch.tensor([0, 3, 300, 301, 1000, 1000], dtype=torch.int32, device="cuda")
    turn = Rotation(rotary_rates(16, 1e4), 1024).cuda()

    def work(wide: Tensor, gain: Tensor, spread: bool) -> Tensor:
        found = queries_keys_values(wide, turn.cos, turn.sin, gain, 4, tapped=tapped, spread=spread)
        y = flash4_attention(*found[:3], edges, 1000, window)
        return y * found.tap.repeat_interleave(2, 2) if tapped else y

    results = []
    for spread in (False, True):
        inputs = wide.detach().requires_grad_(), gain.detach().requires_grad_()
        y = (torch.compile(work, fullgraph=True) if compiled else work)(*inputs, spread)
        results.append((y, *torch.autograd.grad(y, inputs, weight)))
    for together, apart in zip(*results, strict=True):
        assert error(apart, together) < 6e-3

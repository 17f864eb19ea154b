"""Kernels of the residual stream and of the loss at its end against their plain twins."""

from typing import cast

import pytest
import torch
from kernel_inputs import error, on_gpu
from torch import Tensor

from paramgolf.model.kernels.lane_step import lane_step, plain_lane_step
from paramgolf.model.kernels.mixed_norm import blended_norm, mixed_norm
from paramgolf.model.kernels.softcapped_loss import head_nats, softcapped_costs, softcapped_gradient
from paramgolf.model.slots import Dims
from paramgolf.techniques.model import UNetSkips
from paramgolf.techniques.model.unet_skips import UNetSkipWeights


def test_gradient_left_in_the_logits_is_the_derivative_of_the_costs() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = (30 * torch.randn(7, 50, generator=generator)).requires_grad_()
    targets = torch.randint(0, 50, (7,), generator=generator)
    softcapped_costs(logits, targets, 30.0).sum().backward()
    assert logits.grad is not None
    assert torch.allclose(softcapped_gradient(logits.detach(), targets, 30.0), logits.grad, atol=1e-6)


@pytest.mark.parametrize("gated", [False, True])
def test_a_skip_left_to_the_block_is_the_skip_of_the_technique(gated: bool) -> None:
    skips = cast(UNetSkipWeights, UNetSkips(gated=gated).build(Dims(8, 16, 4, 2, 1, 8, places=4)))
    skips.reset()
    with torch.no_grad():
        for parameter in skips.parameters():
            parameter.add_(torch.randn_like(parameter))
    mine: list[Tensor] = []
    plain: list[Tensor] = []
    for place in range(4):
        x = torch.randn(1, 3, 16)
        merge, wanted = skips.pending(x, place, 4, mine), skips(x, place, 4, plain)
        if isinstance(merge, list):
            merge.append(x)
            merge = None
        found = x if merge is None else merge.share[0] * x + merge.share[1] * merge.joining
        assert torch.allclose(found, wanted, atol=1e-6)
        assert len(mine) == len(plain)


@pytest.mark.gpu
@pytest.mark.parametrize("vocab", [1024, 8192, 1000])
@pytest.mark.parametrize("compiled", [False, True])
def test_fused_loss_has_the_value_and_gradients_of_the_plain_one(vocab: int, compiled: bool) -> None:
    x, weight = on_gpu(640, 512).requires_grad_(), on_gpu(vocab, 512, scale=0.2).requires_grad_()
    targets = torch.randint(0, vocab, (640,), device="cuda", generator=torch.Generator("cuda").manual_seed(3))
    factor = torch.rand(640, device="cuda")
    nats = (torch.compile(head_nats, fullgraph=True) if compiled else head_nats)(x, weight, targets, 30.0)
    wide = [tensor.detach().float().requires_grad_() for tensor in (x, weight)]
    wanted = softcapped_costs((wide[0] @ wide[1].T), targets, 30.0)
    assert error(nats, wanted) < 2e-3
    for found, exact in zip(
        torch.autograd.grad((nats * factor).sum(), (x, weight)),
        torch.autograd.grad((wanted * factor).sum(), wide),
        strict=True,
    ):
        assert error(found, exact) < 1e-2
    with torch.no_grad():
        assert torch.equal(head_nats(x, weight, targets, 30.0), head_nats(x, weight, targets, 30.0))
        assert error(head_nats(x, weight, targets, 30.0), wanted) < 2e-3


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("width", "count", "lead", "goes_on"),
    [
        (512, 2, 12, True),
        (512, 3, 12, True),
        (512, 2, 12, False),
        (96, 3, 0, True),
        (1024, 2, 5, True),
        (96, 2, 0, False),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_mixed_norm_has_the_gradients_of_the_plain_one(
    width: int, count: int, lead: int, goes_on: bool, compiled: bool
) -> None:
    streams = [on_gpu(1, 1001, width, scale=1.0 + place).requires_grad_() for place in range(count)]
    weights = on_gpu(count, width).float().requires_grad_()
    wide = [stream.detach().float().requires_grad_() for stream in streams]
    exact = weights.detach().requires_grad_()
    first = 0 if goes_on else 1
    wanted = (*blended_norm(wide, exact, 0.5, lead), 1.0 * wide[0])[first:]
    mixed = torch.compile(mixed_norm, fullgraph=True) if compiled else mixed_norm
    found = mixed(streams, weights, 0.5, lead, goes_on=goes_on, passes=True)[first:]
    used = [place for place, tensor in enumerate(wanted) if tensor.numel()]
    given = [on_gpu(*tensor.shape) for tensor in wanted]
    for place in used:
        assert error(found[place], wanted[place]) < 1e-2
    for mine, plain in zip(
        torch.autograd.grad([found[place] for place in used], [*streams, weights], [given[place] for place in used]),
        torch.autograd.grad(
            [wanted[place] for place in used], [*wide, exact], [given[place].float() for place in used]
        ),
        strict=True,
    ):
        assert error(mine, plain) < 1e-2


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_of_two_lanes_has_the_gradients_of_the_plain_one(compiled: bool) -> None:
    given = [(on_gpu(1, 333, 96).roll(place, 1) * (1 + place)).requires_grad_() for place in range(4)]
    factors = [on_gpu(2).float().requires_grad_(), on_gpu(2, 2).float().requires_grad_()]
    wide = [tensor.detach().float().requires_grad_() for tensor in given]
    exact = [factor.detach().requires_grad_() for factor in factors]
    step = torch.compile(lane_step, fullgraph=True) if compiled else lane_step
    found = step((given[0], given[1]), given[2], given[3], *factors)
    wanted = plain_lane_step((wide[0], wide[1]), wide[2], wide[3], *exact)
    weights = [on_gpu(1, 333, 96), on_gpu(1, 333, 96).flip(1)]
    for mine, plain in zip(
        torch.autograd.grad(found, [*given, *factors], weights),
        torch.autograd.grad(wanted, [*wide, *exact], [weight.float() for weight in weights]),
        strict=True,
    ):
        assert error(mine, plain) < 1e-2

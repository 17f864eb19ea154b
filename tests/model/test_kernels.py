"""Kernels of our own against their plain twins, and the twins against the definition."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.model.attention import present
from paramgolf.model.fused import FUSED, Fused
from paramgolf.model.gpt import GPT
from paramgolf.model.kernels import quack_runs, sums_run
from paramgolf.model.kernels.eight_bits import (
    NORM_STEP,
    eight_bit_product,
    eight_bit_rows,
    norm_codes,
    plain_eight_bit_product,
    takes_eight_bits,
    weight_codes,
)
from paramgolf.model.kernels.flash4 import flash4_attention
from paramgolf.model.kernels.lane_step import lane_step, plain_lane_step
from paramgolf.model.kernels.mixed_norm import blended_norm, mixed_norm
from paramgolf.model.kernels.normed_feed_forward import normed_feed_forward, plain_normed_feed_forward
from paramgolf.model.kernels.own_value import without_own_value
from paramgolf.model.kernels.query_key import queries_keys_values
from paramgolf.model.kernels.softcapped_loss import head_nats, softcapped_costs, softcapped_gradient
from paramgolf.model.kernels.squared_feed_forward import (
    packed_derivative,
    packed_square,
    squared_feed_forward,
    squared_up,
    squared_up_eight_bits,
    squared_up_gradient,
)
from paramgolf.model.kernels.stream_product import stream_product
from paramgolf.model.mlp import GELU, FeedForwardModule
from paramgolf.model.rotation import Rotation, rotary_rates
from paramgolf.model.slots import Activation, DenseLinear, Dims, KaimingInit, Parameters, Straight, Tap
from paramgolf.presets import preset
from paramgolf.techniques.model import LeakyReLUSquared, TwoLanes, UNetSkips
from paramgolf.techniques.model.unet_skips import UNetSkipWeights
from paramgolf.techniques.model.xsa import Exclusion


def error(found: Tensor, wanted: Tensor) -> float:
    """Relative to the size of what is wanted."""
    found, wanted = found.detach().float(), wanted.detach().float()
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("slope", [0.0, 0.5, 0.75])
def test_packed_square_rounds_without_bias_and_its_derivative_knows_the_sign(slope: float) -> None:
    h = torch.randn(200_000, generator=torch.Generator().manual_seed(1)).requires_grad_()
    exact = F.leaky_relu(h, slope).square()
    exact.sum().backward()
    assert h.grad is not None
    packed = packed_square(h.detach(), slope)
    positive = exact > 1e-30
    relative = ((packed.float() - exact)[positive] / exact[positive]).detach()
    assert relative.abs().max() <= 2**-7
    assert abs(relative.mean()) < 1e-4
    assert error(packed_derivative(packed, slope), h.grad) < 3e-3
    assert ((packed_derivative(packed, slope)[positive] > 0) == (h.detach()[positive] > 0)).all()


def test_gradient_left_in_the_logits_is_the_derivative_of_the_costs() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = (30 * torch.randn(7, 50, generator=generator)).requires_grad_()
    targets = torch.randint(0, 50, (7,), generator=generator)
    softcapped_costs(logits, targets, 30.0).sum().backward()
    assert logits.grad is not None
    assert torch.allclose(softcapped_gradient(logits.detach(), targets, 30.0), logits.grad, atol=1e-6)


@pytest.mark.parametrize("activation", [GELU(), LeakyReLUSquared()])
def test_matrices_take_on_the_gain_of_what_they_write(activation: Activation) -> None:
    made_from = Parameters(DenseLinear(), KaimingInit(), KaimingInit(), activation, fused=True)
    torch.manual_seed(6)
    half = FeedForwardModule(16, 32, made_from)
    half.reset()
    x, gain = torch.randn(2, 5, 16).requires_grad_(), torch.randn(16).requires_grad_()
    inputs = [x, gain, *half.parameters()]
    wanted, found = gain * half(x), half(x, gain)
    assert torch.allclose(found, wanted, atol=1e-6)
    weight = torch.randn_like(wanted)
    for mine, plain in zip(
        torch.autograd.grad(found, inputs, weight), torch.autograd.grad(wanted, inputs, weight), strict=True
    ):
        assert torch.allclose(mine, plain, atol=1e-5)


def test_products_of_8_bit_numbers_come_near_and_have_the_gradients_of_the_exact_ones() -> None:
    generator = torch.Generator().manual_seed(7)
    x = F.rms_norm(torch.randn(48, 512, generator=generator), (512,)).bfloat16().requires_grad_()
    weight = (0.04 * torch.randn(64, 512, generator=generator)).bfloat16().requires_grad_()
    assert takes_eight_bits(weight)
    assert not takes_eight_bits(weight.detach())
    found, exact = eight_bit_product(x, weight), x.float() @ weight.float().T
    assert error(found, plain_eight_bit_product(x, weight)) < 4e-3
    assert 1e-2 < error(found, exact) < 5e-2
    given = torch.randn(48, 64, generator=generator)
    for mine, plain in zip(
        torch.autograd.grad(found, (x, weight), given.bfloat16()),
        torch.autograd.grad(exact, (x, weight), given),
        strict=True,
    ):
        assert error(mine, plain) < 1e-2


def test_codes_of_8_bits_are_cut_off_instead_of_lost() -> None:
    """The largest number that a norm of 512 channels can leave fits; beyond e4m3 there would be NaN."""
    assert norm_codes(torch.tensor([512**0.5])).float().item() * NORM_STEP == pytest.approx(512**0.5, rel=0.07)
    assert norm_codes(torch.tensor([1e6, -1e6])).float().tolist() == [448.0, -448.0]
    codes, step = weight_codes(torch.tensor([[0.0, 0.0], [0.0, 0.0]]))
    assert (codes.float() * step).tolist() == [[0.0, 0.0], [0.0, 0.0]]


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
        found = x if merge is None else merge.share[0] * x + merge.share[1] * merge.stream
        assert torch.allclose(found, wanted, atol=1e-6)
        assert len(mine) == len(plain)


def on_gpu(*shape: int, scale: float = 1.0) -> Tensor:
    """bf16 Gaussians of a fixed seed."""
    generator = torch.Generator("cuda").manual_seed(sum(shape))
    return (scale * torch.randn(*shape, device="cuda", generator=generator)).bfloat16()


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["triton", "quack", "quack, wide"])
@pytest.mark.parametrize(("rows", "width", "hidden"), [(512, 512, 2048), (200, 64, 192), (1000, 512, 1536)])
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_squared_products_equal_their_twins(library: str, rows: int, width: int, hidden: int, slope: float) -> None:
    x, up, down = on_gpu(rows, width), on_gpu(hidden, width, scale=width**-0.5), on_gpu(width, hidden)
    gradient = on_gpu(rows, width)
    if library != "triton":
        if not quack_runs(x):
            pytest.skip("needs quack-kernels 0.6 and a Hopper")
        from paramgolf.model.kernels.gpu.quack_products import (
            QuackTiling,
            run_quack_square,
            run_quack_square_derivative,
        )

        how = QuackTiling(wide=library == "quack, wide")
        a = run_quack_square(x, up, slope, how)
        of_h = run_quack_square_derivative(gradient, down, a, slope, how)
    else:
        from paramgolf.model.kernels.gpu.squared_products import Tiling, run_squared_product

        a = run_squared_product(x, up, None, slope, Tiling())
        of_h = run_squared_product(gradient, down, a, slope, Tiling())
    exact = x.float() @ up.float().T
    assert error(a, packed_square(exact, slope)) < 1e-3
    signs = (a.view(torch.int16) & 1).bool()
    assert (signs == (exact < 0))[exact.abs() > 1e-3].all()
    assert error(of_h, (gradient.float() @ down.float()) * packed_derivative(a, slope)) < 4e-3
    if library != "triton":
        assert torch.equal(a, squared_up(x, up, slope))
        assert torch.equal(of_h, squared_up_gradient(gradient, down, a, slope))


@pytest.mark.gpu
def test_products_of_8_bit_numbers_equal_their_twins_on_the_device() -> None:
    x, weight = F.rms_norm(on_gpu(1000, 512), (512,)), on_gpu(1536, 512, scale=0.04)
    assert error(eight_bit_rows(x, weight), plain_eight_bit_product(x, weight)) < 5e-3
    codes, step = weight_codes(weight)
    squared = squared_up_eight_bits(norm_codes(x), codes, step * NORM_STEP, 0.5)
    assert error(squared, packed_square(plain_eight_bit_product(x, weight), 0.5)) < 5e-3


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_learns_in_8_bits_what_it_learns_in_16(compiled: bool) -> None:
    """Six steps of the record's layers on one batch: the losses fall together."""
    shape = replace(preset("pr1855").model, layers=3, order=Straight(), stream=TwoLanes(last=1), context=512)
    ids = torch.randint(2, shape.vocab, (1, 512), device="cuda", generator=torch.Generator("cuda").manual_seed(8))
    batch, last = Batch(ids, ids.roll(-1)), []
    for fused in (FUSED, (*FUSED, "fp8")):
        torch.manual_seed(9)
        model = GPT(replace(shape, fused=fused, backend="sdpa"))
        model.reset()
        model.cuda().compute = torch.bfloat16
        loss_of = torch.compile(model.loss, fullgraph=True) if compiled else model.loss
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        for _ in range(6):
            optimizer.zero_grad()
            loss = loss_of(batch)
            loss.backward()
            optimizer.step()
        last.append(float(loss))
    assert last[0] < 6
    assert last[1] == pytest.approx(last[0], rel=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "inside", "width"), [(1536, 2048, 512), (1000, 512, 512), (200, 192, 64)])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_product_added_to_the_stream_has_the_gradients_of_the_plain_one(
    rows: int, inside: int, width: int, compiled: bool
) -> None:
    given = (on_gpu(1, rows, width), on_gpu(1, rows, inside), on_gpu(width, inside, scale=inside**-0.5))
    inputs = [tensor.requires_grad_() for tensor in given]
    wide = [tensor.detach().float().requires_grad_() for tensor in inputs]
    product = torch.compile(stream_product, fullgraph=True) if compiled else stream_product
    found, wanted = product(*inputs), wide[0] + wide[1] @ wide[2].T
    assert error(found, wanted) < 3e-3
    weight = on_gpu(1, rows, width).flip(1)
    for mine, exact in zip(
        torch.autograd.grad(found, inputs, weight), torch.autograd.grad(wanted, wide, weight.float()), strict=True
    ):
        assert error(mine, exact) < 4e-3


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "width", "hidden"), [(1536, 512, 2048), (1000, 512, 1536), (200, 64, 192)])
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_norm_inside_products_has_the_gradients_of_the_plain_one(
    rows: int, width: int, hidden: int, slope: float
) -> None:
    x, up, down = on_gpu(1, rows, width, scale=2), on_gpu(hidden, width, scale=width**-0.5), on_gpu(width, hidden)
    if not sums_run():
        pytest.skip("needs quack-kernels 0.6 and a Hopper")
    inputs = [tensor.requires_grad_() for tensor in (x, up, down)]
    wide = [tensor.detach().float().requires_grad_() for tensor in inputs]
    weight = on_gpu(1, rows, width).flip(1)
    wanted = plain_normed_feed_forward(*wide, slope, 0.7)
    exact = torch.autograd.grad(wanted, wide, weight.float())
    for function in (normed_feed_forward, torch.compile(normed_feed_forward, fullgraph=True)):
        found = function(*inputs, slope, 0.7)
        assert error(found, wanted) < 5e-3
        for mine, theirs in zip(torch.autograd.grad(found, inputs, weight), exact, strict=True):
            assert error(mine, theirs) < 1.5e-2


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("adds", [False, True])
def test_fused_feed_forward_has_the_value_and_gradients_of_the_plain_one(adds: bool, compiled: bool) -> None:
    x, up, down = on_gpu(1, 768, 512), on_gpu(2048, 512, scale=0.04), on_gpu(512, 2048, scale=0.02)
    inputs = [tensor.requires_grad_() for tensor in (x, up, down, *([x.flip(1).detach()] if adds else []))]
    fused = torch.compile(squared_feed_forward, fullgraph=True) if compiled else squared_feed_forward
    y = fused(*inputs[:3], 0.5, False, inputs[3] if adds else None)
    wide = [tensor.detach().float().requires_grad_() for tensor in inputs]
    wanted = F.leaky_relu(wide[0] @ wide[1].T, 0.5).square() @ wide[2].T
    wanted = wanted + wide[3] if adds else wanted
    assert error(y, wanted) < 1e-2
    for found, exact in zip(
        torch.autograd.grad(y.float().square().sum(), inputs),
        torch.autograd.grad(wanted.square().sum(), wide),
        strict=True,
    ):
        assert error(found, exact) < 2e-2


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


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("also", [(), ("sums",), ("sums", "middle")])
def test_a_model_with_all_kernels_has_the_loss_and_gradients_of_one_without(
    compiled: bool, also: tuple[Fused, ...]
) -> None:
    """The last record's shape, five layers deep: as near to fp32 as the parts one after another are in bf16.

    Backends of attention are tested on their own.
    """
    shape = replace(
        preset("pr1855").model, layers=5, order=Straight(), stream=TwoLanes(last=1), context=512, backend="sdpa"
    )
    generator = torch.Generator("cuda").manual_seed(4)
    ids = torch.randint(2, shape.vocab, (1, 512), device="cuda", generator=generator)
    edges = torch.tensor([0, 100, 300, 512, 512], dtype=torch.int32, device="cuda")
    batch, found = Batch(ids, ids.roll(-1), edges, 512), []
    ours: tuple[Fused, ...] = (*FUSED, *also)
    for fused, compute in ((ours, torch.bfloat16), ((), torch.bfloat16), ((), torch.float32)):
        torch.manual_seed(5)
        model = GPT(replace(shape, fused=fused))
        model.reset()
        with torch.no_grad():
            for parameter in model.parameters():  # away from zeros, which hide gradients
                parameter += 0.02 * torch.randn_like(parameter)
        model.cuda().compute = compute
        loss = (torch.compile(model.loss, fullgraph=True) if compiled else model.loss)(batch)
        loss.backward()
        with torch.no_grad():  # compiled otherwise than with gradients
            scored = (torch.compile(model, fullgraph=True) if compiled else model)(batch).mean()
        torch.testing.assert_close(scored, loss.detach(), rtol=1e-2, atol=1e-2)
        found.append([loss, *(parameter.grad for parameter in model.parameters())])
    for (name, _), mine, plain, exact in zip([("loss", None), *model.named_parameters()], *found, strict=True):
        assert error(mine, exact) < 0.02 + 1.2 * error(plain, exact), name

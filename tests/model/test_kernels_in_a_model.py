"""Kernels in a whole model: on a GPU, and without one, where operators run the plain twins.

Everything around the operators is the real thing there too: what the compiler makes of them and how gradients find
their way through them does not depend on the device.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kernel_inputs import error
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from paramgolf.batch import Batch
from paramgolf.model import attention, block, gpt, head_gate, mlp
from paramgolf.model.fused import FUSED, Fused
from paramgolf.model.gpt import GPT
from paramgolf.model.kernels.flash4 import flash4_backward, flash4_forward
from paramgolf.model.kernels.lane_step import LANE_RUNS, lane_step_gradient, plain_lane_step
from paramgolf.model.kernels.mixed_norm import NORM_RUNS, blended_norm, mixed_norm_gradient
from paramgolf.model.kernels.own_value import own_value, own_value_gradient
from paramgolf.model.kernels.query_key import query_key, query_key_gradient
from paramgolf.model.kernels.reworked_attention import reworked_gradient, values_of
from paramgolf.model.kernels.softcapped_loss import head_costs, softcapped_costs, softcapped_gradient
from paramgolf.model.kernels.squared_feed_forward import (
    packed_derivative,
    packed_square,
    squared_up,
    squared_up_gradient,
)
from paramgolf.model.slots import Straight
from paramgolf.presets import preset
from paramgolf.techniques.model import TwoLanes, two_lanes

Twin = Callable[..., Any]


def gradients(twin: Twin, inputs: Sequence[Tensor], given: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Of `inputs`, in fp32, from those of what `twin` makes of them. In a thread: operators see no gradients."""

    def work() -> tuple[Tensor, ...]:
        leaves = [tensor.detach().float().requires_grad_() for tensor in inputs]
        made = twin(*leaves)
        pairs = [(out, back.float()) for out, back in zip(made, given, strict=True) if back is not None]
        return torch.autograd.grad([out for out, _ in pairs], leaves, [back for _, back in pairs])

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def plain_heads(wide: Tensor, cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int) -> tuple[Tensor, ...]:
    q, k, v = wide.view(len(wide), len(gain) + 2 * kv, -1).split([len(gain), kv, kv], 1)
    places, turned = torch.arange(len(wide)) % length, cos.shape[-1]

    def rotated(x: Tensor) -> Tensor:
        one, two, rest = F.rms_norm(x, x.shape[-1:]).tensor_split([turned, 2 * turned], -1)
        c, s = cos[places].float(), sin[places].float()
        return torch.cat((one * c + two * s, two * c - one * s, rest), -1)

    return rotated(q) * gain[:, None], rotated(k), v


def plain_own_value(y: Tensor, v: Tensor, logits: Tensor, sharpness: float, height: float) -> tuple[Tensor]:
    own = v.repeat_interleave(y.shape[1] // v.shape[1], 1)
    share = (y * own).sum(-1, keepdim=True) / own.square().sum(-1, keepdim=True).clamp_min(1e-8)
    return ((y - own * share) * (height * torch.sigmoid(sharpness * logits))[..., None],)


def plain_documents(q: Tensor, k: Tensor, v: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    place = torch.arange(len(q))
    document = torch.searchsorted(edges[1:].long(), place, right=True)
    seen = (document[:, None] == document) & (place[:, None] >= place)
    scores = (torch.einsum("qhe,khe->hqk", q, k) / q.shape[-1] ** 0.5).masked_fill(~seen, float("-inf"))
    return torch.einsum("hqk,khe->qhe", scores.softmax(-1), v), scores.logsumexp(-1)


def added(gradient: Tensor) -> Tensor:
    return gradient.float().sum(2) if gradient.dim() > 3 else gradient.float()


@pytest.fixture(scope="module")
def twins() -> None:
    """Every operator of `Fused` and FlashAttention-4's on a CPU, by its plain twin."""

    @squared_up.register_kernel("cpu")
    def _(x: Tensor, weight: Tensor, slope: float) -> Tensor:
        return packed_square(x.float() @ weight.float().T, slope)

    @squared_up_gradient.register_kernel("cpu")
    def _(gradient: Tensor, weight: Tensor, a: Tensor, slope: float) -> Tensor:
        return (gradient.float() @ weight.float() * packed_derivative(a, slope)).bfloat16()

    @head_costs.register_kernel("cpu")
    def _(x: Tensor, weight: Tensor, targets: Tensor, cap: float, keep: bool, fp8: bool = False) -> Any:
        logits = x @ weight.T
        kept = softcapped_gradient(logits, targets, cap) if keep else x.new_empty(0)
        return softcapped_costs(logits, targets, cap), kept

    @own_value.register_kernel("cpu")
    def _(y: Tensor, v: Tensor, logits: Tensor, sharpness: float, height: float) -> Tensor:
        return plain_own_value(y.float(), v.float(), logits.float(), sharpness, height)[0].bfloat16()

    @own_value_gradient.register_kernel("cpu")
    def _(y: Tensor, v: Tensor, logits: Tensor, gradient: Tensor, sharpness: float, height: float) -> Any:
        found = gradients(lambda *x: plain_own_value(*x, sharpness, height), (y, v, logits), (gradient,))
        return tuple(part.to(of.dtype) for part, of in zip(found, (y, v, logits), strict=True))

    @lane_step_gradient.register_kernel("cpu")
    def _(given: list[Tensor], tensors: list[Tensor], write: Tensor) -> list[Tensor]:
        keep = torch.zeros(2)
        *found, of_keep, of_write = gradients(
            lambda l0, l1, a, m, keep, write: plain_lane_step((l0, l1), a, m, keep, write),
            (*tensors, keep, write),
            given,
        )
        shares = torch.zeros(LANE_RUNS, 6)
        shares[0] = torch.cat((of_keep, of_write.flatten()))
        return [found[2].bfloat16(), found[3].bfloat16(), shares]

    @mixed_norm_gradient.register_kernel("cpu")
    def _(du: Any, dn: Tensor, dlead: Any, dpassed: Any, streams: list[Tensor], weights: Tensor, factor: float) -> Any:
        lead = 0 if dlead is None else dlead.shape[-1]
        of_weights, *found = gradients(
            lambda weights, *x: (*blended_norm(x, weights, factor, lead), 1.0 * x[0]),
            (weights, *streams),
            (du, dn, dlead, dpassed),
        )
        shares = torch.zeros(NORM_RUNS, *weights.shape)
        shares[0] = of_weights
        return [*(part.bfloat16() for part in found), shares]

    @query_key.register_kernel("cpu")
    def _(wide: Tensor, cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int) -> Any:
        q, k, _ = plain_heads(wide.float(), cos, sin, gain, kv, length)
        return q.bfloat16(), k.bfloat16()

    @query_key_gradient.register_kernel("cpu")
    def _(
        wide: Tensor, given: list[Tensor], cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int,
        tapped: bool = True, copies: int = 0,
    ) -> Any:  # fmt: skip
        assert given[1].dim() == 3 + (copies > 0)
        of_v = added(given[2]) + (given[3].float() if tapped else 0)
        dwide, dgain = gradients(
            lambda wide, gain: plain_heads(wide, cos, sin, gain, kv, length),
            (wide, gain),
            (given[0], added(given[1]), of_v),
        )
        return dwide.bfloat16(), dgain

    @flash4_forward.register_kernel("cpu")
    def _(q: Tensor, k: Tensor, v: Tensor, edges: Tensor, longest: int, window: int) -> Any:
        y, sums = plain_documents(q.float(), k.float(), v.float(), edges)
        return y.bfloat16().contiguous(), sums

    @flash4_backward.register_kernel("cpu")
    def _(given: Tensor, saved: list[Tensor], edges: Tensor, longest: int, window: int, spread: bool) -> Any:
        q, k, v = saved[:3]
        if not spread:
            return tuple(
                part.bfloat16() for part in gradients(lambda *x: plain_documents(*x, edges)[:1], (q, k, v), (given,))
            )
        parts = [part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v)]
        dq, dk, dv = gradients(lambda *x: plain_documents(*x, edges)[:1], (q, *parts), (given,))
        return dq.bfloat16(), *(part.bfloat16().unflatten(1, (k.shape[1], -1)) for part in (dk, dv))

    @reworked_gradient.register_kernel("cpu")
    def _(wide: Tensor, turn: Any, kept: list[Tensor], given: Tensor, documents: list[Tensor], gate: Any) -> Any:
        (q, k, y, log_sums, logits), kv = kept, kept[1].shape[1]
        v = values_of(wide, kv, q.shape[2])
        dy, dtap, dlogits = own_value_gradient(y, v, logits, given, *gate)
        found = flash4_backward(dy, [q, k, v, y, log_sums], documents[0], len(q), 0, True)
        return *query_key_gradient(wide, [*found, dtap], *turn, kv, len(wide), copies=found[1].shape[2]), dlogits


@pytest.fixture
def as_on_a_gpu(twins: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A device that takes the kernels."""
    for module in (mlp, gpt, block, two_lanes, head_gate):
        monkeypatch.setattr(module, "kernel_takes", lambda x: x.dtype == torch.bfloat16)
    for module in (block, mlp):
        monkeypatch.setattr(module, "sums_run", lambda: True)
    for module in (block, attention):
        monkeypatch.setattr(module, "attention_sums_run", lambda: True)
    monkeypatch.setattr(attention, "choose", lambda backend, device, **_: backend)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def loss_and_gradients(model: GPT, batch: Batch, backend: str = "") -> list[Tensor]:
    """Of `model` away from its zeros, which hide gradients; compiled whole by `backend`, where one is named."""
    torch.manual_seed(5)
    model.reset()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    model.to(batch.ids.device)
    loss_of = torch.compile(model.loss, fullgraph=True, backend=backend) if backend else model.loss
    loss = loss_of(batch)
    loss.backward()
    with torch.no_grad():  # compiled otherwise than with gradients
        forward = torch.compile(model, fullgraph=True, backend=backend) if backend else model
        torch.testing.assert_close(forward(batch).mean(), loss.detach(), rtol=1e-2, atol=1e-2)
    found: list[Tensor] = [loss]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        found.append(parameter.grad)
    return found


def require_as_near(batch: Batch, ours: GPT, parts: GPT, exact: GPT, backend: str) -> None:
    """`ours` is as near to `exact`, in fp32, as `parts`, one after another in bf16, are.

    Over eight batches: how far the gradient of a parameter that is one number is off in one of them is chance.
    """
    ours.compute = parts.compute = torch.bfloat16
    batches = [batch._replace(ids=batch.ids.roll(by), targets=batch.targets.roll(by)) for by in range(8)]
    found = (
        [
            torch.stack(of_batches)
            for of_batches in zip(*(loss_and_gradients(model, one, how) for one in batches), strict=True)
        ]
        for model, how in ((ours, backend), (parts, ""), (exact, ""))
    )
    for name, mine, plain, wanted in zip(["loss", *dict(ours.named_parameters())], *found, strict=True):
        assert error(mine, wanted) < 0.02 + 1.2 * error(plain, wanted), name


def all_but(fewer: tuple[Fused, ...]) -> tuple[Fused, ...]:
    """The words of `FUSED` that are not among `fewer`."""
    return tuple(word for word in FUSED if word not in fewer)


LAST_RECORD = replace(preset("pr1855").model, layers=5, order=Straight(), stream=TwoLanes(last=1))
"""Its layers, five deep."""


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("backend", ["", "aot_eager"])
@pytest.mark.parametrize("fewer", [(), ("sums",), ("attention", "sums")])
def test_a_model_with_all_kernels_compiles_whole_and_has_the_gradients_of_one_without(
    backend: str, fewer: tuple[Fused, ...]
) -> None:
    shape = replace(LAST_RECORD, context=96, vocab=256, dim=256, heads=4, kv_heads=2)
    ids = torch.randint(2, shape.vocab, (1, 96), generator=torch.Generator().manual_seed(4))
    batch = Batch(ids, ids.roll(-1), torch.tensor([0, 40, 70, 96, 96], dtype=torch.int32), 96)
    ours = GPT(replace(shape, fused=all_but(fewer), backend="fa4"))
    parts, exact = (GPT(replace(shape, fused=(), backend="plain")) for _ in range(2))
    require_as_near(batch, ours, parts, exact, backend)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["", "inductor"])
@pytest.mark.parametrize("fewer", [(), ("sums",)])
def test_on_a_gpu_a_model_with_all_kernels_has_the_gradients_of_one_without(
    backend: str, fewer: tuple[Fused, ...]
) -> None:
    """Backends of attention are tested on their own."""
    shape = replace(LAST_RECORD, context=512, backend="sdpa")
    ids = torch.randint(2, shape.vocab, (1, 512), generator=torch.Generator().manual_seed(4)).cuda()
    batch = Batch(ids, ids.roll(-1), torch.tensor([0, 100, 300, 512, 512], dtype=torch.int32, device="cuda"), 512)
    ours, parts, exact = (GPT(replace(shape, fused=fused)) for fused in (all_but(fewer), (), ()))
    require_as_near(batch, ours, parts, exact, backend)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_model_compiled_again_for_another_length_leaves_the_length_open() -> None:
    """The second compilation is for any length; kernels whose shapes ask for the number would break it."""
    shape = replace(LAST_RECORD, layers=3, context=96, vocab=256, dim=128, heads=2, kv_heads=1)
    model = GPT(replace(shape, fused=FUSED, backend="plain"))
    model.reset()
    model.compute = torch.bfloat16
    compiled = CompileCounterWithBackend("aot_eager")
    loss_of = torch.compile(model.loss, fullgraph=True, backend=compiled)
    for length in (96, 48, 80, 31):
        ids = torch.randint(2, shape.vocab, (1, length), generator=torch.Generator().manual_seed(length))
        loss = loss_of(Batch(ids, ids.roll(-1)))
        loss.backward()
        assert loss.isfinite()
    assert compiled.frame_count == 2

"""The forward pass against the baseline written out plainly, and what surrounds it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.errors import UsageError
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.parts import Linear, Part, Role, constant, declared, kaiming
from paramgolf.presets import preset

SMALL = replace(preset("baseline").model, vocab=50, dim=24, layers=5, heads=4, kv_heads=2, context=32)


def built(config: GPTConfig) -> GPT:
    """A model whose every parameter is away from its initial value."""
    torch.manual_seed(0)
    model = GPT(config)
    model.reset()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def batch_of(rows: int, length: int) -> Batch:
    ids = torch.randint(2, 50, (rows, length + 1), generator=torch.Generator().manual_seed(1))
    return Batch(ids[:, :-1], ids[:, 1:])


def norm(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()


def turned(x: Tensor) -> Tensor:
    """Rotary positions as complex numbers: (B, T, heads, E)."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[1])[:, None] * 10_000.0 ** (-torch.arange(half) / half)
    numbers = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), -angles)[:, None]
    return torch.cat((numbers.real, numbers.imag), -1)


def baseline_costs(model: GPT, batch: Batch) -> Tensor:
    """Architecture catalogue §1, line by line, from the parameters alone."""
    weights = dict(model.named_parameters())
    rows, length = batch.ids.shape
    heads, kv_heads, head_dim = SMALL.heads, SMALL.kv_heads, SMALL.dim // SMALL.heads
    x = x0 = norm(weights["embedding.weight"][batch.ids])
    half, skips = len(model.blocks) // 2, []
    for layer in range(len(model.blocks)):
        w = {name.removeprefix(f"blocks.{layer}."): value for name, value in weights.items()}
        if layer >= half and skips:
            x = x + weights["on_step.0.weight"][layer - half] * skips.pop()
        mix = w["on_read.0.mix"]
        x = mix[0] * x + mix[1] * x0
        h = norm(x)
        q = (h @ w["attention.q.weight"].T).view(rows, length, heads, head_dim)
        k = (h @ w["attention.k.weight"].T).view(rows, length, kv_heads, head_dim)
        v = (h @ w["attention.v.weight"].T).view(rows, length, kv_heads, head_dim)
        q = turned(norm(q)) * w["attention.on_qk.2.gain"][:, None]
        k = turned(norm(k))
        k, v = (t.repeat_interleave(heads // kv_heads, dim=2) for t in (k, v))
        scores = torch.einsum("bthe,bshe->bhts", q, k) / head_dim**0.5
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf"))
        y = torch.einsum("bhts,bshe->bthe", scores.softmax(-1), v).reshape(rows, length, -1)
        x = x + w["on_attention.0.scale"] * (y @ w["attention.out.weight"].T)
        up = F.relu(norm(x) @ w["mlp.up.weight"].T).square()
        x = x + w["on_mlp.0.scale"] * (up @ w["mlp.down.weight"].T)
        if layer < half:
            skips.append(x)
    logits = norm(x) @ weights["embedding.weight"].T
    logits = 30.0 * torch.tanh(logits / 30.0)
    return -logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 4, 5])
def test_the_baseline_is_the_published_architecture(layers: int):
    model, batch = built(replace(SMALL, layers=layers)), batch_of(3, 20)
    torch.testing.assert_close(model(batch), baseline_costs(model, batch), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_loss_is_the_mean_cost():
    model, batch = built(SMALL), batch_of(3, 20)
    torch.testing.assert_close(model.loss(batch), model(batch).mean())
    logits = model.logits(model.hidden(batch))
    assert logits.shape == (3, 20, 50)
    assert logits.abs().max() <= 30.0


def test_a_row_longer_than_the_context_is_refused():
    with pytest.raises(UsageError, match=r"a row of 33 tokens does not fit model\.context=32"):
        built(SMALL)(batch_of(1, 33))


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="do not divide"):
        GPTConfig(dim=30, heads=4)
    with pytest.raises(ValueError, match="do not divide"):
        GPTConfig(heads=8, kv_heads=3)
    with pytest.raises(ValueError, match="vocab=0"):
        GPTConfig(vocab=0)


@torch.no_grad()
def test_bf16_stays_near_fp32():
    model, batch = built(SMALL), batch_of(2, 20)
    exact = model(batch)
    model.compute = torch.bfloat16
    rough = model(batch)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.1


@torch.no_grad()
def test_the_config_is_all_there_is():
    """Two models of one config and one seed are the same; the count is of distinct weights."""
    first, second = built(SMALL), built(SMALL)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert parameter_count(first) == sum(parameter.numel() for _, parameter, _ in declared(first))


def test_a_parameter_without_a_role_is_refused_by_name():
    model = GPT(SMALL)
    model.blocks[1].stray = torch.nn.Linear(3, 3)
    with pytest.raises(TypeError, match=r"blocks\.1\.stray\.weight declares no role"):
        list(declared(model))


def test_roles_are_where_they_belong():
    roles = {name: role for name, _, role in declared(GPT(SMALL))}
    assert roles["embedding.weight"] is Role.EMBED
    assert roles["blocks.0.attention.q.weight"] is Role.ATTENTION
    assert roles["blocks.4.mlp.down.weight"] is Role.MLP
    assert roles["on_step.0.weight"] is Role.SCALE


def test_a_delta_is_added():
    linear = Linear(3, 2, role=Role.MLP, init=kaiming)
    linear.reset()
    x = torch.randn(4, 3)
    before = linear(x)
    linear.delta = torch.nn.Linear(3, 2)
    torch.testing.assert_close(linear(x), before + linear.delta(x))


def test_parts_are_told_the_progress():
    class Listener(Part):
        def __init__(self) -> None:
            super().__init__()
            self.param("gain", 1, role=Role.SCALE, init=constant(2.0))
            self.heard: list[float] = []

        def at(self, progress: float) -> None:
            self.heard.append(progress)

    model = GPT(SMALL)
    model.blocks[2].listener = Listener()
    model.at(0.25)
    assert model.blocks[2].listener.heard == [0.25]


def test_segments_of_a_batch():
    ids = torch.tensor([[BOS, 5, 6, BOS, 7, BOS]])
    batch = Batch(ids, ids, torch.tensor([0, 3, 5, 6, 6, 6], dtype=torch.int32), 3)
    assert batch.segments().tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch.continues().tolist() == [[False, True, True, False, True, False]]
    rows = Batch(torch.tensor([[5, 6], [BOS, 7]]), ids)
    assert rows.segments().tolist() == [[0, 0], [0, 0]]
    assert rows.continues().tolist() == [[False, True], [False, True]]
    assert rows.ids.tolist() == [[5, 6], [BOS, 7]], "asking changes nothing"


def test_a_batch_moves_with_its_segments():
    batch = Batch(torch.ones(1, 4, dtype=torch.int32), torch.ones(1, 4, dtype=torch.int32), torch.tensor([0, 4]), 4)
    moved = batch.to(torch.device("cpu"))
    assert moved.ids.dtype == moved.targets.dtype == torch.int64
    assert moved.max_seqlen == 4
    assert torch.equal(moved.cu_seqlens, batch.cu_seqlens)

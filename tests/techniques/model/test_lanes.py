"""Two-lane decoders against the catalogue's formulas (architecture §6.4), on halves that are plain functions."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from paramgolf.model.config import GPTConfig
from paramgolf.model.slots import Dims, StreamModule
from paramgolf.techniques.model import ParallelHalves, SerialLanes, SplitLanes, TwoLanes

DIMS = Dims(vocab=16, dim=4, layers=11, heads=2, kv_heads=1, context=8, places=11)
X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def mix(x: Tensor) -> Tensor:
    return 0.9 * x + 0.1


def attention(x: Tensor) -> Tensor:
    return x.sin()


def mlp(x: Tensor) -> Tensor:
    return x.cos() - 2


BLOCK: Any = SimpleNamespace(
    read_residual=lambda x, now: mix(x),
    attend=lambda x, now: attention(x),
    think=mlp,
    attend_alone=lambda x, now: attention(mix(x)),
    attended=lambda x, now: x + attention(x),
    thought=lambda x: x + mlp(x),
)
NOW: Any = None


def built(stream: Any) -> StreamModule:
    torch.manual_seed(0)
    module: StreamModule = stream.build(DIMS)
    module.reset()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return module


def run(module: StreamModule, layers: range, x: Tensor) -> Tensor:
    lanes: tuple[Tensor, ...] = (x,)
    for layer in layers:
        lanes = module.run_block(layer, BLOCK, module.enter(layer, lanes), NOW)
    return module.finish(lanes)


def flat(x: Tensor, layers: int) -> Tensor:
    for _ in range(layers):
        u = mix(x)
        u = u + attention(u)
        x = u + mlp(u)
    return x


def test_serial_lanes():
    module = built(SerialLanes(last=2))
    r, p = module.keep, module.write
    l0 = l1 = flat(X, 9)
    for i in (9, 10):
        a = attention(mix(l0))
        l0, l1 = r[i, 0] * l0 + p[i, 0, 0] * a, r[i, 0] * l1 + p[i, 0, 1] * a
        m = mlp(mix(l1))
        l0, l1 = r[i, 1] * l0 + p[i, 1, 0] * m, r[i, 1] * l1 + p[i, 1, 1] * m
    torch.testing.assert_close(run(module, range(11), X), (l0 + l1) / 2)
    module.reset()
    assert torch.equal(module.keep, torch.full((11, 2), 1.1**0.5))
    assert torch.equal(module.write, torch.ones(11, 2, 2))


def test_split_lanes():
    module = built(SplitLanes(last=2))
    l0 = l1 = flat(X, 9)
    for _ in range(2):
        l0, l1 = mix(l0) + attention(mix(l0)), l1 + mlp(l1)
    g = module.merge
    torch.testing.assert_close(run(module, range(11), X), g * l0 + (1 - g) * l1)


def test_parallel_halves():
    x = flat(X, 7)
    for _ in range(4):
        x = mix(x) + attention(mix(x)) + mlp(mix(x))
    torch.testing.assert_close(run(built(ParallelHalves(last=4)), range(11), X), x)


@pytest.mark.parametrize(
    ("finish", "end"),
    [("mean", lambda a, b: (a + b) / 2), ("attention", lambda a, b: a), ("mlp", lambda a, b: b)],
)
def test_two_lanes(finish: Any, end: Callable[[Tensor, Tensor], Tensor]):
    module = built(TwoLanes(last=3, finish=finish))
    r, p = module.keep, module.write
    l0 = l1 = flat(X, 8)
    for i in (8, 9, 10):
        a, m = attention(mix(l0)), mlp(l1)
        l0, l1 = (
            r[i, 0] * l0 + p[i, 0, 0] * a + p[i, 1, 0] * m,
            r[i, 1] * l1 + p[i, 0, 1] * a + p[i, 1, 1] * m,
        )
    torch.testing.assert_close(run(module, range(11), X), end(l0, l1))


def test_two_lanes_have_the_published_parameters():
    module = TwoLanes().build(DIMS)
    module.reset()
    assert sum(parameter.numel() for parameter in module.parameters()) == 66
    assert torch.equal(module.keep, torch.full((11, 2), 1.1))
    assert torch.equal(module.write, torch.ones(11, 2, 2))


def test_skips_enter_the_lanes_that_the_source_names():
    memory = [torch.full((2, 3, 4), 5.0)]

    def skip(x: Tensor) -> Tensor:
        return x + 2 * memory.pop()

    entered = built(SerialLanes()).receive((X, X + 1), skip)
    torch.testing.assert_close(entered, (X + 10, X + 11))
    for stream in (SplitLanes(), TwoLanes()):
        memory.append(torch.full((2, 3, 4), 5.0))
        torch.testing.assert_close(built(stream).receive((X, X + 1), skip), (X + 10, X + 1))


@pytest.mark.parametrize("stream", [SerialLanes, SplitLanes, ParallelHalves, TwoLanes])
def test_no_layer_in_two_lanes_is_refused(stream: Any):
    with pytest.raises(ValueError, match="one_lane"):
        stream(last=0)


@pytest.mark.parametrize("stream", [SerialLanes(last=3), SplitLanes(last=3), ParallelHalves(last=3), TwoLanes()])
def test_lanes_need_their_layers(stream: Any):
    with pytest.raises(ValueError, match="the last 3 of 2 layers"):
        GPTConfig(vocab=16, dim=8, layers=2, heads=2, kv_heads=1, context=8, stream=stream)
    GPTConfig(vocab=16, dim=8, layers=3, heads=2, kv_heads=1, context=8, stream=stream)

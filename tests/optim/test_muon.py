import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from paramgolf.optim.muon import Muon, MuonConfig, muon_step
from paramgolf.optim.orthogonalize import CLASSIC, orthogonalize

SHAPES = {
    "square": (32, 32),
    "wide": (16, 48),
    "tall": (64, 16),
    "wide2": (16, 48),
    "row": (1, 24),
    "square2": (32, 32),
}
FLAT = MuonConfig(lr=0.02, momentum_steps=0)


def start(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {name: nn.Parameter(0.3 * torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def gradients(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def train(config: MuonConfig, steps: int, **options: object) -> dict[str, nn.Parameter]:
    parameters = start()
    muon = Muon(parameters, config, **options)  # type: ignore[arg-type]
    for step in range(steps):
        for name, gradient in gradients(step).items():
            parameters[name].grad = gradient
        muon.step_matrices(scale=1.0, step=step)
    return parameters


def plainly(config: MuonConfig, steps: int) -> dict[str, Tensor]:
    """Muon as its definition reads, one matrix at a time."""
    done = {}
    for name, parameter in start().items():
        p, buf = parameter.detach(), torch.zeros_like(parameter)
        for step in range(steps):
            g = gradients(step)[name]
            mu = config.momentum_at(step)
            buf = mu * buf + g
            u = g + mu * buf if config.nesterov else buf
            direction = orthogonalize(u, (CLASSIC,) * config.steps, getattr(torch, config.precision)).float()
            rows, cols = p.shape
            p = p * (1 - config.lr * config.weight_decay) - config.lr * max(1, rows / cols) ** 0.5 * direction
        done[name] = p
    return done


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_equals_the_definition_with_momentum_warming_up(nesterov: bool, weight_decay: float) -> None:
    config = MuonConfig(
        lr=0.02, momentum_steps=15, nesterov=nesterov, weight_decay=weight_decay, precision="float32", steps=4
    )
    got, expected = train(config, 25), plainly(config, 25)
    for name in SHAPES:
        torch.testing.assert_close(got[name].data, expected[name], atol=2e-4, rtol=0, msg=lambda m, name=name: name + m)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_follows_the_muon_of_torch(nesterov: bool, weight_decay: float) -> None:
    """torch averages gradients (lerp) where the reference sums them: the same direction while momentum is constant."""
    config = replace(FLAT, nesterov=nesterov, weight_decay=weight_decay)
    steps = 20
    ours, theirs = train(config, steps), start()
    library = torch.optim.Muon(
        theirs.values(), lr=0.02, momentum=0.95, nesterov=nesterov, weight_decay=weight_decay, adjust_lr_fn="original"
    )
    begun = start()
    for step in range(steps):
        for name, gradient in gradients(step).items():
            theirs[name].grad = gradient
        library.step()
    for name in SHAPES:
        moved = (theirs[name] - begun[name]).norm()
        # Both iterate in bf16 and round at different places.
        assert (ours[name] - theirs[name]).norm() < 0.02 * moved, name
        assert moved > 0.05


def test_bf16_and_fp32_iterations_take_nearly_the_same_way() -> None:
    half, full, begun = train(FLAT, 10), train(replace(FLAT, precision="float32"), 10), start()
    for name in SHAPES:
        gap = (half[name] - full[name]).norm() / (full[name] - begun[name]).norm()
        assert 1e-5 < gap < 0.02, name


@pytest.mark.parametrize("clips", [False, True])
def test_the_step_is_one_graph_and_new_rates_do_not_compile_another(clips: bool) -> None:
    counter = CompileCounter()
    parameters, same = start(), start()
    muon, eager = Muon(parameters, FLAT), Muon(same, FLAT)
    torch._dynamo.reset()
    muon.advance = torch.compile(muon_step, fullgraph=True, dynamic=False, backend=counter)
    for step in range(5):
        for name, gradient in gradients(step).items():
            parameters[name].grad = same[name].grad = gradient
        for one in (muon, eager):
            one.config = replace(FLAT, momentum_start=0.8, momentum_steps=9)
            one.step_matrices(scale=1 / (1 + step), step=step, kept=torch.tensor(0.5 / (1 + step)) if clips else None)
    assert counter.frame_count == 1
    for name in SHAPES:
        torch.testing.assert_close(parameters[name], same[name])


def test_stacking_is_by_shape_and_state_is_by_name() -> None:
    muon = Muon(start(), FLAT)
    assert [len(stack.names) for stack in muon.stacks] == [2, 2, 1, 1]
    assert muon.state().keys() == {f"momentum/{name}" for name in SHAPES}


def test_a_missing_gradient_counts_as_zero() -> None:
    parameters = start()
    before = copy.deepcopy(parameters)
    muon = Muon(parameters, FLAT)
    parameters["tall"].grad = torch.ones(SHAPES["tall"])
    muon.step_matrices(scale=1.0, step=0)
    assert not torch.equal(parameters["tall"], before["tall"])
    assert torch.equal(parameters["square"], before["square"])


def test_a_zero_gradient_moves_nothing_and_stays_finite() -> None:
    parameters = start()
    before = copy.deepcopy(parameters)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    Muon(parameters, FLAT).step_matrices(scale=1.0, step=0)
    assert all(torch.equal(parameters[name], before[name]) for name in SHAPES)


def test_no_matrices_is_no_work() -> None:
    muon = Muon({}, FLAT)
    muon.step_matrices(scale=1.0, step=0)
    assert muon.state() == {}


@dataclass(frozen=True, kw_only=True)
class RowShare:
    """A technique with a memory: rows divided by the running sum of their norms."""

    power: float = 1.0

    def memory(self, momentum: Tensor) -> dict[str, Tensor]:
        return {"rows": momentum.new_zeros(momentum.shape[:-1])}

    def __call__(self, update: Tensor, memory: Mapping[str, Tensor]) -> Tensor:
        memory["rows"].add_(update.norm(dim=-1))
        return update / (memory["rows"].unsqueeze(-1) + 1e-7) ** self.power


@dataclass(frozen=True, kw_only=True)
class Double:
    """A technique without a memory."""

    def memory(self, momentum: Tensor) -> dict[str, Tensor]:
        return {}

    def __call__(self, update: Tensor, memory: Mapping[str, Tensor]) -> Tensor:
        return 2 * update


def test_techniques_run_before_and_after_orthogonalization() -> None:
    begun, plain = start(), train(FLAT, 1)
    doubled_before, doubled_after = train(FLAT, 1, on_update=(Double(),)), train(FLAT, 1, on_direction=(Double(),))
    rows = train(FLAT, 1, on_update=(RowShare(),))
    for name in SHAPES:
        torch.testing.assert_close(doubled_before[name], plain[name], atol=2e-3, rtol=0)
        torch.testing.assert_close(doubled_after[name] - begun[name], 2 * (plain[name] - begun[name]))
    assert not torch.allclose(rows["square"], plain["square"], atol=1e-3)


def test_memory_of_techniques_is_part_of_the_state() -> None:
    parameters = start()
    muon = Muon(parameters, FLAT, on_update=(Double(), RowShare()), on_direction=(RowShare(),))
    for name, gradient in gradients(0).items():
        parameters[name].grad = gradient
    muon.step_matrices(scale=1.0, step=0)
    state = muon.state()
    assert state["on_update.1.rows/wide"].shape == (16,)
    torch.testing.assert_close(state["on_update.1.rows/wide2"], (2 * 1.95 * gradients(0)["wide2"]).norm(dim=-1))
    assert "on_direction.0.rows/tall" in state


@pytest.mark.parametrize(("parameter", "why"), [(torch.ones(3), "no matrix"), (torch.ones(3, 3).bfloat16(), "fp32")])
def test_what_is_no_fp32_matrix_is_refused_by_name(parameter: Tensor, why: str) -> None:
    with pytest.raises(AssertionError, match=f"odd.*{why}"):
        Muon({"odd": parameter}, FLAT)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_compiled_step_on_the_gpu_follows_the_eager_one() -> None:
    parameters = {name: nn.Parameter(p.detach().cuda()) for name, p in start().items()}
    same = copy.deepcopy(parameters)
    compiled, eager = Muon(parameters, FLAT, compiled=True), Muon(same, FLAT)
    given = [{name: gradient.cuda() for name, gradient in gradients(step).items()} for step in range(10)]
    try:
        for step in range(10):
            for name in SHAPES:
                parameters[name].grad = same[name].grad = given[step][name]
            if step == 5:
                torch.cuda.set_sync_debug_mode("error")
            compiled.step_matrices(scale=1 / (1 + step), step=step)
            eager.step_matrices(scale=1 / (1 + step), step=step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name in SHAPES:
        torch.testing.assert_close(parameters[name], same[name], atol=5e-3, rtol=0)

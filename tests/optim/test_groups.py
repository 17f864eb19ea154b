import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paramgolf.errors import GolfError
from paramgolf.optim.adam import AdamConfig
from paramgolf.optim.groups import GROUP_OF, Group, OptimConfig, Optimizer, grouped
from paramgolf.optim.muon import Muon, MuonConfig
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Linear, Part, Role, constant, kaiming, normal
from paramgolf.techniques.optim import WarmdownSteps


class Tiny(Part):
    """A model with a parameter of every role."""

    def __init__(self) -> None:
        super().__init__()
        self.param("embed", 12, 8, role=Role.EMBED, init=normal(0.1))
        self.param("table", 5, 8, role=Role.TABLE, init=normal(0.1))
        self.param("gain", 8, role=Role.SCALE, init=constant(1.0))
        self.param("gate", 1, 8, role=Role.GATE, init=normal(0.1))
        self.q = Linear(8, 8, role=Role.ATTENTION, init=kaiming)
        self.up = Linear(8, 16, role=Role.MLP, init=kaiming)
        self.down = Linear(16, 8, role=Role.MLP, init=kaiming)
        self.side = Linear(8, 8, role=Role.PROJECTION, init=kaiming)
        self.head = Linear(8, 12, role=Role.HEAD, init=kaiming)
        torch.manual_seed(0)
        self.reset()

    def forward(self, ids: Tensor) -> Tensor:
        x = (F.embedding(ids, self.embed) + F.embedding(ids % 5, self.table)) * self.gain
        x = x + self.side(self.q(x)) * torch.sigmoid(x @ self.gate.mT)
        return self.head(x + self.down(F.relu(self.up(x)).square()))


CONFIG = OptimConfig(
    matrix=MuonConfig(weight_decay=0.1, momentum_steps=6),
    token=AdamConfig(lr=0.05, weight_decay=0.1),
    schedule=WarmdownSteps(iterations=12),
    clip=0.5,
)


def run(model: nn.Module, optimizer: Optimizer, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        ids = torch.randint(12, (64,), generator=torch.Generator().manual_seed(step))
        loss = F.cross_entropy(model(ids), (3 * ids + 1) % 12)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(Progress(step / 20, step, 20.0 - step))
        losses.append(loss.item())
    return losses


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_role_has_a_group() -> None:
    assert GROUP_OF.keys() == set(Role)
    assert {group.value for group in Group} <= set(OptimConfig.__dataclass_fields__)


def test_groups_follow_roles_alone() -> None:
    groups = {group.value: set(parameters) for group, parameters in grouped(Tiny()).items()}
    assert groups == {
        "token": {"embed", "table"},
        "head": {"head.weight"},
        "matrix": {"q.weight", "up.weight", "down.weight", "side.weight"},
        "scalar": {"gain", "gate"},
    }


def test_projections_beside_the_blocks_may_be_stepped_with_the_scalars() -> None:
    usual, aside = grouped(Tiny()), grouped(Tiny(), "scalar")
    assert usual[Group.MATRIX].keys() - aside[Group.MATRIX].keys() == {"side.weight"}
    assert aside[Group.SCALAR].keys() - usual[Group.SCALAR].keys() == {"side.weight"}
    model, config = Tiny(), replace(CONFIG, projections="scalar")
    optimizer = Optimizer(model, config)
    assert "adam/exp_avg/side.weight" in optimizer.state_dict()
    losses = run(model, optimizer, 0, 20)
    assert losses[-1] < losses[0] / 2


def test_defaults_are_the_published_baseline() -> None:
    config = OptimConfig()
    assert (config.matrix.lr, config.token.lr, config.head.lr, config.scalar.lr) == (0.04, 0.05, 0.008, 0.04)
    assert (config.matrix.momentum, config.matrix.momentum_start, config.matrix.momentum_steps) == (0.95, 0.85, 500)
    for adam in (config.token, config.head, config.scalar):
        assert (adam.beta1, adam.beta2, adam.eps, adam.weight_decay) == (0.9, 0.95, 1e-8, 0.0)
    assert config.clip == config.matrix.weight_decay == 0.0


def test_it_learns() -> None:
    model = Tiny()
    losses = run(model, Optimizer(model, CONFIG), 0, 20)
    assert losses[-1] < 0.5 * losses[0]


def test_adam_groups_equal_plain_adamw_with_the_scaled_rates() -> None:
    model, twin = Tiny(), Tiny()
    optimizer = Optimizer(model, CONFIG)
    plain = torch.optim.AdamW(
        [
            {"params": [twin.embed, twin.table], "lr": 0.05, "weight_decay": 0.1},
            {"params": [twin.head.weight], "lr": 0.008, "weight_decay": 0.0},
            {"params": [twin.gain, twin.gate], "lr": 0.04, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
        foreach=False,
    )
    rates = [group["lr"] for group in plain.param_groups]
    for step in range(15):
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(step)
            parameter.grad = 0.01 * torch.randn(parameter.shape, generator=generator)
            twin.get_parameter(name).grad = parameter.grad.clone()
        optimizer.step(Progress(0.0, step, 15.0 - step))
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        for group, rate in zip(plain.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, (15 - step) / 12)
        plain.step()
    for name in ("embed", "table", "gain", "gate", "head.weight"):
        torch.testing.assert_close(model.get_parameter(name), twin.get_parameter(name), atol=2e-6, rtol=1e-5)


def test_the_matrix_group_is_muon_at_the_scheduled_rate_and_momentum() -> None:
    model, twin = Tiny(), Tiny()
    optimizer = Optimizer(model, replace(CONFIG, clip=0.0))
    names = ["q.weight", "up.weight", "down.weight", "side.weight"]
    muon = Muon({name: twin.get_parameter(name) for name in names}, CONFIG.matrix)
    for step in range(10):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
            twin.get_parameter(name).grad = parameter.grad
        optimizer.step(Progress(0.0, step, 10.0 - step))
        muon.step_matrices(scale=min(1.0, (10 - step) / 12), step=step)
    assert all(torch.equal(model.get_parameter(name), twin.get_parameter(name)) for name in names)


def test_learning_rates_are_reported_by_group() -> None:
    model = Tiny()
    optimizer = Optimizer(model, CONFIG)
    run(model, optimizer, 13, 15)
    half = 6 / 12
    assert optimizer.learning_rates() == pytest.approx(
        {"matrix": 0.04 * half, "token": 0.05 * half, "head": 0.008 * half, "scalar": 0.04 * half}
    )


def test_a_model_without_matrices_or_head_reports_only_its_groups() -> None:
    class Scalars(Part):
        def __init__(self) -> None:
            super().__init__()
            self.param("gain", 3, role=Role.SCALE, init=constant(1.0))
            self.reset()

    model = Scalars()
    optimizer = Optimizer(model, OptimConfig())
    model.gain.sum().backward()
    optimizer.step(Progress(0.0, 0, 1.0))
    assert optimizer.learning_rates() == {"scalar": 0.04}
    torch.testing.assert_close(model.gain.data, torch.full((3,), 0.96))


@pytest.mark.parametrize("size", [0.001, 1.0])
def test_clipping_bounds_the_joint_norm_and_reports_it(size: float) -> None:
    """Bit for bit as if every gradient had been clipped by torch before, momentum and moments too."""
    model, twin = Tiny(), Tiny()
    optimizer = Optimizer(model, replace(CONFIG, clip=0.25))
    after = Optimizer(twin, replace(CONFIG, clip=0.0))
    for step in range(3):
        for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
            parameter.grad = size * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
            other.grad = parameter.grad.clone()
        norm = nn.utils.clip_grad_norm_(after.parameters.values(), 0.25)
        assert (norm < 0.25) == (size < 0.01)
        for one in (optimizer, after):
            one.step(Progress(0.0, step, 3.0 - step))
        assert optimizer.gradient_norm is not None
        assert torch.equal(optimizer.gradient_norm, norm)
    assert all(torch.equal(mine, other) for mine, other in zip(model.parameters(), twin.parameters(), strict=True))
    state = after.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in optimizer.state_dict().items())


def test_without_clipping_gradients_are_left_alone() -> None:
    model = Tiny()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    optimizer = Optimizer(model, replace(CONFIG, clip=0.0))
    optimizer.step(Progress(0.0, 0, 1.0))
    assert optimizer.gradient_norm is None
    assert all((parameter.grad == 7.0).all() for parameter in model.parameters())


def test_a_restored_run_continues_bit_for_bit(tmp_path: Path) -> None:
    model = Tiny()
    optimizer = Optimizer(model, CONFIG)
    run(model, optimizer, 0, 7)
    save_file(optimizer.state_dict(), tmp_path / "optimizer.safetensors")
    weights = values(model)
    through = run(model, optimizer, 7, 14)

    other = Tiny()
    other.load_state_dict(weights)
    resumed = Optimizer(other, CONFIG)
    resumed.load_state_dict(load_file(tmp_path / "optimizer.safetensors"))
    assert run(other, resumed, 7, 14) == through
    assert same(values(model), values(other))
    assert same(optimizer.state_dict(), resumed.state_dict())


def test_without_its_state_a_run_does_not_continue() -> None:
    model, other = Tiny(), Tiny()
    optimizer = Optimizer(model, CONFIG)
    run(model, optimizer, 0, 7)
    other.load_state_dict(values(model))
    run(model, optimizer, 7, 9)
    run(other, Optimizer(other, CONFIG), 7, 9)
    assert not same(values(model), values(other))


def test_a_snapshot_undoes_warm_up_steps() -> None:
    model, fresh = Tiny(), Tiny()
    optimizer = Optimizer(model, CONFIG)
    before, snapshot = values(model), optimizer.snapshot()
    run(model, optimizer, 0, 3)
    assert not same(optimizer.state_dict(), snapshot)
    model.load_state_dict(before)
    optimizer.load_state_dict(snapshot)
    run(model, optimizer, 0, 5)
    run(fresh, Optimizer(fresh, CONFIG), 0, 5)
    assert same(values(model), values(fresh))


def test_state_keeps_its_addresses_when_loaded() -> None:
    model = Tiny()
    optimizer = Optimizer(model, CONFIG)
    where = {name: tensor.data_ptr() for name, tensor in optimizer.state_dict().items()}
    run(model, optimizer, 0, 2)
    optimizer.load_state_dict(optimizer.snapshot())
    assert {name: tensor.data_ptr() for name, tensor in optimizer.state_dict().items()} == where


@pytest.mark.parametrize("damage", ["missing", "left over", "other shape"])
def test_state_of_another_model_is_refused_and_changes_nothing(damage: str) -> None:
    model = Tiny()
    optimizer = Optimizer(model, CONFIG)
    run(model, optimizer, 0, 2)
    before = optimizer.snapshot()
    state = Optimizer(Tiny(), CONFIG).snapshot()
    name = "muon/momentum/up.weight"
    if damage == "left over":
        state[f"{name}.more"] = state[name]
        name = f"{name}.more"
    elif damage == "other shape":
        state[name] = state[name].mT
    else:
        del state[name]
    with pytest.raises(GolfError, match=f"another model or configuration[^$]*{name}"):
        optimizer.load_state_dict(state)
    assert same(optimizer.state_dict(), before)


class Odd(Part):
    def __init__(self, *shape: int, role: Role) -> None:
        super().__init__()
        self.param("odd", *shape, role=role, init=constant(0.0))
        self.reset()


@pytest.mark.parametrize("role", [Role.PROJECTION, Role.ATTENTION, Role.MLP])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_a_matrix_role_on_what_is_no_matrix_is_refused_by_name(role: Role, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"inner\.odd of role {role.value}"):
        Optimizer(nn.ModuleDict({"inner": Odd(*shape, role=role)}), OptimConfig())


def test_a_parameter_without_a_role_is_refused_by_name() -> None:
    model = Tiny()
    model.extra = nn.Parameter(torch.zeros(3))
    with pytest.raises(TypeError, match="extra"):
        Optimizer(model, OptimConfig())


def test_a_parameter_declared_twice_is_refused_by_name() -> None:
    model = Tiny()
    model.again = Linear(8, 12, role=Role.HEAD, init=kaiming)
    model.again.weight = model.head.weight
    with pytest.raises(AssertionError, match=r"again\.weight is head\.weight"):
        Optimizer(model, OptimConfig())


class Mean:
    """Plain mean of all weights seen, with all that the protocol asks for."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.parameters = dict(parameters)
        self.sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        self.count = torch.zeros(())

    @torch.no_grad()
    def update(self, progress: Progress, scale: float) -> None:
        self.count += 1
        for name, parameter in self.parameters.items():
            self.sums[name] += parameter

    @contextlib.contextmanager
    def apply(self) -> Iterator[None]:
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.sums[name] / self.count)
        yield
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(kept[name])

    def state(self) -> dict[str, Tensor]:
        return {"count": self.count, **{f"sum/{name}": tensor for name, tensor in self.sums.items()}}


@dataclass(frozen=True, kw_only=True)
class MeanOfWeights:
    def build(self, parameters: Mapping[str, Tensor], roles: Mapping[str, Role]) -> Mean:
        return Mean(parameters)


def test_an_average_is_kept_applied_undone_and_saved() -> None:
    model = Tiny()
    optimizer = Optimizer(model, replace(CONFIG, average=MeanOfWeights()))
    history = []
    for step in range(3):
        run(model, optimizer, step, step + 1)
        history.append(values(model))
    with optimizer.averaged():
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.data, sum(past[name] for past in history) / 3)
    assert same(values(model), history[-1])
    assert optimizer.state_dict()["average/count"] == 3


def test_without_an_average_the_weights_are_evaluated() -> None:
    model = Tiny()
    before = values(model)
    with Optimizer(model, CONFIG).averaged():
        assert same(values(model), before)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_step_on_the_gpu_never_waits_for_it() -> None:
    torch.manual_seed(0)
    model = Tiny().cuda()
    optimizer = Optimizer(model, CONFIG)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step(Progress(0.0, 0, 20.0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(1, 4):
            optimizer.step(Progress(0.0, step, 20.0 - step))
    finally:
        torch.cuda.set_sync_debug_mode("default")

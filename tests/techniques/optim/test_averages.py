"""Averages of the weights and the look-ahead, each against its formula computed plainly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paramgolf.optim.adam import AdamConfig
from paramgolf.optim.groups import OptimConfig, Optimizer
from paramgolf.optim.muon import MuonConfig
from paramgolf.optim.schedule import Progress
from paramgolf.optim.slots import Average
from paramgolf.parts import Linear, Part, Role, constant, kaiming, normal
from paramgolf.techniques.optim import EMA, SWA, EMAHorizons, EMANesterov, NorMuon, TailBlend, Warmdown
from paramgolf.techniques.optim.ema_horizons import HorizonAverager

STEPS = 24


class Little(Part):
    """An embedding, a matrix and a gain."""

    def __init__(self) -> None:
        super().__init__()
        self.param("embed", 6, 4, role=Role.EMBED, init=normal(0.5))
        self.q = Linear(4, 4, role=Role.ATTENTION, init=kaiming)
        self.q.heads = 2
        self.param("gain", 4, role=Role.SCALE, init=constant(1.0))
        torch.manual_seed(0)
        self.reset()

    def forward(self, step: int) -> Tensor:
        ids = torch.randint(6, (16,), generator=torch.Generator().manual_seed(step))
        return (self.q(self.embed[ids]) * self.gain - ids[:, None]).square().mean()


def settings(**slots: Any) -> OptimConfig:
    return OptimConfig(
        matrix=MuonConfig(momentum_steps=4),
        scalar=AdamConfig(lr=0.01),
        schedule=Warmdown(share=0.75, floor=0.05),
        on_direction=(NorMuon(),),
        **slots,
    )


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def trained(config: OptimConfig, model: Little, optimizer: Optimizer, first: int, last: int) -> list[dict[str, Tensor]]:
    """The weights after each of the steps."""
    history = []
    for step in range(first, last):
        progress = Progress(step / STEPS, step, float(STEPS - step))
        optimizer.look(progress)
        model(step).backward()
        optimizer.step(progress)
        optimizer.zero_grad()
        history.append(copied(model))
    return history


def averaged(average: Average) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """What the average shows after training, and the weights at the start and after each step."""
    model = Little()
    begun, optimizer = copied(model), Optimizer(model, settings(average=average))
    history = [begun, *trained(optimizer.config, model, optimizer, 0, STEPS)]
    with optimizer.averaged():
        shown = copied(model)
    assert all(torch.equal(copied(model)[name], history[-1][name]) for name in begun), "the weights came back"
    return shown, history


@pytest.mark.parametrize("every", [1, 5])
def test_ema_follows_its_formula(every: int) -> None:
    shown, history = averaged(EMA(decay=0.9, every=every))
    expected = history[0]
    for weights in history[every::every]:
        expected = {name: 0.9**every * expected[name] + (1 - 0.9**every) * weights[name] for name in weights}
    for name in shown:
        torch.testing.assert_close(shown[name], expected[name])
    assert not torch.allclose(shown["embed"], history[-1]["embed"])


def test_of_several_averages_each_is_what_it_would_be_alone() -> None:
    model = Little()
    optimizer = Optimizer(model, settings(average=EMAHorizons(steps=(10.0, 2.0, 40.0))))
    trained(optimizer.config, model, optimizer, 0, STEPS)
    averager = optimizer.averager
    assert isinstance(averager, HorizonAverager)
    for place, decay in enumerate((0.9, 0.5, 0.975)):
        alone, _ = averaged(EMA(decay=decay))
        with averager.apply(place):
            shown = copied(model)
        for name in shown:
            torch.testing.assert_close(shown[name], alone[name])
    with optimizer.averaged():
        seen = copied(model)
    assert all(torch.equal(seen[name], averager.shadows[0].copies[name]) for name in seen)


def test_swa_is_the_mean_of_snapshots_below_a_scale() -> None:
    shown, history = averaged(SWA(below=0.5, every=3))
    schedule = Warmdown(share=0.75, floor=0.05)
    chosen = [
        weights
        for step, weights in enumerate(history[1:])
        if schedule(Progress(step / STEPS, step, 0.0)) < 0.5 and (step + 1) % 3 == 0
    ]
    assert len(chosen) == 3
    for name in shown:
        torch.testing.assert_close(shown[name], torch.stack([weights[name] for weights in chosen]).mean(0))


def test_without_a_snapshot_the_weights_themselves_are_seen() -> None:
    shown, history = averaged(SWA(below=0.05, every=3))
    assert all(torch.equal(shown[name], history[-1][name]) for name in shown)


def test_the_tail_blend_spares_the_embedding_and_begins_late() -> None:
    shown, history = averaged(TailBlend(start=0.5, horizon=4.0, share=0.6))
    average = history[STEPS // 2 + 1]["q.weight"]
    for weights in history[STEPS // 2 + 2 :]:
        average = average + (weights["q.weight"] - average) / 4
    torch.testing.assert_close(shown["q.weight"], 0.4 * history[-1]["q.weight"] + 0.6 * average)
    assert not torch.allclose(shown["q.weight"], history[-1]["q.weight"], atol=1e-4)
    assert torch.equal(shown["embed"], history[-1]["embed"])


@pytest.mark.parametrize("follow", [False, True])
def test_the_look_ahead_moves_along_the_mean_of_steps(follow: bool) -> None:
    """The definition with its own buffer m, on a parameter that something else steps."""
    config = EMANesterov(amount=0.6, follow_rate=follow, decay=0.9, start=0.25, end=0.75)
    weight = nn.Parameter(torch.zeros(3))
    looker, m, p = config.build({"w": weight}), torch.zeros(3), torch.zeros(3)
    for step in range(STEPS):
        fraction, scale = step / STEPS, 1 - step / STEPS
        progress = Progress(fraction, step, 0.0)
        move = torch.randn(3, generator=torch.Generator().manual_seed(step)) + 1
        looker.before(progress, scale)
        ahead = p + 0.6 * (scale if follow else 1.0) * m * (0.25 <= fraction < 0.75)
        torch.testing.assert_close(weight.data, ahead)
        with torch.no_grad():
            weight.add_(move)
        looker.after(progress)
        m, p = 0.9 * m + 0.1 * (ahead + move - p), ahead + move
    assert weight.norm() > 1


KEPT: list[Callable[[], dict[str, Any]]] = [
    lambda: {"average": EMA(decay=0.9, every=4)},
    lambda: {"average": SWA(below=0.9, every=2)},
    lambda: {"average": TailBlend(start=0.3, horizon=5.0)},
    lambda: {"average": EMAHorizons(steps=(5.0, 3.0))},
    lambda: {"look_ahead": EMANesterov(decay=0.9), "average": EMA(decay=0.8)},
]


@pytest.mark.parametrize("slots", KEPT)
@pytest.mark.parametrize("cut", [5, 13, 22])
def test_a_run_resumed_from_a_file_ends_bit_for_bit_the_same(
    tmp_path: Path, slots: Callable[[], dict[str, Any]], cut: int
) -> None:
    config, model = settings(**slots()), Little()
    optimizer = Optimizer(model, config)
    trained(config, model, optimizer, 0, cut)
    saved = {"weights/" + name: tensor for name, tensor in copied(model).items()}
    saved |= {"optimizer/" + name: tensor for name, tensor in optimizer.state_dict().items()}
    save_file(saved, tmp_path / "state.safetensors")
    read = load_file(tmp_path / "state.safetensors")
    other = Little()
    restored = Optimizer(other, config)
    other.load_state_dict({name.removeprefix("weights/"): t for name, t in read.items() if name.startswith("weights/")})
    state = {name.removeprefix("optimizer/"): t for name, t in read.items() if name.startswith("optimizer/")}
    restored.load_state_dict(state)
    for one, other_optimizer in ((model, optimizer), (other, restored)):
        trained(config, one, other_optimizer, cut, STEPS)
    with optimizer.averaged(), restored.averaged():
        assert all(torch.equal(tensor, copied(other)[name]) for name, tensor in copied(model).items())
    assert all(torch.equal(tensor, restored.state_dict()[name]) for name, tensor in optimizer.state_dict().items())


@pytest.mark.parametrize(
    "make",
    [
        lambda: EMA(decay=1.0),
        lambda: EMA(every=0),
        lambda: SWA(below=0.0),
        lambda: EMAHorizons(steps=()),
        lambda: TailBlend(share=1.5),
        lambda: EMANesterov(start=0.8, end=0.7),
    ],
)
def test_senseless_settings_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="="):
        make()

"""What reworks Muon's update, each against its formula computed plainly, matrix by matrix."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from paramgolf.optim.muon import Muon, MuonConfig, muon_step
from paramgolf.optim.orthogonalize import CLASSIC, orthogonalize
from paramgolf.optim.schedule import Progress
from paramgolf.techniques.optim import (
    CautiousDecay,
    ClassicQuintic,
    DecayTaper,
    NorMuon,
    PerHead,
    PolarExpress,
    RowNorm,
)

FLAT = MuonConfig(lr=0.1, momentum=0.5, momentum_steps=0, precision="float32")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stepped(config: MuonConfig, weight: Tensor, gradient: Tensor, **options: object) -> Tensor:
    """`weight` after one step."""
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient
    fraction = options.pop("fraction", 0.0)
    Muon({"w": parameter}, config, **options).step_matrices(scale=1.0, step=0, fraction=fraction)  # type: ignore[arg-type]
    return parameter.detach()


def spread(quintics: tuple[tuple[float, float, float], ...]) -> Tensor:
    """What the scalar polynomials make of singular values from 0.01 to 1."""
    values = torch.linspace(0.01, 1.0, 500, dtype=torch.float64)
    for a, b, c in quintics:
        values = a * values + b * values**3 + c * values**5
    return values


def test_polar_express_brings_singular_values_nearer_to_one_than_the_classic_quintic() -> None:
    polar, classic = spread(PolarExpress()(5)), spread(ClassicQuintic()(5))
    assert (polar - 1).abs().max() < 0.15
    assert (classic - 1).abs().max() > 0.2
    assert PolarExpress()(7)[4:] == (PolarExpress()(5)[4],) * 3
    assert PolarExpress()(2) == PolarExpress()(5)[:2]
    matrix = noise(1, 64, 64)
    values = torch.linalg.svdvals(orthogonalize(matrix, PolarExpress()(5), torch.float32))
    assert values.median().item() == pytest.approx(1.0, abs=0.1)


def test_row_norm_gives_every_row_the_same_length() -> None:
    update = noise(2, 6, 10) * torch.logspace(-3, 3, 6)[:, None]
    update[1, 2] = 0.0
    got = RowNorm()(update, {})
    for matrix, expected in zip(got, update, strict=True):
        for row, before in zip(matrix, expected, strict=True):
            torch.testing.assert_close(row, before / max(before.norm().item(), 1e-7))
    assert got[0].norm(dim=-1).tolist() == pytest.approx([1.0] * 6)


def test_row_norm_equals_neomuon_after_orthogonalization() -> None:
    update = noise(1, 6, 10)
    rms = update / update.square().mean(-1, keepdim=True).sqrt()
    one, other = (orthogonalize(x, (CLASSIC,) * 3, torch.float32) for x in (RowNorm()(update, {}), rms))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_normuon_follows_its_formula(shape: tuple[int, int]) -> None:
    rework, momentum = NorMuon(beta=0.9), torch.zeros(2, *shape)
    memory, squares = rework.memory(momentum), [torch.zeros(max(shape)) for _ in range(2)]
    axis = 0 if shape[0] < shape[1] else 1
    for step in range(4):
        directions = noise(2, *shape, seed=step)
        got = rework(directions, memory)
        for place, direction in enumerate(directions):
            squares[place] = 0.9 * squares[place] + 0.1 * direction.square().mean(axis)
            balanced = direction / squares[place].sqrt().unsqueeze(axis)
            torch.testing.assert_close(got[place], balanced * direction.norm() / balanced.norm())


def test_normuon_of_nothing_is_nothing() -> None:
    assert not NorMuon()(torch.zeros(1, 3, 4), NorMuon().memory(torch.zeros(1, 3, 4))).any()


@pytest.mark.parametrize("together", [1, 2])
def test_heads_are_orthogonalized_by_themselves(together: int) -> None:
    weight, gradient = noise(16, 12), noise(16, 12, seed=1)
    config = MuonConfig(lr=0.1, momentum_steps=0, precision="float32", split=PerHead(together=together))
    got = stepped(config, weight, gradient, heads={"w": 4})
    for rows in torch.arange(16).chunk(4 // together):
        direction = orthogonalize(1.95 * gradient[rows], (CLASSIC,) * 5, torch.float32)
        torch.testing.assert_close(got[rows], weight[rows] - 0.1 * direction, atol=1e-5, rtol=1e-4)
    whole = stepped(MuonConfig(lr=0.1, momentum_steps=0, precision="float32"), weight, gradient, heads={"w": 4})
    assert not torch.allclose(got, whole, atol=1e-2)


def test_only_declared_heads_are_split_and_their_state_stays_by_name() -> None:
    parameters = {"q": nn.Parameter(noise(16, 12)), "out": nn.Parameter(noise(16, 12))}
    config = MuonConfig(split=PerHead())
    muon = Muon(parameters, config, heads={"q": 4}, on_direction=(NorMuon(),))
    assert [stack.momentum.shape for stack in muon.stacks] == [(4, 4, 12), (1, 16, 12)]
    assert muon.state()["momentum/q"].shape == (4, 4, 12)
    assert muon.state()["on_direction.0.square/q"].shape == (4, 1, 12)
    assert muon.state()["momentum/out"].shape == (16, 12)
    assert PerHead(together=3)(4) == 1


def test_the_taper_scales_decay_alone() -> None:
    taper = DecayTaper(start=0.7, end=0.5)
    factors = [taper(Progress(fraction, 0, 0.0)) for fraction in (0.0, 0.7, 0.85, 1.0)]
    assert factors == pytest.approx([1.0, 1.0, 0.75, 0.5])
    weight = nn.Parameter(noise(4, 4))
    before = weight.detach().clone()
    muon = Muon({"w": weight}, MuonConfig(lr=0.1, weight_decay=0.2))
    muon.step_matrices(scale=0.5, step=0, decay_scale=0.75)
    torch.testing.assert_close(weight.data, before * (1 - 0.1 * 0.5 * 0.2 * 0.75))


def test_cautious_decay_spares_what_the_step_makes_larger() -> None:
    weight, gradient = noise(8, 6), noise(8, 6, seed=1)
    plain = MuonConfig(lr=0.1, momentum_steps=0, precision="float32")
    cautious = MuonConfig(lr=0.1, momentum_steps=0, precision="float32", weight_decay=0.5, decay_share=CautiousDecay())
    without, got = stepped(plain, weight, gradient), stepped(cautious, weight, gradient)
    shrinks = (without - weight) * weight < 0
    torch.testing.assert_close(got, without - torch.where(shrinks, 0.1 * 0.5 * weight, 0.0))
    assert 0 < shrinks.sum() < shrinks.numel()


def test_momentum_cools_down_at_the_end() -> None:
    config = MuonConfig(momentum=0.97, momentum_steps=0, momentum_end=0.85, momentum_cooldown=0.1)
    assert [config.momentum_at(0, f) for f in (0.0, 0.9, 0.95, 1.0)] == pytest.approx([0.97, 0.97, 0.91, 0.85])
    assert MuonConfig(momentum_steps=0).momentum_at(0, 1.0) == 0.95
    weight, first, second = noise(4, 4), noise(4, 4, seed=1), noise(4, 4, seed=2)
    parameter = nn.Parameter(weight.clone())
    muon = Muon({"w": parameter}, config)
    for step, (gradient, fraction) in enumerate([(first, 0.0), (second, 0.95)]):
        parameter.grad = gradient
        muon.step_matrices(scale=1.0, step=step, fraction=fraction)
    torch.testing.assert_close(muon.state()["momentum/w"], 0.91 * first + second)


@pytest.mark.parametrize("split", [None, PerHead()])
def test_the_step_with_every_technique_is_one_graph(split: PerHead | None) -> None:
    parts = {"on_update": (RowNorm(),), "on_direction": (NorMuon(),), "heads": {"w": 2}}
    config = MuonConfig(weight_decay=0.1, decay_share=CautiousDecay(), quintics=PolarExpress(), split=split)
    counter, ends = CompileCounter(), []
    for backend in (counter, None):
        torch._dynamo.reset()
        parameter = nn.Parameter(noise(16, 8))
        muon = Muon({"w": parameter}, config, **parts)  # type: ignore[arg-type]
        if backend:
            muon.advance = torch.compile(muon_step, fullgraph=True, dynamic=False, backend=backend)
        for step in range(3):
            parameter.grad = noise(16, 8, seed=step)
            muon.step_matrices(scale=1 / (1 + step), step=step, decay_scale=1 - 0.1 * step)
        ends.append(parameter.detach())
    assert counter.frame_count == 1
    torch.testing.assert_close(*ends)

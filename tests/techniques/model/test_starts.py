"""Initial weights: orthogonal, overtone, phase; and the penalty on entropy, which only training sees."""

import math
from dataclasses import replace

import pytest
import torch

from paramgolf.batch import Batch
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.parts import Part, Role, declared
from paramgolf.techniques.model import (
    EntropyPenalty,
    OrthogonalInit,
    OrthogonalProjections,
    Overtone,
    X0Mix,
    ZeroOut,
)
from paramgolf.techniques.model.entropy_penalty import code_entropy

WIDE = GPTConfig(vocab=80, dim=128, layers=2, heads=2, kv_heads=1, context=16, backend="plain")


def model_of(config: GPTConfig) -> GPT:
    torch.manual_seed(0)
    model = GPT(config)
    model.reset()
    return model


@pytest.mark.parametrize("shape", [(64, 64), (64, 200), (200, 64)], ids=str)
def test_large_matrices_start_orthogonal(shape: tuple[int, int]):
    matrix = torch.empty(shape)
    OrthogonalInit(gain=2.0)(matrix)
    torch.testing.assert_close(torch.linalg.svdvals(matrix), torch.full((64,), 2.0))


def test_small_matrices_start_as_usual():
    matrix = torch.empty(63, 400)
    OrthogonalInit()(matrix)
    assert matrix.abs().max() <= 400**-0.5
    assert torch.linalg.svdvals(matrix).std() > 0.01


def test_reading_projections_are_orthogonal_and_writing_ones_zero():
    model = model_of(replace(WIDE, init=OrthogonalInit(), init_out=ZeroOut()))
    for name, parameter, role in declared(model):
        if role in (Role.ATTENTION, Role.MLP):
            values = torch.linalg.svdvals(parameter)
            expected = 0.0 if name.endswith(("out.weight", "down.weight")) else 1.0
            torch.testing.assert_close(values, torch.full_like(values, expected))


class Beside(Part):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.param("table", 80, 64, role=Role.TABLE, init=torch.zero_)
        self.param("projection", rows, 64, role=Role.PROJECTION, init=torch.zero_)


@pytest.mark.parametrize(("rows", "singular"), [(64, 1.0), (63, 0.0)])
def test_projections_beside_the_blocks_lose_their_own_start(rows: int, singular: float):
    part = Beside(rows)
    part.reset()
    with torch.no_grad():
        OrthogonalProjections().start(part)
    values = torch.linalg.svdvals(part.projection)
    torch.testing.assert_close(values, torch.full_like(values, singular))
    assert not part.table.any()


def test_overtones_keep_directions_and_bend_the_spectrum():
    plain, bent = model_of(WIDE), model_of(replace(WIDE, on_reset=(Overtone(),)))
    before, after = (next(p for _, p, role in declared(model) if role is Role.EMBED) for model in (plain, bent))
    first = torch.linalg.svdvals(before)[0]
    expected = first * torch.arange(1.0, 81).rsqrt()
    torch.testing.assert_close(torch.linalg.svdvals(after), expected)
    left, _, right = torch.linalg.svd(before, full_matrices=False)
    torch.testing.assert_close((left * expected) @ right, after.detach(), atol=1e-6, rtol=1e-4)


def test_phase_starts_shallow_layers_near_x0():
    model = model_of(replace(WIDE, layers=5, on_read=(X0Mix(phase=True),)))
    for layer, block in enumerate(model.blocks):
        share = 1 / (1 + math.exp(-3 * (layer / 4 - 0.5)))
        mix = block.on_read[0].mix.detach()  # type: ignore[union-attr, index]
        torch.testing.assert_close(mix, torch.tensor([[share], [1 - share]]).expand(2, 128))
    plain = model_of(replace(WIDE, on_read=(X0Mix(),)))
    assert plain.blocks[1].on_read[0].mix.detach().unique().tolist() == [0.0, 1.0]  # type: ignore[union-attr, index]


def test_entropy_of_codes_is_the_histogram_s():
    steps = torch.tensor([[-2.0, -1, 0, 1, 2, 0, 0, 0]])
    limit, deviation = 7, float(steps.std())
    sigmas = limit / deviation  # then a step is 1
    assert float(code_entropy(steps, 4, sigmas)) == pytest.approx(4 * 1 / 8 * 3 + 0.5 * 1, abs=1e-5)
    assert float(code_entropy(torch.zeros(2, 8), 4, 5.0)) == 0.0


def test_the_penalty_pushes_towards_the_commoner_code():
    weights = torch.tensor([[0.0] * 12 + [0.5, 3.0, -3.0]], requires_grad=True)
    code_entropy(weights, 4, 7 / float(weights.detach().std())).backward()
    assert weights.grad is not None
    assert weights.grad[0, 12] > 0, "half a step above the commonest code, it should fall"


def test_training_pays_the_penalty_and_scoring_does_not():
    ids = torch.randint(2, 80, (1, 9), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids[:, :-1], ids[:, 1:])
    plain = model_of(WIDE)
    paying = model_of(replace(WIDE, penalties=(EntropyPenalty(strength=0.5, every=1),)))
    assert torch.equal(plain(batch), paying(batch))
    matrices = [p for _, p, role in declared(paying) if role in (Role.ATTENTION, Role.MLP)]
    bits = torch.stack([code_entropy(matrix.detach(), 6, 12.85) for matrix in matrices]).mean()
    assert 2 < float(bits) < 6
    torch.testing.assert_close(paying.loss(batch), plain.loss(batch) + 0.5 * bits)

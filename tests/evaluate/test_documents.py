"""Scoring document by document."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.evaluate.documents import Documents, row_starts
from paramgolf.evaluate.slots import Bench
from paramgolf.model.gpt import GPT
from tests.tiny import tiny_run

LENGTHS = (5, 1, 40, 17, 2, 90, 33)


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    model = GPT(replace(tiny_run().model, vocab=64, context=128))
    model.reset()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def stream() -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.cat([torch.cat((torch.tensor([BOS]), torch.randint(2, 64, (n,), generator=draw))) for n in LENGTHS])


def costs(model: GPT, tokens: Tensor, *, batch_tokens: int) -> Tensor:
    found = torch.full((len(tokens) - 1,), torch.nan)
    bench = Bench(model, tokens, 32, torch.device("cpu"), batch_tokens)
    for scored in Documents()(bench):
        found[scored.positions[scored.counted]] = scored.nats[scored.counted]
    return found


@pytest.mark.parametrize("batch_tokens", [32, 50, 128])
def test_a_target_costs_what_it_costs_in_its_segment_alone(model: GPT, batch_tokens: int):
    tokens = stream()
    found = costs(model, tokens, batch_tokens=batch_tokens)
    start = 0
    for length in LENGTHS:
        for first in range(start, start + length + 1, 32):
            last = min(first + 32, start + length + 1, len(tokens) - 1)
            ids = tokens[first : last + 1][None]
            alone = model(Batch(ids[:, :-1], ids[:, 1:]))[0]
            torch.testing.assert_close(found[first:last], alone, rtol=1e-4, atol=1e-4)
        start += length + 1


def test_a_document_costs_the_same_whatever_stands_before_it(model: GPT):
    tokens = stream()
    other = tokens.clone()
    other[1:6] = (other[1:6] + 5) % 60 + 2
    start = sum(LENGTHS[:2]) + 2
    assert torch.equal(costs(model, tokens, batch_tokens=128)[start:], costs(model, other, batch_tokens=128)[start:])


def test_rows_hold_whole_segments():
    assert row_starts(np.array([0, 5, 9, 12, 20, 21]), 10) == [0, 9, 12, 21]

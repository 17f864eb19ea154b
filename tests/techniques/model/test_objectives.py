"""What training minimizes, against sums written out."""

import pytest
import torch
from token_batches import packed_documents, plain_rows, small_model
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.model.gpt import GPT
from paramgolf.model.slots import Objective
from paramgolf.parts import declared, kept_parameters
from paramgolf.techniques.model import LabelSmoothing, MultiToken, MultiTokenHeads, UntiedEmbedding, ZLoss

BATCHES = [packed_documents((5, 1, 7, 2, 6)), plain_rows()]


def model_of(objective: Objective) -> GPT:
    return small_model(objective=objective, embedding=UntiedEmbedding(head_std=0.5))


def log_probabilities(model: GPT, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model.logits(model.hidden(batch)).log_softmax(-1)


@pytest.mark.parametrize("batch", BATCHES, ids=["packed", "rows"])
def test_z_loss(batch: Batch):
    model = model_of(ZLoss(weight=0.01))
    logits = model.logits(model.hidden(batch))
    expected = model(batch).mean() + 0.01 * logits.exp().sum(-1).log().square().mean()
    torch.testing.assert_close(model.loss(batch), expected)


@pytest.mark.parametrize("batch", BATCHES, ids=["packed", "rows"])
def test_label_smoothing(batch: Batch):
    model = model_of(LabelSmoothing(amount=0.1))
    logits = model.logits(model.hidden(batch)).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, batch.targets.flatten(), label_smoothing=0.1)
    torch.testing.assert_close(model.loss(batch), expected)


@pytest.mark.parametrize("batch", BATCHES, ids=["packed", "rows"])
@pytest.mark.parametrize(
    ("progress", "weights"),
    [(0.0, (0.5, 0.25)), (0.15, (0.5, 0.125)), (0.3, (0.5,)), (0.45, (0.25,)), (0.6, ()), (1.0, ())],
)
def test_multi_token(batch: Batch, progress: float, weights: tuple[float, ...]):
    model = model_of(MultiToken(weights=(0.5, 0.25), until=0.6))
    model.at(progress)
    logs = log_probabilities(model, batch)
    expected = model(batch).mean().item()
    for ahead, weight in enumerate(weights, 1):
        found = []
        rows, length = batch.ids.shape
        for row in range(rows):
            for place in range(length - ahead):
                between = batch.targets[row, place : place + ahead].tolist()
                if BOS not in between:
                    found.append(-logs[row, place, batch.targets[row, place + ahead]].item())
        expected += weight * sum(found) / len(found)
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_weights_fall_one_after_another():
    config = MultiToken()
    assert config.switches == pytest.approx((1 / 3, 2 / 3))
    assert config.at(0.0) == (0.5, 0.25)
    assert config.at(1 / 6) == pytest.approx((0.5, 0.125))
    assert config.at(1 / 2) == pytest.approx((0.25,))
    assert config.at(2 / 3) == ()
    previous = sum(config.at(0.0))
    for step in range(1, 101):
        now = sum(config.at(step / 100))
        assert now <= previous
        previous = now


def test_no_target_beyond_the_row_is_not_a_number():
    model = model_of(MultiToken())
    batch = plain_rows(1, 1)
    assert model.loss(batch).item() == pytest.approx(model(batch).mean().item())


@pytest.mark.parametrize("batch", BATCHES, ids=["packed", "rows"])
def test_heads_of_their_own_fit_the_tokens_after_the_next(batch: Batch):
    model = model_of(MultiTokenHeads(heads=2, weight=0.3))
    with torch.no_grad():
        model.objective.head.normal_(std=0.5)
        x = model.hidden(batch)
    costs = []
    for ahead, weight in enumerate(model.objective.head, 1):
        logs, found = (x @ weight.mT).log_softmax(-1), []
        rows, length = batch.ids.shape
        for row in range(rows):
            for place in range(length - ahead):
                if BOS not in batch.targets[row, place : place + ahead].tolist():
                    found.append(-logs[row, place, batch.targets[row, place + ahead]].item())
        costs.append(sum(found) / len(found))
    expected = model(batch).mean().item() + 0.3 * sum(costs) / 2
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_heads_of_their_own_are_trained_and_not_kept():
    model = model_of(MultiTokenHeads(heads=2))
    assert {item.name for item in declared(model)} - {item.name for item in kept_parameters(model)} == {
        "objective.head"
    }
    model.loss(BATCHES[0]).backward()
    assert all(head.abs().max() > 0 for head in model.objective.head.grad)
    plain = model_of(ZLoss())
    assert [item.name for item in kept_parameters(plain)] == [item.name for item in declared(plain)]


def test_scoring_does_not_know_the_objective():
    batch = BATCHES[0]
    for objective in (ZLoss(weight=1.0), LabelSmoothing(amount=0.5), MultiToken(), MultiTokenHeads()):
        model = model_of(objective)
        expected = -log_probabilities(model, batch).gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            torch.testing.assert_close(model(batch), expected)

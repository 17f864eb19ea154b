"""What every protocol that adapts has to keep: catalogue E13 where weights change while text is scored."""

import threading
from dataclasses import replace

import pytest
import torch
from adapting import ADAPTERS, ADAPTING, LENGTHS, VOCAB, Meeting, adaptable_model, bench_for, costs_under, text
from torch import Tensor

import paramgolf.techniques  # noqa: F401  (fills the registry)
from paramgolf.errors import UsageError
from paramgolf.evaluate.evaluation import evaluate
from paramgolf.evaluate.slots import Bench, EvaluationProtocol
from paramgolf.model.gpt import GPT
from paramgolf.registry import TECHNIQUES
from paramgolf.techniques.evaluate import LoraTTT, PhasedTTT

every_protocol = pytest.mark.parametrize("protocol", ADAPTING.values(), ids=ADAPTING)


@pytest.fixture(scope="module")
def model() -> GPT:
    return adaptable_model()


def test_every_registered_protocol_that_adapts_is_here():
    known = {type(protocol) for protocol in ADAPTING.values()}
    assert known == {entry.config for entry in TECHNIQUES.values() if getattr(entry.config, "adapts", False)}


@every_protocol
def test_every_target_is_scored_once_and_the_weights_are_as_before(protocol: EvaluationProtocol, model: GPT):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    bench = bench_for(model, text())
    tally = evaluate(protocol, bench, torch.ones(len(bench.tokens) - 1, dtype=torch.int32)).tally
    assert tally.tokens == sum(LENGTHS) + len(LENGTHS) - 1
    after = model.state_dict()
    assert after.keys() == before.keys(), "an adapter was left on the model"
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@every_protocol
def test_it_learns_at_all(protocol: EvaluationProtocol, model: GPT):
    """Costs are not those of weights that never change."""
    still = replace(protocol, lr=0.0) if hasattr(protocol, "lr") else protocol
    if hasattr(still, "adapters"):
        still = replace(still, adapters=replace(still.adapters, lr=0.0))
    bench = bench_for(model, text())
    assert not torch.equal(costs_under(protocol, bench), costs_under(still, bench))


def in_reading_order(protocol: EvaluationProtocol, bench: Bench) -> list[tuple[Tensor, Tensor]]:
    """Places and costs of what was scored, one entry for each thing scored."""
    return [(s.positions[s.counted], s.nats[s.counted].clone()) for s in protocol(bench)]


def altered(tokens: Tensor, place: int, end: int) -> Tensor:
    """Other tokens from target number `place` to `end` (excluded); documents begin where they began."""
    other = tokens.clone()
    part = other[place + 1 : end + 1]
    part[part > 1] = 2 + (part[part > 1] + 7) % (VOCAB - 2)
    return other


@every_protocol
@pytest.mark.parametrize("place", [3, 47, 100])
def test_nothing_learned_from_a_token_reaches_a_score_on_record(protocol: EvaluationProtocol, model: GPT, place: int):
    """Bit for bit: everything read later is other text, from the middle of what was just being scored on."""
    tokens = text()
    first = in_reading_order(protocol, bench_for(model, tokens))
    turn = next(number for number, (places, _) in enumerate(first) if place in places)
    read_before = torch.cat([places for places, _ in first[:turn]]) if turn else torch.empty(0, dtype=torch.int64)
    here = first[turn][0]
    # Windows along the stream see the documents before.
    same_document = 0 if hasattr(protocol, "epochs") else int((tokens[: place + 1] == 1).nonzero().max())
    kept = torch.cat((read_before, here[(here >= same_document) & (here < place)]))
    other = altered(tokens, 0, len(tokens) - 1)
    untouched = torch.cat((kept + 1, tokens_seen(kept, tokens)))
    other[untouched] = tokens[untouched]
    second = in_reading_order(protocol, bench_for(model, other))
    for (places, costs), (same, again) in zip(first[:turn], second[:turn], strict=True):
        assert torch.equal(places, same)
        assert torch.equal(costs, again)
    chosen = (here >= same_document) & (here < place)
    assert torch.equal(first[turn][1][chosen], second[turn][1][chosen])
    if place + 1 not in untouched:  # the second part of a document is read beside its first, and sees it
        assert not torch.equal(first[turn][1][here == place], second[turn][1][here == place])


def tokens_seen(targets: Tensor, tokens: Tensor) -> Tensor:
    """Everything that stands before some of `targets` in their documents."""
    starts = (tokens == 1).nonzero().flatten()
    seen = [torch.arange(int(starts[starts <= target].max()), int(target) + 1) for target in targets]
    return torch.cat(seen) if seen else torch.empty(0, dtype=torch.int64)


@pytest.mark.parametrize("name", ["cold", "file_order", "sgd", "distill"])
@pytest.mark.parametrize("place", [30, 130])
def test_what_comes_later_in_the_file_changes_no_score_before(name: str, model: GPT, place: int):
    """One pass from left to right, where a protocol promises it."""
    tokens = text()
    before = costs_under(ADAPTING[name], bench_for(model, tokens))
    after = costs_under(ADAPTING[name], bench_for(model, altered(tokens, place, len(tokens) - 1)))
    assert torch.equal(before[:place], after[:place])
    assert not torch.equal(before[place:], after[place:])


def test_cold_adapters_keep_documents_apart(model: GPT):
    tokens = text()
    costs = costs_under(ADAPTING["cold"], bench_for(model, tokens))
    start, end = 5 + 1 + 1 + 1, 5 + 1 + 40 + 3
    elsewhere = tokens.clone()
    elsewhere[1:6] = (tokens[1:6] + 3) % (VOCAB - 2) + 2
    elsewhere[end + 2 : end + 10] = (tokens[end + 2 : end + 10] + 3) % (VOCAB - 2) + 2
    again = costs_under(ADAPTING["cold"], bench_for(model, elsewhere))
    assert torch.equal(costs[start : end - 1], again[start : end - 1])
    assert not torch.equal(costs, again)


@pytest.mark.parametrize("documents", [1, 3, 8])
def test_who_is_read_beside_a_document_changes_no_score(model: GPT, documents: int):
    """Each row has its own adapter, moments and step, also when rows of shorter documents have been given up."""
    tokens, cold = text(), replace(ADAPTERS, warm=False)
    alone = costs_under(LoraTTT(adapters=replace(cold, documents=1)), bench_for(model, tokens))
    beside = costs_under(LoraTTT(adapters=replace(cold, documents=documents)), bench_for(model, tokens))
    torch.testing.assert_close(beside, alone, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["cold", "warm", "parts", "phased", "sgd", "distill"])
def test_two_ranks_score_every_target_once(name: str, model: GPT):
    meeting, tokens, models = Meeting(2), text(), [adaptable_model(), adaptable_model()]
    found: list[Tensor] = [torch.empty(0)] * 2

    def work(rank: int) -> None:
        found[rank] = costs_under(ADAPTING[name], meeting.bench(bench_for(models[rank], tokens), rank))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ((~found[0].isnan()).int() + (~found[1].isnan()).int() == 1).all()
    alone = costs_under(ADAPTING[name], bench_for(model, tokens))
    together = torch.where(found[0].isnan(), found[1], found[0])
    if name in ("cold", "sgd", "distill"):  # with warm adapters it matters what a rank has read before
        torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
    assert abs(float(together.mean() - alone.mean())) < 0.15


def test_a_protocol_left_halfway_leaves_the_model_as_it_was(model: GPT):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    running = iter(PhasedTTT(adapters=ADAPTERS, phases=2, prefix=6, lr=0.05, step_tokens=48)(bench_for(model, text())))
    for _ in range(14):
        next(running)
    running.close()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@every_protocol
def test_without_a_model_it_is_refused(protocol: EvaluationProtocol, model: GPT):
    with pytest.raises(UsageError, match="adapts weights"):
        next(iter(protocol(bench_for(model, text())._replace(model=None))))

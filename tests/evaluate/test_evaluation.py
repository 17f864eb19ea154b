"""Evaluation catalogue E13 on a real model and a real tokenizer: coverage, bytes, causality, normalization, ranks."""

from collections.abc import Iterator
from dataclasses import replace
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch
from tiny import tiny_run
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.data.shards import ShardWriter
from paramgolf.data.tokenizers import SentencePieceTokenizer, train_sentencepiece
from paramgolf.data.validation import ValStream, validation_stream
from paramgolf.errors import GolfError
from paramgolf.evaluate.evaluation import Contiguous, evaluate
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench, EvaluationProtocol
from paramgolf.evaluate.windows import window_starts
from paramgolf.model.gpt import GPT
from paramgolf.techniques.evaluate import Sliding

VOCAB = 400
PROTOCOLS = [Contiguous(), Contiguous(length=7), Sliding(stride=1), Sliding(stride=5), Sliding(stride=32, length=20)]
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Real paragraphs, and some that a byte count gets wrong: accents, emoji, spaces, rare scripts."""
    paragraphs = (part for _, topic in sorted(topics.items()) for part in topic.split("\n\n"))
    strange = ["naïve café", "日本語 text", "a  b   c\n\n d", "🙂 🙃!", " a space first", "tab\tand\rreturn", "ﬁne ½"]
    return [part for part in paragraphs if 100 < len(part) < 900][:150] + strange


@pytest.fixture(scope="module")
def tokenizer(documents: list[str], tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    path = train_sentencepiece(documents, VOCAB, tmp_path_factory.mktemp("tokenizer") / "small.model")
    return SentencePieceTokenizer(path, threads=1)


@pytest.fixture(scope="module")
def stream(documents: list[str], tokenizer: SentencePieceTokenizer, tmp_path_factory) -> ValStream:
    """Twelve documents, the strange ones among them."""
    chosen = documents[:5] + documents[-7:]
    with ShardWriter(tmp_path_factory.mktemp("val"), "text", "val", shard_tokens=500) as writer:
        for ids in tokenizer.encode(chosen):
            writer.write(np.concatenate(([BOS], ids)))
    return validation_stream(writer.paths, tokenizer)


@pytest.fixture(scope="module")
def model() -> GPT:
    """A model whose costs depend on everything it may see."""
    torch.manual_seed(3)
    model = GPT(replace(tiny_run().model, vocab=VOCAB))
    model.reset()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def bench_of(model: GPT, tokens: Tensor, *, batch_tokens: int = 300, rank: int = 0, world: int = 1) -> Bench:
    return Bench(model, tokens, 32, torch.device("cpu"), batch_tokens, rank, world)


def tokens_of(stream: ValStream) -> Tensor:
    return torch.from_numpy(stream.tokens.astype("int64"))


def costs_of(protocol: EvaluationProtocol, bench: Bench) -> tuple[Tensor, Tensor]:
    """Cost and count of every target, without the sums of `evaluate`."""
    targets = len(bench.tokens) - 1
    costs, counts = torch.zeros(targets, dtype=torch.float64), torch.zeros(targets, dtype=torch.int64)
    for scored in protocol(bench):
        places = scored.positions[scored.counted]
        costs[places] = scored.nats[scored.counted].double()
        counts += torch.bincount(places, minlength=targets)
    return costs, counts


@every_protocol
def test_1_every_target_is_scored_once(protocol: EvaluationProtocol, stream: ValStream, model: GPT):
    tokens = tokens_of(stream)
    costs, counts = costs_of(protocol, bench_of(model, tokens))
    assert (counts == 1).all()
    tally = evaluate(protocol, bench_of(model, tokens), torch.from_numpy(stream.target_bytes)).tally
    assert tally.tokens == len(tokens) - 1 == len(stream.target_bytes)
    assert tally.nats == pytest.approx(float(costs.sum()), rel=1e-12)
    assert tally.bits_per_byte == pytest.approx(tally.nats / np.log(2) / stream.target_bytes.sum(), rel=1e-12)


def test_2_bytes_are_those_of_the_text_for_every_evaluator(
    stream: ValStream, documents: list[str], tokenizer: SentencePieceTokenizer, model: GPT
):
    text = sum(len(tokenizer.decode(ids).encode()) for ids in tokenizer.encode(documents[:5] + documents[-7:]))
    target_bytes = torch.from_numpy(stream.target_bytes)
    totals = {evaluate(p, bench_of(model, tokens_of(stream)), target_bytes).tally.bytes for p in PROTOCOLS}
    assert totals == {text}


@every_protocol
@pytest.mark.parametrize("place", [1, 40, 200, 333])
def test_3_what_comes_later_changes_no_score_before(
    protocol: EvaluationProtocol, stream: ValStream, model: GPT, place: int
):
    """Bit for bit: the target at `place` and everything after it are other tokens."""
    tokens = tokens_of(stream)
    before, _ = costs_of(protocol, bench_of(model, tokens))
    other = tokens.clone()
    other[place + 1 :] = 4 + (tokens[place + 1 :] + 11) % (VOCAB - 4)
    after, _ = costs_of(protocol, bench_of(model, other))
    assert torch.equal(after[:place], before[:place])
    assert not torch.equal(after[place:], before[place:])


@every_protocol
def test_4_probabilities_sum_to_one(protocol: EvaluationProtocol, stream: ValStream, model: GPT):
    """At a random place: the costs of all tokens in the place of the target, scored by the evaluator itself."""
    tokens = tokens_of(stream)[:60]
    place = int(np.random.Generator(np.random.PCG64(0)).integers(33, 50))
    total = 0.0
    for token in range(VOCAB):
        other = torch.cat((tokens[: place + 1], torch.tensor([token])))
        total += float((-costs_of(protocol, bench_of(model, other))[0][place]).exp())
    assert total == pytest.approx(1.0, abs=1e-4)


def test_sliding_gives_every_target_its_context(stream: ValStream, model: GPT):
    """The cost under a window of 32 and stride 8 is that of the row which ends a window there, computed alone."""
    tokens = tokens_of(stream)
    costs, _ = costs_of(Sliding(stride=8), bench_of(model, tokens))
    targets = len(tokens) - 1
    for place in (0, 5, 31, 32, 40, 47, 48, 200, targets - 1):
        window = 0 if place < 32 else 8 * -(-(place - 31) // 8)
        assert window + 32 > place
        assert place < 32 or place - window >= 24
        row = tokens[window : place + 1][None]
        with torch.no_grad():
            alone = model(Batch(row, tokens[window + 1 : place + 2][None]))[0, -1]
        assert float(alone) == pytest.approx(float(costs[place]), abs=2e-5)


def test_stride_one_and_a_window_for_each_are_the_same(stream: ValStream, model: GPT):
    tokens = tokens_of(stream)[:120]
    whole, _ = costs_of(Contiguous(length=32), bench_of(model, tokens))
    slid, _ = costs_of(Sliding(stride=32), bench_of(model, tokens))
    assert torch.equal(whole, slid)


@every_protocol
@pytest.mark.parametrize("batch_tokens", [1, 40, 300, 100_000])
def test_the_size_of_a_batch_changes_no_score(
    protocol: EvaluationProtocol, stream: ValStream, model: GPT, batch_tokens: int
):
    tokens = tokens_of(stream)[:150]
    whole, _ = costs_of(protocol, bench_of(model, tokens))
    other, _ = costs_of(protocol, bench_of(model, tokens, batch_tokens=batch_tokens))
    torch.testing.assert_close(other, whole, rtol=1e-5, atol=1e-5)


@every_protocol
@pytest.mark.parametrize("world", [2, 3, 8])
def test_7_ranks_add_up(protocol: EvaluationProtocol, stream: ValStream, model: GPT, world: int):
    tokens = tokens_of(stream)
    alone = costs_of(protocol, bench_of(model, tokens))
    parts = [costs_of(protocol, bench_of(model, tokens, rank=rank, world=world)) for rank in range(world)]
    costs, counts = (torch.stack(part).sum(0) for part in zip(*parts, strict=True))
    assert torch.equal(counts, alone[1])
    assert torch.equal(costs, alone[0]), "each batch is the same whoever scores it"


@pytest.mark.parametrize(("targets", "length", "stride"), [(1, 4, 2), (4, 4, 2), (5, 4, 2), (9, 4, 4), (100, 7, 3)])
def test_windows_reach_the_end_and_no_further(targets: int, length: int, stride: int):
    starts = window_starts(targets, length, stride).tolist()
    assert starts[0] == 0
    assert starts[-1] + length >= targets
    assert len(starts) == 1 or starts[-2] + length < targets


class Faulty:
    """A protocol with a fault: some targets are counted twice, or not at all."""

    def __init__(self, counted: float) -> None:
        self.counted = counted

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        for number, scored in enumerate(Contiguous()(bench)):
            if number == 1 and self.counted == 2:
                yield scored
            if number != 1 or self.counted:
                yield scored


@pytest.mark.parametrize(("counted", "said"), [(2, "was counted 2 times"), (0, "was counted 0 times")])
def test_a_protocol_that_miscounts_is_caught(stream: ValStream, model: GPT, counted: int, said: str):
    bench = bench_of(model, tokens_of(stream), batch_tokens=64)
    with pytest.raises(GolfError, match="not counted exactly once") as caught:
        evaluate(Faulty(counted), bench, torch.from_numpy(stream.target_bytes))
    assert f"target 64 {said}" in caught.value.evidence


def test_a_cost_that_is_not_finite_is_caught(stream: ValStream):
    def broken(batch: Batch) -> Tensor:
        return torch.where(batch.targets == int(stream.tokens[50]), float("nan"), 1.0)

    first = int((stream.tokens[1:] == stream.tokens[50]).nonzero()[0][0])
    bench = Bench(broken, tokens_of(stream), 32, torch.device("cpu"), 64)
    with pytest.raises(GolfError, match="not finite") as caught:
        evaluate(Contiguous(), bench, torch.from_numpy(stream.target_bytes))
    assert f"target {first} of" in caught.value.evidence


def test_progress_is_told_to_the_end(stream: ValStream, model: GPT):
    told: list[float] = []
    target_bytes = torch.from_numpy(stream.target_bytes)
    evaluate(Sliding(stride=5), bench_of(model, tokens_of(stream)), target_bytes, told=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_scoring_leaves_no_gradient(stream: ValStream, model: GPT):
    scored = next(iter(Contiguous()(bench_of(model, tokens_of(stream)))))
    assert not scored.nats.requires_grad

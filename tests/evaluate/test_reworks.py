"""What reworks logits: normalized, from the prefix alone, and what the formulas say."""

from collections import Counter

import numpy as np
import pytest
import torch
from adapting import VOCAB, adaptable_model, bench_for, costs_under, text
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import paramgolf.techniques  # noqa: F401  (fills the registry)
from paramgolf.batch import BOS, Batch
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.matches import match_hints, ngram_followers
from paramgolf.evaluate.readout import places_told
from paramgolf.evaluate.slots import Bench, OnLogits
from paramgolf.registry import TECHNIQUES
from paramgolf.techniques.evaluate import LogitRescale, NgramMixture, NgramTilt, Temperature
from paramgolf.techniques.evaluate.temperature import fit_temperature

HERE = torch.device("cpu")
REWORKS = (
    Temperature(value=0.8),
    LogitRescale(above=1.1, below=0.7),
    NgramTilt(order=2, confidence=0.5),
    NgramTilt(order=3, confidence=0.0, scope="stream"),
    NgramMixture(order=3, keep=2),
    NgramMixture(order=2, keep=3, scope="stream", concentration=0.5),
)
every_rework = pytest.mark.parametrize("rework", REWORKS, ids=str)


def repeating(length: int = 300, seed: int = 0) -> Tensor:
    """Text of few words in documents, so that there is something to match."""
    draw = np.random.Generator(np.random.PCG64(seed))
    words = [draw.integers(2, VOCAB, size=4) for _ in range(5)]
    parts = [np.array([BOS]) if draw.random() < 0.08 else words[draw.integers(5)] for _ in range(length // 4)]
    return torch.from_numpy(np.concatenate([[BOS], *parts]).astype(np.int64))


def test_every_registered_rework_is_here():
    known = {entry.config for entry in TECHNIQUES.values() if entry.fills == "evaluate.on_logits"}
    assert known == {type(rework) for rework in REWORKS}


@every_rework
def test_the_distribution_sums_to_one_and_is_not_the_models(rework: OnLogits):
    tokens = repeating()
    logits = 3 * torch.randn(1, len(tokens) - 1, VOCAB, generator=torch.Generator().manual_seed(1))
    out = rework.prepare(tokens, HERE)(logits, torch.arange(len(tokens) - 1)[None])
    assert out.log_softmax(-1).logsumexp(-1).abs().max() < 1e-4
    assert not torch.allclose(out.log_softmax(-1), logits.log_softmax(-1), atol=1e-3)


@every_rework
@given(place=st.integers(1, 250), seed=st.integers(0, 5))
@settings(max_examples=15)
def test_what_is_said_of_a_target_comes_from_what_stands_before_it(rework: OnLogits, place: int, seed: int):
    """The target itself and everything after it are other tokens."""
    tokens = repeating(seed=seed)
    other = tokens.clone()
    other[place + 1 :] = 2 + (other[place + 1 :] * 7 + 5) % (VOCAB - 2)
    logits = torch.randn(1, place + 1, VOCAB, generator=torch.Generator().manual_seed(seed))
    before, after = (rework.prepare(stream, HERE)(logits, torch.arange(place + 1)[None]) for stream in (tokens, other))
    assert torch.equal(before, after)


@pytest.mark.parametrize("rework", [NgramTilt(order=2, confidence=0.0), NgramMixture(order=3)], ids=str)
def test_other_documents_do_not_matter(rework: OnLogits):
    tokens = repeating()
    second = int((tokens == BOS).nonzero()[3])
    other = torch.cat((repeating(seed=9), tokens[second:]))
    shift = len(other) - len(tokens)
    logits = torch.randn(1, len(tokens) - 1 - second, VOCAB, generator=torch.Generator().manual_seed(1))
    places = torch.arange(second, len(tokens) - 1)[None]
    here, there = rework.prepare(tokens, HERE), rework.prepare(other, HERE)
    assert torch.equal(here(logits, places), there(logits, places + shift))


def test_the_tilt_is_its_formula():
    tokens = repeating()
    tilt = NgramTilt(order=2, confidence=0.0, beta=1.7)
    hints = torch.from_numpy(match_hints(tokens.numpy(), order=2, inside=True).tokens)
    logits = torch.randn(1, len(hints), VOCAB, generator=torch.Generator().manual_seed(1))
    p = logits.softmax(-1)[0]
    lifted = tilt.prepare(tokens, HERE)(logits, torch.arange(len(hints))[None]).softmax(-1)[0]
    for place in range(len(hints)):
        hint = int(hints[place])
        expected = p[place].clone()
        if hint >= 0:
            expected[hint] *= np.exp(1.7)
            expected /= 1 + p[place, hint] * (np.exp(1.7) - 1)
        torch.testing.assert_close(lifted[place], expected, rtol=1e-5, atol=1e-6)
    assert (hints >= 0).any()
    assert (hints < 0).any()


def test_the_mixture_is_its_formula():
    """Counted by hand, with contexts of one length and room for every follower."""
    tokens = repeating(120).tolist()
    mixture = NgramMixture(order=1, keep=VOCAB, concentration=2.0)
    logits = torch.randn(1, len(tokens) - 1, VOCAB, generator=torch.Generator().manual_seed(1))
    p = logits.softmax(-1)[0]
    mixed = mixture.prepare(torch.tensor(tokens), HERE)(logits, torch.arange(len(tokens) - 1)[None])[0].exp()
    counts: dict[int, Counter[int]] = {}
    for place, token in enumerate(tokens[:-1]):
        counts = {} if token == BOS else counts
        seen = counts.setdefault(token, Counter())
        whole = seen.total() + 2.0
        expected = p[place] * 2.0 / whole
        for follower, number in seen.items():
            expected[follower] += number / whole
        torch.testing.assert_close(mixed[place], expected, rtol=1e-5, atol=1e-6)
        seen[tokens[place + 1]] += 1


@given(
    words=st.lists(st.lists(st.integers(2, 6), min_size=1, max_size=5), min_size=1, max_size=30),
    order=st.integers(1, 4),
    inside=st.booleans(),
)
@settings(max_examples=60)
def test_a_hint_follows_an_earlier_match(words: list[list[int]], order: int, inside: bool):
    tokens = np.array([token for word in words for token in [BOS, *word]], dtype=np.int64)
    hints = match_hints(tokens, order=order, inside=inside)
    for place, hint in enumerate(hints.tokens.tolist()):
        begin = int(np.flatnonzero(tokens[: place + 1] == BOS)[-1]) if inside else 0
        before = tokens[begin : place + 1].tolist()
        last = before[-order:]
        ends = [end for end in range(order, len(before)) if before[end - order : end] == last]
        followers = {before[end] for end in ends}
        assert hint in followers if hint >= 0 else not followers
        assert 0 <= hints.confidence[place] <= 1


def test_followers_are_those_of_the_longest_known_context():
    tokens = np.array([1, 5, 6, 7, 9, 6, 8, 5, 6, 7, 5, 6, 2], dtype=np.int64)
    found = ngram_followers(tokens, order=2, keep=3, inside=True)
    assert found.tokens[5].tolist() == [7, -1, -1], "after 9 6, only 6 is known"
    assert found.tokens[8].tolist() == [7, -1, -1], "after 5 6, which is known, 8 has not followed"
    assert found.tokens[11].tolist() == [7, -1, -1]
    assert found.counts[11].tolist() == [2, 0, 0]


def test_protocols_score_reworked_logits():
    model, tokens = adaptable_model(), text()
    plain = bench_for(model, tokens)
    value = 0.5
    rework = (Temperature(value=value).prepare(tokens, HERE),)
    told: Bench = plain._replace(on_logits=rework, at=places_told(model, rework))
    costs = costs_under(Documents(), told)
    assert not torch.equal(costs, costs_under(Documents(), plain))
    row = Batch(tokens[None, :5], tokens[None, 1:6])
    with torch.no_grad():
        logits = model.logits(model.hidden(row)) / value
    expected = torch.nn.functional.cross_entropy(logits[0], row.targets[0], reduction="none")
    torch.testing.assert_close(costs[:5].float(), expected, rtol=1e-5, atol=1e-5)


def test_the_temperature_that_fits_is_found():
    """Logits that are twice too small want a temperature of a half."""

    class Shrunk:
        def hidden(self, batch: Batch) -> Tensor:
            return torch.nn.functional.one_hot(batch.ids, VOCAB).float()

        def logits(self, x: Tensor) -> Tensor:
            return 0.5 * torch.log(0.6 * x + 0.4 / VOCAB)

    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, VOCAB, (1, 4000), generator=draw)
    same = torch.rand(1, 4000, generator=draw) < 0.6
    targets = torch.where(same, ids, torch.randint(0, VOCAB, (1, 4000), generator=draw))
    assert fit_temperature(Shrunk(), [Batch(ids, targets)], (0.25, 0.5, 1.0, 2.0)) == 0.5

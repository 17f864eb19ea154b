"""Strict evaluations stay inside their budget by adapting less, and score every target all the same."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from adapting import ADAPTERS, ADAPTING, adaptable_model, bench_for, costs_under, text

from paramgolf.errors import OverTime
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.evaluation import require_time
from paramgolf.evaluate.pace import RESERVE_SECONDS, EvaluationPace
from paramgolf.evaluate.slots import Bench
from paramgolf.model.gpt import GPT
from paramgolf.techniques.evaluate import LoraTTT


@pytest.fixture(scope="module")
def model() -> GPT:
    return adaptable_model()


def clock(enough: int) -> Callable[[], float]:
    """Plenty of time when asked the first `enough` times, then none."""
    answers: Iterator[float] = iter([1e6] * enough)
    return lambda: next(answers, 0.0)


@pytest.mark.parametrize("name", ADAPTING)
@pytest.mark.parametrize("enough", [1, 4, 9])
def test_all_is_scored_once_whenever_time_runs_out(model: GPT, name: str, enough: int):
    bench = bench_for(model, text())._replace(left=clock(enough))
    costs = costs_under(ADAPTING[name], bench)
    assert not costs.isnan().any()
    assert model.state_dict().keys() == adaptable_model().state_dict().keys()


def test_what_was_scored_in_time_is_as_without_a_budget(model: GPT):
    """And the rest as the model scores it that has not adapted."""
    protocol = LoraTTT(adapters=replace(ADAPTERS, documents=3))
    bench = bench_for(model, text())
    unlimited = [(s.positions[s.counted], s.nats[s.counted]) for s in protocol(bench)]
    strict = [(s.positions[s.counted], s.nats[s.counted]) for s in protocol(bench._replace(left=clock(6)))]
    for (places, costs), (same, again) in zip(unlimited[:5], strict[:5], strict=True):
        assert torch.equal(places, same)
        assert torch.equal(costs, again)
    assert len(strict) < len(unlimited)
    short = 49 + 17 + 1  # targets of the document of two tokens, which nothing had been read for yet
    plain = costs_under(Documents(), bench)
    found = torch.cat([costs[places >= short][places[places >= short] < short + 3] for places, costs in strict])
    torch.testing.assert_close(found.double(), plain[short : short + 3], rtol=1e-4, atol=1e-4)


def test_no_time_at_all_is_plain_scoring(model: GPT):
    bench = bench_for(model, text((5, 9, 20)))
    none = costs_under(ADAPTING["warm"], bench._replace(left=clock(1)))
    torch.testing.assert_close(none, costs_under(Documents(), bench), rtol=1e-4, atol=1e-4)


def test_the_rest_is_reckoned_with(model: GPT):
    """It stops while what is left can still be scored, not when time is up."""
    left = [1000.0]
    pace = EvaluationPace(bench_for(model, text())._replace(left=lambda: left[0]), unread=1000, longest=24)
    assert pace.seconds_per_target > 0
    pace.seconds_per_target = 0.01
    left[0] = RESERVE_SECONDS + 40.0
    assert pace.go_on()
    left[0] = RESERVE_SECONDS + 1.5 * 1000 * 0.01 - 0.1
    assert not pace.go_on()
    left[0] = 1000.0
    assert not pace.go_on(), "once stopped it stays so"


def test_one_rank_without_time_stops_all(model: GPT):
    def asked(total: float) -> EvaluationPace:
        bench: Bench = bench_for(model, text())._replace(left=lambda: 1e6, total=lambda mine: mine + total)
        return EvaluationPace(bench, unread=10, longest=24)

    assert asked(0.0).all_go_on()
    stopped = asked(1.0)
    assert not stopped.all_go_on()
    assert not stopped.go_on()


def test_without_a_budget_nothing_is_measured_or_stopped(model: GPT):
    pace = EvaluationPace(bench_for(model, text()), unread=10**12, longest=24)
    assert pace.bench.left() == math.inf
    assert pace.go_on()
    assert pace.all_go_on()


def test_over_time_says_by_how_much():
    require_time(599.0, 600.0)
    with pytest.raises(OverTime, match=r"took 601.5 s, 1.5 s more than it may"):
        require_time(601.5, 600.0)

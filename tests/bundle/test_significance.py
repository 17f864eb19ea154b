"""The tests of the challenge against numbers worked out by hand and published ones."""

import math

import pytest
from scipy import stats

from paramgolf.bundle.significance import (
    below_others,
    below_threshold,
    compared_scores,
    margin_bpb,
    seeds_wanted,
    spread,
)
from paramgolf.errors import UsageError


def test_the_margin_in_bits_per_byte() -> None:
    """R1: 0.00296 (sp1024), 0.00194 (sp8192), 0.00228 (CaseOps)."""
    assert [round(margin_bpb(ratio), 5) for ratio in (2.4359, 3.7266, 3.157)] == [0.00296, 0.00194, 0.00228]


def test_one_sample_by_hand() -> None:
    """R7: with three seeds the critical t is 6.965, so 0.008 nats beyond the margin at a deviation of 0.002."""
    values = [1.0 - 0.002, 1.0, 1.0 + 0.002]
    outcome = below_threshold(values, 1.0 + 6.965 * 0.002 / math.sqrt(3))
    assert (outcome.test, outcome.df) == ("one-sample t", 2)
    assert outcome.t == pytest.approx(-6.965)
    assert outcome.p == pytest.approx(0.01, rel=1e-3)
    assert below_threshold(values, 0.99).p == pytest.approx(1 - stats.t.cdf(-0.01 / 0.002 * math.sqrt(3), 2))


def test_welch_by_hand() -> None:
    ours, theirs = [1.0, 1.2, 1.1], [2.0, 2.4]
    variance = 0.01 / 3 + 0.08 / 2
    outcome = below_others(ours, theirs, 0.5)
    assert outcome.t == pytest.approx((1.1 - 1.7) / math.sqrt(variance))
    assert outcome.df == pytest.approx(variance**2 / ((0.01 / 3) ** 2 / 2 + (0.08 / 2) ** 2))
    assert outcome.p == pytest.approx(stats.t.cdf(outcome.t, outcome.df))


def test_both_readings() -> None:
    """A gain below the margin keeps the practice of May and not the README."""
    readme, practice = compared_scores([1.0640, 1.0645, 1.0635], [1.0650, 1.0655, 1.0645], 3.157)
    assert (readme.name, readme.kept, readme.limit) == ("README", False, 0.01)
    assert (practice.name, practice.kept, practice.margin) == ("practice", True, 0.0)
    readme, practice = compared_scores([1.0540, 1.0541, 1.0539], [1.0650], 3.157)
    assert readme.kept
    assert practice.kept
    assert (readme.outcome.test, readme.outcome.df) == ("one-sample t", 2)
    assert not any(reading.kept for reading in compared_scores([1.0651, 1.0655, 1.0659], [1.0650], 3.157))


def test_too_few_seeds_and_no_spread() -> None:
    assert spread([1.0]) == (1, 1.0, None)
    assert below_threshold([1.0], 2.0).p is None
    assert below_others([1.0, 1.1], [2.0]).p is None
    assert not any(reading.kept for reading in compared_scores([1.0], [2.0], 3.0))
    assert (below_threshold([1.0, 1.0], 2.0).p, below_threshold([1.0, 1.0], 0.5).p) == (0.0, 1.0)
    assert below_threshold([1.0, 1.0], 2.0).t == -math.inf
    assert (below_others([1.0, 1.0], [2.0, 2.0]).p, below_others([2.0, 2.0], [2.0, 2.0]).p) == (0.0, 1.0)
    for values in ([], [math.nan], [1.0, math.inf]):
        with pytest.raises(UsageError):
            spread(values)


def test_seeds_wanted() -> None:
    values = [1.0 - 0.002, 1.0, 1.0 + 0.002]
    assert seeds_wanted(values, 1.0 + 0.0081) == 3
    assert seeds_wanted(values, 1.0 + 0.0079) == 4
    assert seeds_wanted(values, 1.0) is None
    assert seeds_wanted(values, 1.00001) is None

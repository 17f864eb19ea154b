import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.evaluate.tally import Tally

tallies = st.builds(Tally, st.floats(0, 1e9), st.integers(0, 10**12), st.integers(0, 10**12))


@given(a=tallies, b=tallies, c=tallies)
def test_parts_add_up_in_any_order(a: Tally, b: Tally, c: Tally):
    left, right = a.plus(b).plus(c), c.plus(b.plus(a))
    assert left.nats == pytest.approx(right.nats, rel=1e-12, abs=1e-9)
    assert left[1:] == right[1:] == (a.bytes + b.bytes + c.bytes, a.tokens + b.tokens + c.tokens)
    assert a.plus(Tally()) == a == Tally().plus(a)


@given(
    parts=st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 50)), min_size=1, max_size=40),
    cut=st.integers(0, 40),
)
def test_the_whole_is_between_its_parts(parts: list[tuple[int, int]], cut: int):
    """Costs in units of 2⁻¹⁰ nats add without rounding, so that any grouping gives the very same number."""
    tallies = [Tally(nats / 1024, size, 1) for nats, size in parts]
    whole = sum_of(tallies)
    assert sum_of([sum_of(tallies[:cut]), sum_of(tallies[cut:])]) == whole
    each = [tally.bits_per_byte for tally in tallies]
    assert min(each) * (1 - 1e-12) <= whole.bits_per_byte <= max(each) * (1 + 1e-12)


def sum_of(tallies: list[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total = total.plus(tally)
    return total


def test_a_uniform_byte_costs_eight_bits():
    tally = Tally(1000 * math.log(256), 1000, 250)
    assert tally.bits_per_byte == pytest.approx(8.0)
    assert tally.nats_per_token == pytest.approx(4 * math.log(256))


def test_nothing_counted_is_no_good_score():
    assert Tally().bits_per_byte == math.inf
    assert Tally().nats_per_token == math.inf

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.errors import UsageError
from paramgolf.optim.muon import MuonConfig
from paramgolf.optim.schedule import Progress, warmdown, warmdown_by_steps, warmed_up
from paramgolf.registry import TECHNIQUES, lookup
from paramgolf.techniques.optim import Constant, Warmdown, WarmdownSteps


@pytest.mark.parametrize(
    ("fraction", "scale"), [(0.0, 1.0), (0.15, 1.0), (0.575, 0.5), (0.915, 0.1), (0.95, 0.1), (1.0, 0.1), (1.02, 0.1)]
)
def test_warmdown_of_the_last_record(fraction: float, scale: float) -> None:
    assert warmdown(fraction, share=0.85, floor=0.1) == pytest.approx(scale)


@given(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1.1), st.floats(0, 0.1))
def test_warmdown_only_falls_and_keeps_its_bounds(share: float, floor: float, fraction: float, later: float) -> None:
    now, then = warmdown(fraction, share=share, floor=floor), warmdown(fraction + later, share=share, floor=floor)
    assert floor <= then <= now <= 1.0


@given(st.floats(0.01, 1))
def test_warmdown_has_no_jump_where_it_starts(share: float) -> None:
    assert warmdown(1 - share + 1e-9, share=share) == pytest.approx(1.0, abs=1e-6)


def test_warmdown_by_steps_is_the_published_baseline() -> None:
    assert warmdown_by_steps(math.inf, 1200) == 1.0
    assert warmdown_by_steps(1200, 1200) == 1.0
    assert warmdown_by_steps(300, 1200) == 0.25
    assert warmdown_by_steps(0, 1200) == 0.0
    assert warmdown_by_steps(-3, 1200) == 0.0


def test_momentum_warms_up_in_a_line_and_stays() -> None:
    config = MuonConfig()
    assert [config.momentum_at(step) for step in (0, 250, 500, 9000)] == pytest.approx([0.85, 0.9, 0.95, 0.95])
    assert MuonConfig(momentum_steps=0).momentum_at(0) == 0.95
    assert warmed_up(1, start=0.0, end=1.0, steps=4) == 0.25


def test_techniques_read_the_progress_they_should() -> None:
    progress = Progress(fraction=0.9, step=90, left=10.0)
    assert Constant()(progress) == 1.0
    assert Warmdown(share=0.2)(progress) == pytest.approx(0.5)
    assert WarmdownSteps(iterations=40)(progress) == 0.25


@pytest.mark.parametrize("name", ["constant_rate", "warmdown", "warmdown_steps"])
def test_every_schedule_is_registered_and_explained(name: str) -> None:
    entry = lookup(name)
    assert entry.fills == "optim.schedule"
    assert entry.glossary
    assert entry.config()(Progress(0.0, 0, math.inf)) == 1.0


def test_a_misspelt_schedule_is_refused_with_a_suggestion() -> None:
    assert "warmdown" in TECHNIQUES
    with pytest.raises(UsageError, match="did you mean 'warmdown'"):
        lookup("warmdwn")


@pytest.mark.parametrize("fields", [{"share": 0.0}, {"share": 1.5}, {"floor": -0.1}, {"floor": 2.0}])
def test_impossible_warmdown_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Warmdown(**fields)


def test_impossible_warmdown_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="iterations=0"):
        WarmdownSteps(iterations=0)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.errors import OverTime
from paramgolf.optim.schedule import Progress
from paramgolf.techniques.optim import Warmdown, WarmdownSteps
from paramgolf.train.clock import Clock
from paramgolf.train.config import TrainConfig


class Watch:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def steps_of(clock: Clock, watch: Watch, duration: float, *, step: int = 0, pause_every: int = 0) -> int:
    """Train with steps of one duration, as the loop does on a CPU; returns how many there were."""
    clock.start()
    while not clock.over(step):
        watch.time += duration
        step += 1
        clock.lap()
        if step == 1:
            clock.require_room()
        if pause_every and step % pause_every == 0:
            clock.stop()
            watch.time += 50.0
            clock.start()
    clock.stop()
    return step


@given(budget=st.floats(0.5, 100), steps=st.floats(1.01, 60), reserve=st.floats(0, 0.4), pauses=st.integers(0, 7))
def test_a_run_by_the_clock_fills_its_budget_and_never_passes_it(
    budget: float, steps: float, reserve: float, pauses: int
):
    watch, left = Watch(), budget - reserve
    clock = Clock(TrainConfig(reserve_seconds=reserve), budget, now=watch)
    taken = steps_of(clock, watch, left / steps, pause_every=pauses)
    assert clock.elapsed <= left * (1 + 1e-9)
    assert clock.elapsed + left / steps > left * (1 - 1e-9), "it stopped too early"
    assert abs(taken - steps) <= 1
    assert clock.median_step() == pytest.approx(left / steps)


def test_a_second_step_that_would_pass_the_budget_is_not_begun():
    watch = Watch()
    clock = Clock(TrainConfig(), 10.0, now=watch)
    assert steps_of(clock, watch, 6.0) == 1
    assert clock.elapsed == pytest.approx(6.0)


def test_a_step_longer_than_the_budget_is_refused():
    watch = Watch()
    with pytest.raises(OverTime, match="too small for one training step") as caught:
        steps_of(Clock(TrainConfig(), 10.0, now=watch), watch, 10.5)
    assert "one step took 10.50 s, the budget is 10 s" in caught.value.evidence
    assert caught.value.exit_code == 4


@given(duration=st.floats(0.01, 1.0))
def test_steps_still_on_the_device_are_reckoned_with(duration: float):
    """As on a GPU: a step is launched while the one before it runs, and its end is seen one step later."""
    watch = Watch()
    clock = Clock(TrainConfig(), 10.0, now=watch)
    clock.start()
    ends, step = [watch.time], 0
    while not clock.over(step, in_flight=1):
        ends.append(max(ends[-1], watch.time) + duration)
        step += 1
        if step > 1:
            watch.time = max(watch.time, ends[step - 1])
            clock.lap()
    watch.time = max(watch.time, ends[-1])
    assert clock.elapsed <= 10.0 * (1 + 1e-9)
    assert clock.elapsed + 2 * duration > 10.0


@pytest.mark.parametrize("spent", [9.5, 9.2])
def test_a_resumed_run_goes_by_the_pace_before_it(spent: float):
    """It has no step of its own yet; the budget holds anyway."""
    watch = Watch()
    clock = Clock(TrainConfig(), 10.0, spent=spent, now=watch)
    clock.start()
    assert clock.over(10)
    assert not Clock(TrainConfig(), 10.0, spent=5.0, now=watch).over(10)


def test_time_between_processes_does_not_count():
    watch = Watch()
    clock = Clock(TrainConfig(), 10.0, spent=4.0, now=watch)
    watch.time += 500
    assert clock.elapsed == 4.0
    assert steps_of(clock, watch, 1.0, step=4) == 10
    assert clock.median_step() == pytest.approx(1.0)


def test_a_run_by_steps_takes_them_all_whatever_the_time():
    watch = Watch()
    clock = Clock(TrainConfig(by="steps", steps=7), 1.0, now=watch)
    assert steps_of(clock, watch, 100.0) == 7
    assert [clock.progress(step) for step in (0, 3, 7)] == [
        Progress(0.0, 0, 7.0),
        Progress(3 / 7, 3, 4.0),
        Progress(1.0, 7, 0.0),
    ]


def test_steps_bound_a_run_by_the_clock():
    watch = Watch()
    clock = Clock(TrainConfig(steps=5), 1000.0, now=watch)
    assert steps_of(clock, watch, 1.0) == 5
    assert clock.progress(5).fraction == 1.0


def test_progress_by_the_clock():
    watch = Watch()
    clock = Clock(TrainConfig(steps=1000), 100.0, now=watch)
    assert clock.progress(0) == Progress(0.0, 0, 1000)
    clock.start()
    watch.time += 25.0
    assert clock.progress(50) == Progress(0.25, 50, 150.0)
    watch.time += 100.0
    assert clock.progress(250) == Progress(1.0, 250, 0.0)


@given(durations=st.lists(st.floats(0.01, 2.0), min_size=1, max_size=50))
def test_progress_never_goes_back_and_schedules_end(durations: list[float]):
    watch = Watch()
    clock = Clock(TrainConfig(steps=10_000), 30.0, now=watch)
    clock.start()
    fractions = []
    for step, duration in enumerate(durations):
        fractions.append(clock.progress(step).fraction)
        watch.time += duration
        clock.lap()
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1.0
    watch.time += 30.0
    over = clock.progress(len(durations))
    assert Warmdown(share=0.5)(over) == WarmdownSteps(iterations=10)(over) == 0.0


def test_the_median_forgets_a_slow_start():
    watch = Watch()
    clock = Clock(TrainConfig(), 1000.0, now=watch)
    clock.start()
    for duration in (9.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0):
        watch.time += duration
        clock.lap()
    assert clock.median_step() == pytest.approx(2.0)
    assert clock.median_step(last=3) == pytest.approx(2.0)
    assert clock.median_step(last=5) == pytest.approx(2.0)

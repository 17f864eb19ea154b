"""Check 8, time: training and evaluation within their budgets, from the stream of events of a run.

Two readings, because nobody has ruled: the clock that a script itself keeps (the records' practice: validation, compile
warm-up and decoding outside it) and the wall clock of everything between the first step and the last.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from paramgolf.bundle.training_log import LogFacts
from paramgolf.contest import Contest
from paramgolf.events import Event
from paramgolf.verify.ruling import Reading, Ruling, Verdict, disputed, failed, passed, skipped

TIMES = "time budgets"
DATA_FREE = ("generated", "random", "none")
"""What a calibration may read at any time: text that the model made itself (#1019), or none."""
ACCEPTED_STEP = 0.1
"""Seconds past the budget at which the last step of accepted records ended: 0.058 (2026-03-25), 0.038 (baseline)."""
ACCEPTED_OVERRUN = 5.0
"""Seconds of calibration behind the budget that a record was accepted with: #1855 stops at 599.5 s and takes 4.9 s."""


class Spent(NamedTuple):
    """Seconds of one run; None where nothing tells them."""

    train: float | None
    """The script's own clock."""
    train_wall: float | None = None
    """From the first event of training to its last, pauses included."""
    calibration: float = 0.0
    """Reading of training data after the training clock stopped."""
    calibration_said: str = ""
    last_step: float | None = None
    """The clock at the last logged step."""
    evaluation: float | None = None
    evaluation_wall: float | None = None
    """With decoding, compilation and warm-up."""
    source: str = ""


def check_times(spent: Spent, contest: Contest) -> list[Ruling]:
    """Whether both budgets were kept."""
    found = [*judge_training(spent, contest.train_seconds), *judge_evaluation(spent, contest.eval_seconds)]
    return found or [skipped(TIMES, f"no times in {spent.source or 'the folder'}: neither events nor logs")]


def judge_training(spent: Spent, budget: float) -> list[Ruling]:
    """Rulings on the training clock and on calibration behind it."""
    clock = max((value for value in (spent.train, spent.last_step) if value is not None), default=None)
    if clock is None:
        return []
    evidence = f"training clock {clock:.3f} s of {budget:g} s"
    if clock > budget:
        return [judge_overrun(clock - budget, evidence)]
    if spent.calibration and clock + spent.calibration > budget:
        return [judge_calibration(clock + spent.calibration - budget, spent, evidence)]
    wall = spent.train_wall
    if wall is not None and wall > budget + 1:
        readings = (
            Reading("the script's clock (records)", Verdict.PASSED, f"{clock:.1f} s"),
            Reading(
                "wall clock", Verdict.FAILED, f"{wall:.1f} s from the start to the end of training, pauses included"
            ),
        )
        said = "training keeps its budget by its own clock, not by the wall clock: warm-up and validation stand outside"
        return [disputed(TIMES, said, evidence, ("train_seconds",), readings)]
    return [passed(TIMES, "training keeps its budget", evidence, "train_seconds", "calibration")]


def judge_overrun(over: float, evidence: str) -> Ruling:
    """The ruling on a training clock `over` seconds past its budget."""
    said = f"training took {over:.3f} s more than its budget"
    if over > ACCEPTED_STEP:
        return failed(TIMES, said, evidence, "train_seconds")
    readings = (
        Reading("the README's 600 s", Verdict.FAILED, f"{over:.3f} s over"),
        Reading(
            "as records were accepted", Verdict.PASSED, "the last step may end past the budget: 2026-03-25 by 0.058 s"
        ),
    )
    return disputed(TIMES, said, evidence, ("train_seconds",), readings)


def judge_calibration(over: float, spent: Spent, evidence: str) -> Ruling:
    """The ruling on calibration that ends `over` seconds behind the training budget."""
    said = "training data is read for calibration after the training budget"
    evidence += f", then {spent.calibration:.3f} s of calibration{spent.calibration_said}: {over:.3f} s over"
    if over > ACCEPTED_OVERRUN:
        return failed(TIMES, said, evidence, "calibration", "train_seconds")
    readings = (
        Reading("ruling of #677, rerun #1868", Verdict.FAILED, "it must end inside the 600 s"),
        Reading("as #1855 was accepted", Verdict.PASSED, f"no more than the {ACCEPTED_OVERRUN:g} s over that it took"),
    )
    return disputed(TIMES, said, evidence, ("calibration", "train_seconds"), readings)


def judge_evaluation(spent: Spent, budget: float) -> list[Ruling]:
    """Rulings on the evaluation clock."""
    if spent.evaluation is None:
        return []
    evidence = f"evaluation {spent.evaluation:.3f} s of {budget:g} s"
    if spent.evaluation > budget:
        said = f"evaluation took {spent.evaluation - budget:.3f} s more than its budget"
        return [failed(TIMES, said, evidence, "eval_seconds")]
    if spent.evaluation_wall is not None and spent.evaluation_wall > budget:
        readings = (
            Reading("lenient (records)", Verdict.PASSED, f"{spent.evaluation:.1f} s, decoding and warm-up left out"),
            Reading("strict", Verdict.FAILED, f"{spent.evaluation_wall:.1f} s from the artifact to the score"),
        )
        said = "evaluation keeps its budget only without decoding, compilation and warm-up"
        return [disputed(TIMES, said, evidence, ("eval_seconds",), readings)]
    return [passed(TIMES, "evaluation keeps its budget", evidence, "eval_seconds")]


def spent_of_events(events: Iterable[Event]) -> Spent:
    """The seconds that a run's events tell. Of several trainings or scores in one file the last counts."""
    listed = [event for event in events if isinstance(event.get("time"), int | float)]
    trained = last_of(listed, "trained")
    finished = last_of(listed, "finished")
    steps = [number(event.get("train_seconds")) for event in listed if event["event"] == "step"]
    late = [event for event in listed if is_calibration(event) and (trained is None or event["time"] > trained["time"])]
    clock = number(trained.get("train_seconds")) if trained else None
    return Spent(
        train=clock,
        train_wall=training_wall(listed),
        calibration=sum(number(event.get("seconds")) or 0.0 for event in late),
        calibration_said=f" ({late[0]['event']}, reading {late[0].get('data', 'training data')})" if late else "",
        last_step=max((second for second in steps if second is not None), default=None),
        evaluation=number(finished.get("eval_seconds")) if finished else None,
        evaluation_wall=evaluation_wall(listed, finished) if finished else None,
        source="events.jsonl",
    )


def is_calibration(event: Event) -> bool:
    """Whether an event says that training data was read for calibration."""
    return str(event["event"]).startswith("calibrat") and event.get("data") not in DATA_FREE


def last_of(events: Sequence[Event], kind: str) -> Event | None:
    """The last event of a kind."""
    return next((event for event in reversed(events) if event["event"] == kind), None)


def number(value: object) -> float | None:
    """`value`, if it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def training_wall(events: Sequence[Event]) -> float | None:
    """Wall seconds of training, every stretch from a `started` to the last event of training behind it added up."""
    total, began, last = 0.0, None, None
    for event in events:
        if event["event"] == "started":
            total += (last - began) if began is not None and last is not None else 0.0
            began, last = float(event["time"]), None
        elif event["event"] in ("step", "validation", "trained", "checkpoint", "warmup") and began is not None:
            last = float(event["time"])
            if event["event"] == "trained":
                return total + last - began
    return total + last - began if began is not None and last is not None else None


def evaluation_wall(events: Sequence[Event], finished: Event) -> float | None:
    """Seconds from the artifact to the score with everything that stands between, where events tell them."""
    told = [number(event.get("seconds")) for event in events if event["event"] in ("decoded", "compiled", "warmed_up")]
    known = [second for second in told if second is not None]
    reported = number(finished.get("eval_seconds"))
    return reported + sum(known) if known and reported is not None else None


def spent_of_log(facts: LogFacts, source: str) -> Spent:
    """The seconds that a log of the challenge tells."""
    reported = facts.eval_seconds
    return Spent(
        train=facts.train_seconds,
        calibration=facts.hessian_seconds,
        calibration_said=f" after the last step of {source}" if facts.hessian_seconds else "",
        evaluation=reported,
        evaluation_wall=reported + facts.uncounted_seconds if reported is not None else None,
        source=source,
    )

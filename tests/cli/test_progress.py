"""What a run says while it runs."""

import io

import pytest
from rich.console import Console

from paramgolf.cli.preparation import fetching_status, preparing_status
from paramgolf.cli.progress import LiveDisplay, PlainDisplay, Status, Tracker, duration
from paramgolf.data.fetch import Fetching
from paramgolf.data.preparing import Preparing

STEP = {
    "time": 5.0,
    "event": "step",
    "step": 50,
    "steps": 1000,
    "loss": 3.25,
    "train_seconds": 10.0,
    "fraction": 0.25,
    "last_step": 200.4,
    "tokens_per_second": 12_345.6,
}


def test_a_step_tells_loss_speed_and_the_projected_end() -> None:
    status = Tracker().status(STEP)
    assert status == Status("train", "step 50/200  loss 3.2500  12.3k tok/s", 0.25, pytest.approx(30.0))
    assert Tracker().status({**STEP, "last_step": None}) is not None


def test_scoring_is_validation_until_the_artifact_is_written() -> None:
    tracker = Tracker()
    scoring = {"time": 100.0, "event": "scoring", "what": "contiguous", "share": 0.01}
    assert tracker.status(scoring) == Status("validate", "contiguous", 0.01, None)
    later = tracker.status({**scoring, "time": 102.0, "share": 0.5})
    assert later == Status("validate", "contiguous", 0.5, pytest.approx(2.0))
    tracker.status({"time": 103.0, "event": "exported", "artifact_bytes": 5, "format": "int8+zlib"})
    assert tracker.status({**scoring, "time": 104.0}) == Status("score", "contiguous", 0.01, None)


def test_what_takes_minutes_is_told_where_it_begins():
    assert Tracker().status({"event": "counting", "time": 1.0}) == Status(
        "count", "bytes of the script, then quantizing"
    )


def test_events_that_change_nothing_are_not_shown() -> None:
    assert Tracker().status({"time": 0.0, "event": "finished"}) is None


def test_lines_come_at_each_phase_and_every_few_seconds() -> None:
    said, now = io.StringIO(), [0.0]
    with PlainDisplay(Console(file=said, width=200), lambda: now[0]) as shown:
        for now[0], share in ((0.0, 0.1), (1.0, 0.2), (6.0, 0.3), (10.0, 0.4)):
            shown.show(Status("train", f"at {share}", share, 75.0))
        shown.show(Status("train", "done", 1.0))
        shown.show(Status("export", "begun"))
    lines = said.getvalue().splitlines()
    assert [line.split("%")[0] for line in lines[:-1]] == ["train      10", "train      30", "train     100"]
    assert lines[0].endswith("1:15 left")
    assert lines[-1].split() == ["export", "begun"]


def test_the_live_display_draws_each_phase_once() -> None:
    said = io.StringIO()
    with LiveDisplay(Console(file=said, force_terminal=True, width=80)) as shown:
        shown.show(Status("start", "long " * 50, 1.0))
        shown.show(Status("train", "step 1", 0.1, 30.0))
        shown.show(Status("train", "step 2", 1.0))
        shown.show(Status("export", "[brackets] are text", 1.0))
    drawn = said.getvalue().splitlines()
    assert not any("…" in line.partition("%")[0] for line in drawn), "only what comes after the share is cut"
    final = [line for line in drawn if "train" in line or "export" in line][-2:]
    assert "train" in final[0]
    assert "step 2" in final[0]
    assert "[brackets] are text" in final[1]


def test_statuses_of_data() -> None:
    status = preparing_status(Preparing("encode", 10, 1000, 500, 2.0, 0.25))
    assert (status.phase, status.share, status.seconds_left) == ("prepare", 0.25, pytest.approx(6.0))
    assert "250 tokens/s" in status.text
    assert fetching_status(Fetching("a.bin", 1, 2, 5, 10)).share == 0.5
    assert fetching_status(Fetching("a.bin", 0, 0, 0, 0)).share is None


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3723, "1:02:03")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text

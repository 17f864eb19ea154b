"""A script gathers what its log shows and its result holds, and no more."""

import ast

import pytest

from paramgolf.bundle.amalgamate import own_units
from paramgolf.bundle.heard import LOG_MODULE, Unheard, heard_events, quieter
from paramgolf.challenge_log import step_line, validation_line


def test_the_log_is_heard():
    heard = heard_events(own_units())
    assert {"started", "step", "validation", "exported", "scored"} <= heard.keys()
    assert "trained" not in heard, "nothing that reads logs asks for its lines"
    assert {"loss", "step", "steps", "train_seconds"} <= heard["step"], "by functions that its line calls, too"
    assert "tokens_per_second" not in heard["step"]
    assert "finished" not in heard


def test_what_nobody_hears_is_not_gathered():
    source = """
def f(events, x):
    events.emit('finished', steps=3)
    if x:
        events.emit('calibrated', seconds=1)
    events.emit('step', loss=1, rate=2)
"""
    left = ast.unparse(Unheard({"step": frozenset({"loss"})}, {"step": "step_line"}).visit(ast.parse(source)))
    assert left == "def f(events, x):\n    if x:\n        pass\n    events.tell(step_line(loss=1))"


def test_lines_are_written_from_values_in_place_of_an_event():
    units = quieter(own_units())
    log = units[LOG_MODULE].definitions
    names: dict[str, object] = {}
    for name in ("times", "step_line", "validation_line"):
        exec(ast.unparse(log[name].node), names)
    event = {"step": 3, "steps": 9, "loss": 2.5, "train_seconds": 1.5, "val_loss": 2.0, "val_bpb": 1.0, "more": 0}
    assert names["step_line"](step=3, steps=9, loss=2.5, train_seconds=1.5) == step_line(event)  # type: ignore[operator]
    scored = {name: event[name] for name in ("step", "steps", "train_seconds", "val_loss", "val_bpb")}
    assert names["validation_line"](**scored) == validation_line(event)  # type: ignore[operator]
    with pytest.raises(TypeError):
        names["step_line"](**event)  # type: ignore[operator]

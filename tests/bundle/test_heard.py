"""A script gathers what its log shows and its result holds, and no more."""

import ast

from paramgolf.bundle.amalgamate import own_units
from paramgolf.bundle.heard import TOLD, Unheard, heard_events
from paramgolf.result import Result


def test_the_log_is_heard():
    heard = heard_events(own_units())
    assert {"started", "step", "validation", "trained", "exported", "scored"} <= heard.keys()
    assert {"loss", "step", "steps", "train_seconds"} <= heard["step"], "by functions that its line calls, too"
    assert "tokens_per_second" not in heard["step"]
    assert "finished" not in heard


def test_what_nobody_hears_is_not_gathered():
    source = """
def f(events, x):
    events.emit('finished', steps=3)
    if x:
        events.emit('calibrated', seconds=1)
    events.emit('step', loss=1, rate=2, **x)
    return Result(val_bpb=1, git_commit=2)
"""
    left = ast.unparse(Unheard({"step": frozenset({"loss"})}).visit(ast.parse(source)))
    assert left == (
        "def f(events, x):\n    if x:\n        pass\n    events.emit('step', loss=1, **x)\n    return Result(val_bpb=1)"
    )


def test_what_a_script_tells_is_of_a_result():
    assert set(Result._fields if hasattr(Result, "_fields") else Result.__dataclass_fields__) >= TOLD

"""Folding: what a fixed configuration decides is decided, and nothing else."""

import ast
import textwrap
from dataclasses import replace

import pytest

from paramgolf.bundle.fold import folded
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.known import Facts, config_parts
from paramgolf.bundle.units import read_unit
from paramgolf.presets.baseline import baseline
from paramgolf.run import Run

MODULE = "paramgolf.stages"
"""A module in whose name space the samples are read: `Run`, `Place` and `torch` are there."""


def fold(source: str, run: Run | None = None, *, name: str = "sample", changed: frozenset[str] = frozenset()) -> str:
    """`sample` of `source`, folded under `run`."""
    run = run or baseline()
    tree = ast.parse(textwrap.dedent(source))
    units = {MODULE: read_unit(MODULE, tree)}
    facts = Facts(run, closed=frozenset(type(part).__name__ for part in config_parts(run)), changed=changed)
    return ast.unparse(folded(units[MODULE].definitions[name].node, facts, units, MODULE, Gathered()))


def body(source: str, **more: object) -> str:
    """The folded body of `def sample(run: Run, x: int)` with the lines `source`."""
    text = "def sample(run: Run, x: int):\n" + textwrap.indent(textwrap.dedent(source), "    ")
    return textwrap.dedent("\n".join(fold(text, **more).splitlines()[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if run.train.seq_growth:\n    return 1\nreturn 2", "return 2"),
        ("if not run.train.seq_growth:\n    return 1\nreturn 2", "return 1"),
        ("return 1 if run.optim.average is None else 2", "return 1"),
        ("if run.train.by == 'clock' and x:\n    return 1\nreturn 2", "if x:\n    return 1\nreturn 2"),
        ("if x and run.train.by == 'steps':\n    return 1\nreturn 2", "return 2"),
        ("return run.optim.clip or x", "return x"),
        ("for penalty in run.model.penalties:\n    x = penalty(x)\nreturn x", "return x"),
        ("growth = run.train.seq_growth\nreturn 1 if growth else x", "growth = None\nreturn x"),
        ("if 0 < run.train.val_every < x:\n    return 1\nreturn 2", "return 2"),
        (
            "if x and (x > 1 and run.train.by == 'clock'):\n    return 1\nreturn 2",
            "if x and x > 1:\n    return 1\nreturn 2",
        ),
        ("return x is None and run.train.by == 'clock'", "return x is None"),
        ("return not x or run.train.by == 'steps'", "return not x"),
        ("return x and run.train.by == 'clock'", "return x and True"),
        ("return [n.build(x) for n in run.model.on_read]", "return [run.model.on_read[0].build(x)]"),
        ("return (n.build(x) for n in run.model.on_read)", "return (n.build(x) for n in run.model.on_read)"),
        ("return run.model.init", "return KaimingInit()"),
        ("return [y if z else x for y, z in zip(x, (0, 0))]", "return [x for y, z in zip(x, (0, 0))]"),
        ("return all(n > 1 for n in (2, run.model.heads))", "return True"),
        ("return any(n > x for n in (2, run.model.heads))", "return any((n > x for n in (2, 8)))"),
        ("return {n: n + 1 for n in (2, 3)}[run.model.heads - 5]", "return 4"),
        ("return len(range(run.model.layers))", "return 9"),
        ("for n in range(3, 3):\n    x += n\nreturn x", "return x"),
        ("if (y := None) is None:\n    y = x\nreturn y", "y = x\nreturn y"),
        ("if (y := None) is None:\n    x += y\n    y = x\nreturn y", "y = None\nx += y\ny = x\nreturn y"),
        ("return type(run.artifact.coder).__name__", "return 'ZlibCoder'"),
        ("return run.data.loader.packed", "return False"),
        ("on_gpu = x.kind == 'cuda'\nreturn on_gpu and True and False", "on_gpu = x.kind == 'cuda'\nreturn False"),
        ("return getattr(run.model.activation, 'squared_slope', None)", "return 0.0"),
        ("return getattr(run.model.activation, 'no_such_thing', 7)", "return 7"),
        ("return getattr(x, 'squared_slope', 7)", "return getattr(x, 'squared_slope', 7)"),
        ("return f'{run.model.heads} of {x} at {run.train.steps:.1f}'", "return f'8 of {x} at 20000.0'"),
        ("return [i + x for i in (3, 3)]", "return [3 + x for i in (3, 3)]"),
        ("return [i + x for i in (3, 4)]", "return [i + x for i in (3, 4)]"),
        ("return run.model.heads or x", "return 8"),
        ("return x or run.model.heads", "return x or 8"),
        ("return run.train.steps // 2 + 1", "return 10001"),
        ("return (3, run.model.heads)[1]", "return 8"),
        ("if run.data.loader.packed:\n    return 1\nreturn 2", "return 2"),
        ("return x + run.train.steps", "return x + 20000"),
        ("heads = run.model.heads\nreturn x // heads", "heads = 8\nreturn x // 8"),
    ],
)
def test_what_the_configuration_decides_is_decided(before: str, after: str):
    assert body(before) == after


@pytest.mark.parametrize(
    "kept",
    [
        "if x:\n    return 1\nreturn 2",
        "growth = x\nif x:\n    growth = None\nreturn 1 if growth else 2",
        "run = other(run)\nreturn 1 if run.train.seq_growth else 2",
        "return [run for run in x if run.train.seq_growth]",
        "return lambda run: 1 if run.train.seq_growth else 2",
        "if x() and False:\n    return 1\nreturn 2",
        "if run.seed:\n    return 1\nreturn 2",
        "for run in x:\n    if run.train.seq_growth:\n        return 1\nreturn 2",
    ],
)
def test_what_is_not_known_or_would_be_skipped_stays(kept: str):
    assert body(kept, changed=frozenset({"seed"})) == kept


def test_an_argument_without_a_type_is_not_known():
    text = "def sample(run, x):\n    if run.train.seq_growth:\n        return 1\n    return 2"
    assert fold(text) == text


def test_a_property_is_worked_out():
    assert body("return run.longest_row") == f"return {baseline().longest_row}"


def test_another_configuration_decides_otherwise():
    run = replace(baseline(), train=replace(baseline().train, by="steps"))
    assert body("return 1 if run.train.by == 'steps' else 2", run=run) == "return 1"
    assert body("return 1 if run.train.by == 'steps' else 2") == "return 2"


def test_values_that_differ_between_instances_decide_nothing():
    """Three Adam groups: what one of them has, another may not."""
    text = "def sample(config: AdamConfig):\n    return 1 if config.lr == 0.05 else 2"
    units = {"paramgolf.optim.adam": read_unit("paramgolf.optim.adam", ast.parse(text))}
    run = baseline()
    facts = Facts(run, closed=frozenset({"AdamConfig"}), changed=frozenset())
    node = units["paramgolf.optim.adam"].definitions["sample"].node
    assert ast.unparse(folded(node, facts, units, "paramgolf.optim.adam", Gathered())) == text


def test_a_class_that_the_program_makes_more_of_is_not_known():
    text = "def sample(config: TrainConfig):\n    return 1 if config.seq_growth else 2"
    units = {"paramgolf.train.clock": read_unit("paramgolf.train.clock", ast.parse(text))}
    node = units["paramgolf.train.clock"].definitions["sample"].node
    for closed, expected in ((frozenset({"TrainConfig"}), "return 2"), (frozenset[str](), text.split("    ")[1])):
        facts = Facts(baseline(), closed=closed, changed=frozenset())
        assert expected in ast.unparse(folded(node, facts, units, "paramgolf.train.clock", Gathered()))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("for left, right in zip(x, run.optim.on_update):\n    print(left)\nreturn x", "return x"),
        ("return [f(item) for item in run.optim.on_update]", "return []"),
        ("return {item: x for item in run.optim.on_update}", "return {}"),
        ("return x in run.optim.on_update", "return False"),
        ("return [item for item in x if item in run.optim.on_update]", "return [item for item in x if False]"),
    ],
)
def test_nothing_is_gone_over_where_there_is_nothing(before: str, after: str):
    assert body(before) == after


@pytest.mark.parametrize(
    ("body_of_known", "after"),
    [
        ("if given is None:\n    return last\nreturn next(iter(given))", "return 7"),
        ("if given is not None:\n    last = 8\nreturn last", "return 7"),
        ("if given is None:\n    last = 8\nreturn last", "return known(None, 7)"),
        ("if open():\n    return 8\nreturn last", "return known(None, 7)"),
        ("for given in (1,):\n    return 8\nreturn last", "return known(None, 7)"),
        ("last = last + 1\nlast = last * 2\nreturn last", "return 16"),
    ],
)
def test_a_function_of_which_every_step_is_known_is_its_value(body_of_known: str, after: str):
    inner = textwrap.indent(body_of_known, "    ")
    source = f"def known(given, last):\n{inner}\ndef sample():\n    return known(None, 7)\n"
    assert fold(source).splitlines()[1].strip() == after

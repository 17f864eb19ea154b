"""What nobody reads is left out, what anybody may read stays."""

import ast
from pathlib import Path

import pytest

from paramgolf.bundle.amalgamate import amalgamate, own_units
from paramgolf.bundle.evaluator import Evaluator
from paramgolf.bundle.known import Facts, Instance, Modules, config_parts
from paramgolf.bundle.observed import attributes_set_later, observed_attributes, outlined
from paramgolf.bundle.slim import KINDS
from paramgolf.bundle.units import Definition
from paramgolf.bundle.unread import spared, unread_names, without_unread
from paramgolf.lab.launch import asked_run
from paramgolf.model.attention import AttentionPlan
from paramgolf.model.block import Attention, Block
from paramgolf.model.gpt import GPT
from paramgolf.train.clock import Clock
from paramgolf.train.config import TrainConfig

CLOCK = "paramgolf.train.clock"


def definition(source: str, module: str = CLOCK) -> Definition:
    node = ast.parse(source).body[0]
    return Definition(getattr(node, "name", ""), module, 1, node)


@pytest.fixture(scope="module")
def facts() -> Facts:
    run = asked_run("baseline")
    return Facts(run, closed=frozenset(type(part).__name__ for part in config_parts(run)))


def test_a_setting_without_a_reader_is_found(facts: Facts):
    config = definition(
        "class TrainConfig:\n    steps: int\n    warmup: int\n    seq_len: int", "paramgolf.train.config"
    )
    reader = definition("def f(config, other):\n    return config.steps + getattr(other, 'seq_len')")
    assert unread_names([config, reader], facts) == {("TrainConfig", "warmup")}
    whole = definition("def g(config):\n    return asdict(config)")
    assert unread_names([config, reader, whole], facts) == set()


def test_attributes_that_only_their_own_assignment_names_are_found(facts: Facts):
    source = """
class Clock:
    def __init__(self, config):
        self.config = config
        self.kept = 1
        self.lost = config
        self.loud = print()
    def read(self):
        return self.kept + self.config
"""
    item = definition(source.strip())
    dropped = unread_names([item], facts)
    assert dropped == {("Clock", "lost"), ("Clock", "loud")}
    text = ast.unparse(without_unread(item.node, CLOCK, dropped, facts))
    assert "lost" not in text
    assert "self.loud = print()" in text, "making the value does something"
    assert "self.kept = 1" in text


def test_settings_are_left_out_of_the_expression():
    text = "Run(name='x', train=TrainConfig(steps=3, warmup=(Grown(a=1), 2)))"
    assert spared(text, frozenset({("TrainConfig", "warmup"), ("Grown", "name")})) == (
        "Run(name='x', train=TrainConfig(steps=3))"
    )


def test_what_the_model_holds_is_seen_and_what_changes_is_not():
    run = asked_run("baseline")
    found = observed_attributes(outlined(run), [definition("def f(model):\n    model.softcap = 3", "paramgolf.stages")])
    assert found[Attention, "on_heads"].values == ((),)  # type: ignore[union-attr]
    assert found[Attention, "head_dim"].values == (64,)  # type: ignore[union-attr]
    assert isinstance(found[Attention, "on_qk"], Modules), "of a list of modules, their classes"
    assert (GPT, "softcap") not in found
    assert found[Block, "attention"] == Instance(Attention), "of a module, its class"
    assert (AttentionPlan, "window") not in found
    hanging = observed_attributes(outlined(run), [definition("def f(model):\n    setattr(model, 'x', 3)")])
    assert (Block, "attention") not in hanging, "another module may take its place"
    assert hanging[Attention, "head_dim"] == found[Attention, "head_dim"]


def test_assignments_from_outside_count_as_later():
    source = """
class A:
    def __init__(self, other):
        self.first = 1
        other.second = 2
    def later(self):
        self.third = 3
"""
    program = [definition(source.strip())]
    assert set(attributes_set_later(program, {"A"})) == {"third"}, "the constructor of a model's module is done"
    assert set(attributes_set_later(program, {"B"})) == {"second"}, "objects of another class are not of the model"


def test_a_bundle_names_no_setting_that_it_does_not_read(tmp_path: Path):
    lean = amalgamate(asked_run("baseline")).lean
    tree = ast.parse(lean)
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    configs = [node for node in tree.body if getattr(node, "name", "") in (TrainConfig.__name__, "AdamConfig")]
    bodies = (item for config in configs for item in getattr(config, "body", ()))
    fields = {ast.unparse(item.target) for item in bodies if isinstance(item, ast.AnnAssign)}
    assert fields < read
    assert not fields & {"log_every", "warmup", "checkpoint_seconds", "seq_growth"}


def test_lists_of_modules_are_seen_unless_something_changes_them():
    model = outlined(asked_run("baseline"))
    kinds = [type(module) for module in model.blocks[0].attention.on_qk]
    assert observed_attributes(model, [])[Attention, "on_qk"] == Modules(tuple(kinds))
    for change in ("x.on_qk.append(1)", "x.on_qk[0] = 1", "del x.on_qk[0]"):
        assert (Attention, "on_qk") not in observed_attributes(model, [definition(change)])


def test_a_place_that_a_list_of_modules_has_not_got_is_not_known(facts: Facts):
    evaluator = Evaluator(facts, own_units(), CLOCK)
    places = [ast.parse(f"parts[{place}]", mode="eval").body for place in (0, 1)]
    found = [evaluator.fact(place, {"parts": Modules((Attention,))}) for place in places]
    assert found == [Instance(Attention), None], "a branch that is never taken may ask for it"


def test_constants_of_classes_and_what_others_are_given_go_where_nobody_reads_them(facts: Facts):
    item = definition(
        "class Clock:\n    lost = 'word'\n    kept = 'other'\n    def read(self):\n        return self.kept"
    )
    other = definition("def f(clock):\n    clock.lost = 1\n    clock.kept = 2\n    clock.lost = print()")
    dropped = unread_names([item, other], facts)
    assert dropped == {("Clock", "lost")}
    assert "lost" not in ast.unparse(without_unread(item.node, CLOCK, dropped, facts))
    assert ast.unparse(without_unread(other.node, CLOCK, dropped, facts)) == ast.unparse(other.node), "of what class?"
    for node in ast.walk(other.node):
        if isinstance(node, ast.Attribute):
            setattr(node, KINDS, {Clock})
    text = ast.unparse(without_unread(other.node, CLOCK, dropped, facts))
    assert text.splitlines()[1:] == ["    clock.kept = 2", "    clock.lost = print()"]

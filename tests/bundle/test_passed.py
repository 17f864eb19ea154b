"""What every call passes is known, what one call may pass otherwise is not."""

import ast
import textwrap
from dataclasses import replace

import pytest

from paramgolf.batch import Batch
from paramgolf.bundle.amalgamate import closed_classes, own_units, sharpest
from paramgolf.bundle.backends import WithoutBackends, unused_backends, up_to_one_always_there
from paramgolf.bundle.fold import folded
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.known import Facts, OneOf
from paramgolf.bundle.passed import assumed_fields, known_fields, known_parameters
from paramgolf.bundle.reach import Reached
from paramgolf.bundle.units import read_unit
from paramgolf.lab.launch import asked_run
from paramgolf.techniques.data.packed import Packed

HOME = "paramgolf.batch"


def facts_of(source: str, kept: tuple[str, ...]):
    """What is found out of a program in the place of `paramgolf.batch`; `kept` are reached from its entry."""
    unit = read_unit(HOME, ast.parse(textwrap.dedent(source)))
    facts, gathered = Facts(asked_run("baseline"), closed=frozenset()), Gathered()
    definitions = [unit.definitions[name] for name in kept]
    nodes = [folded(item.node, facts, {HOME: unit}, HOME, gathered) for item in definitions]
    program = Reached(
        tuple(item._replace(node=node) for item, node in zip(definitions, nodes, strict=True)), frozenset()
    )
    return known_parameters(program, gathered), known_fields(program, gathered)


def test_parameters_that_every_call_agrees_on():
    source = """
    def callee(a, b, c=3, d=()):
        return a
    def caller(x):
        callee(x, 2)
        return callee(1, b=2, d=())
    """
    parameters, _ = facts_of(source, ("callee", "caller"))
    assert parameters[HOME, "callee"] == {"a": None, "b": OneOf((2,)), "c": OneOf((3,)), "d": OneOf(((),))}


def test_a_function_that_is_passed_on_may_be_called_with_anything():
    source = "def callee(a):\n    return a\ndef caller(x):\n    callee(1)\n    return map(callee, x)"
    parameters, _ = facts_of(source, ("callee", "caller"))
    assert parameters[HOME, "callee"] == {}


def test_methods_are_known_by_their_name():
    source = """
    class Batch:
        def segments(self, a, b=1):
            return a
        def forward(self, a):
            return a
    def caller(x, y):
        x.segments(4)
        y.segments(4, b=1)
        return x.forward(2)
    def other(x):
        return x.segments(5)
    """
    parameters, _ = facts_of(source, ("Batch", "caller"))
    assert parameters[HOME, "Batch.segments"] == {"a": OneOf((4,)), "b": OneOf((1,))}
    parameters, _ = facts_of(source, ("Batch", "caller", "other"))
    assert parameters[HOME, "Batch.segments"]["a"] == OneOf((4, 5))
    escaping = textwrap.dedent(source) + "def third(x):\n    return map(x.segments, x)\n"
    parameters, _ = facts_of(escaping, ("Batch", "caller", "third"))
    assert parameters[HOME, "Batch.segments"] == {}


def test_fields_that_every_record_has_the_same():
    source = """
    class Batch(NamedTuple):
        ids: int
        targets: int
        plan: int = 0
    def caller(x):
        return Batch(x, 2), Batch(1, targets=2)
    def changing(x):
        return x._replace(targets=3)
    """
    _, fields = facts_of(source, ("Batch", "caller"))
    assert {name: fact for (_, name), fact in fields.items()} == {"targets": OneOf((2,)), "plan": OneOf((0,))}
    _, fields = facts_of(source, ("Batch", "caller", "changing"))
    assert {name: fact for (_, name), fact in fields.items()}["targets"] == OneOf((2, 3)), "what replaces it counts"


@pytest.mark.nightly
def test_an_assumption_holds_if_every_place_keeps_to_it():
    """Rows without documents stay rows without documents, though `Batch.to` makes batches of batches."""
    units = own_units()
    plain, known = asked_run("baseline"), {}
    packed = replace(plain, data=replace(plain.data, loader=Packed()), model=replace(plain.model, context=65536))
    for name, run in (("baseline", plain), ("baseline with documents", packed)):
        closed, first = closed_classes(run, units)
        facts = sharpest(Facts(run, closed=closed), run, units, assumed_fields(first))
        known[name] = facts.attributes.get((Batch, "cu_seqlens")), unused_backends(run, facts, units)
    assert known["baseline"] == (OneOf((None,)), {"fa4", "flash", "varlen", "flex", "plain"})
    assert known["baseline with documents"][0] is None
    assert "flex" not in known["baseline with documents"][1]


def test_backends_are_left_out_of_lists_tables_and_questions():
    source = "table = {'fa4': 1, 'sdpa': 2}\nfound += ['fa4'] if x else []\nfound.append('fa4')\ny = name == 'fa4'"
    left = ast.unparse(WithoutBackends(frozenset({"fa4"})).visit(ast.parse(source)))
    assert left == "table = {'sdpa': 2}\ny = False"
    assert up_to_one_always_there(("fa3", "fa4", "flex", "varlen", "sdpa")) == ["fa3", "fa4", "flex"]

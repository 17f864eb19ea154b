"""What every call passes is known, what one call may pass otherwise is not."""

import ast
import textwrap
from dataclasses import replace

import pytest

from paramgolf.batch import Batch
from paramgolf.bundle.amalgamate import classes_of, found_out
from paramgolf.bundle.applied import freezes
from paramgolf.bundle.backends import WithoutBackends, up_to_one_always_there
from paramgolf.bundle.fold import folded
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.known import Facts, Instance, OneOf
from paramgolf.bundle.passed import known_fields, known_parameters, known_results
from paramgolf.bundle.reach import Reached
from paramgolf.bundle.units import read_unit
from paramgolf.lab.launch import asked_run
from paramgolf.model.block import Block
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
    return known_parameters(program, gathered), known_fields(program, gathered) | known_results(program, gathered)


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


def test_what_follows_a_star_is_not_known():
    source = "def callee(a, b=2, *, c=3):\n    return a\ndef caller(x):\n    return callee(1, *x, c=4)"
    parameters, _ = facts_of(source, ("callee", "caller"))
    assert parameters[HOME, "callee"] == {"a": OneOf((1,)), "b": None, "c": OneOf((4,))}


def test_an_operator_and_what_tells_its_shapes_are_given_the_same():
    source = """
    @library.custom_op("a::b", mutates_args=())
    def operator(a, b=2):
        return a
    @operator.register_fake
    def shapes(a, b=2):
        return a
    def caller(x):
        return operator(x)
    """
    parameters, _ = facts_of(source, ("operator", "shapes", "caller"))
    assert parameters[HOME, "shapes"] == parameters[HOME, "operator"] == {"a": None, "b": OneOf((2,))}


def test_who_tells_shapes_may_be_called_with_something_else():
    source = """
    @library.custom_op("ours::operator", mutates_args=())
    def operator(x: Tensor, size: int, window: int) -> Tensor:
        return shapes(x, 3, 0)
    @operator.register_fake
    def shapes(x: Tensor, size: int, window: int) -> Tensor:
        return x.new_empty(size)
    def caller(x):
        return operator(x, 2, 0)
    """
    parameters, _ = facts_of(source, ("operator", "shapes", "caller"))
    assert parameters[HOME, "operator"] == {"x": None, "size": OneOf((2,)), "window": OneOf((0,))}
    assert parameters[HOME, "shapes"] == {"x": None, "size": OneOf((2, 3)), "window": OneOf((0,))}


def test_what_functions_give_is_known_where_calling_them_does_nothing_else():
    source = """
    class Batch:
        pass
    def makes(a):
        return Batch(a)
    def nothing(a):
        b = a
    def loud(a):
        a.pop()
        return 2
    def either(a):
        if a:
            return 3
    """
    unit = read_unit(HOME, ast.parse(textwrap.dedent(source)))
    facts, gathered = Facts(asked_run("baseline"), closed=frozenset()), Gathered()
    for item in unit.definitions.values():
        folded(item.node, facts, {HOME: unit}, HOME, gathered)
    known = {name: fact for (_, name), fact in gathered.returned.items()}
    assert known == {"makes": Instance(Batch), "nothing": OneOf((None,)), "loud": None, "either": None}


def test_every_gradient_is_wanted_where_nothing_freezes_weights():
    source = "def sample(ctx):\n    return 1 if ctx.needs_input_grad[1] else 2"
    unit = read_unit(HOME, ast.parse(source))
    facts = Facts(asked_run("baseline"), closed=frozenset())
    node = unit.definitions["sample"].node
    assert ast.unparse(folded(node, facts, {HOME: unit}, HOME, Gathered())) == ast.unparse(node)
    facts.freezes = False
    assert "return 1" in ast.unparse(folded(node, facts, {HOME: unit}, HOME, Gathered())).splitlines()[-1]
    assert not freezes(ast.parse("if q.requires_grad: pass"))
    assert freezes(ast.parse("q.requires_grad = x"))
    assert freezes(ast.parse("q.requires_grad_(x)"))


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


def test_what_a_method_always_gives():
    source = """
    class Batch:
        @property
        def lead(self):
            return 0
        def bias(self):
            return None
        def other(self, x):
            return x
    def caller(x):
        return x.bias()
    def replacing(x):
        x.bias = caller
    """
    _, results = facts_of(source, ("Batch", "caller"))
    assert {name: fact for (_, name), fact in results.items()} == {"lead": OneOf((0,)), "bias()": OneOf((None,))}
    _, results = facts_of(source, ("Batch", "replacing"))
    assert "bias()" not in {name for _, name in results}, "something may stand in its place"


def test_what_functions_of_autograd_operators_and_kernels_are_given():
    source = """
    class Head(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, eight_bits):
            return costs(x, 2.0)
    @library.custom_op("x::costs", mutates_args=())
    def costs(x, cap, step=None):
        return kernel[len(x),](x, 3, WIDTH=4)
    @costs.register_fake
    def shapes(x, cap, step=None):
        return x
    @triton.jit
    def kernel(x, rows, WIDTH: tl.constexpr):
        return x
    def caller(x):
        return Head.apply(x, False)
    """
    parameters, _ = facts_of(source, ("Head", "costs", "shapes", "kernel", "caller"))
    assert parameters[HOME, "Head.forward"] == {"x": None, "eight_bits": OneOf((False,))}
    assert parameters[HOME, "costs"] == {"x": None, "cap": OneOf((2.0,)), "step": OneOf((None,))}
    assert parameters[HOME, "kernel"] == {"WIDTH": OneOf((4,))}, "only what a kernel is compiled for"


@pytest.mark.nightly
def test_an_assumption_holds_if_every_place_keeps_to_it():
    """Rows without documents stay rows without documents, though `Batch.to` makes batches of batches."""
    plain, known = asked_run("baseline"), {}
    packed = replace(plain, data=replace(plain.data, loader=Packed()), model=replace(plain.model, context=65536))
    for name, run in (("baseline", plain), ("baseline with documents", packed)):
        facts, _, _ = found_out(run, run.digest)
        known[name] = facts.attributes.get((Batch, "cu_seqlens")), facts.unused
    assert known["baseline"] == (OneOf((None,)), {"fa4", "flash", "varlen", "flex", "plain"})
    assert known["baseline with documents"][0] is None
    assert "flex" not in known["baseline with documents"][1]


def test_backends_are_left_out_of_lists_tables_and_questions():
    source = "table = {'fa4': 1, 'sdpa': 2}\nfound += ['fa4'] if x else []\nfound.append('fa4')\ny = name == 'fa4'"
    left = ast.unparse(WithoutBackends(frozenset({"fa4"})).visit(ast.parse(source)))
    assert left == "table = {'sdpa': 2}\ny = False"
    assert up_to_one_always_there(("fa3", "fa4", "flex", "varlen", "sdpa")) == ["fa3", "fa4", "flex"]


METHODS = """
class Linear:
    kind = "plain"
    def forward(self):
        return 1
{below}
def sample(one: Linear, several: Sequence[Linear]):
    a = type(one).forward is Linear.forward
    b = any(type(each).forward is not Linear.forward for each in several)
    return a, b, one.kind
"""


@pytest.mark.parametrize(
    ("below", "known"),
    [
        ("", True),
        ("class TernaryProjection(Linear):\n    def used(self):\n        return 1", True),
        ("class RandomLinear(Linear):\n    kind = 'other'\n    def forward(self):\n        return 2", False),
    ],
)
def test_methods_and_constants_that_no_class_below_replaces_are_known(below: str, known: bool):
    home = "paramgolf.techniques.model.random_adapters"
    unit = read_unit(home, ast.parse(METHODS.format(below=below)))
    gathered = Gathered()
    facts = Facts(asked_run("baseline"), closed=frozenset())
    program = Reached(tuple(unit.definitions.values()), frozenset())
    facts.attributes = {
        key: fact for key, fact in known_results(program, gathered).items() if key[0].__name__ == "Linear"
    }
    facts.classes = classes_of(program)
    text = ast.unparse(folded(unit.definitions["sample"].node, facts, {home: unit}, home, gathered))
    assert text.endswith("return (True, False, 'plain')") == known, text


def test_a_module_that_something_may_replace_by_name_is_not_known():
    source = """
    class Block:
        def __init__(self):
            self.inner = Attention()
    class Attention:
        pass
    """
    home = "paramgolf.model.block"
    for more in ("", "def hang(x, name, y):\n    setattr(x, name, y)\n"):
        unit = read_unit(home, ast.parse(textwrap.dedent(source) + more))
        gathered = Gathered()
        facts = Facts(asked_run("baseline"), closed=frozenset())
        for item in unit.definitions.values():
            folded(item.node, facts, {home: unit}, home, gathered)
        assert ((Block, "inner") in gathered.attributes()) != bool(more)

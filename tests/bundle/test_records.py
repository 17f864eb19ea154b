"""Fields of records that nobody reads go, and those of records that may be read whole stay."""

import ast

import pytest

from paramgolf.bundle.amalgamate import own_units
from paramgolf.bundle.fold import folded
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.known import Facts
from paramgolf.bundle.passed import records_read_by_name
from paramgolf.bundle.reach import Reached
from paramgolf.bundle.records import ByName, WithoutFields, given_by_place, made_loudly
from paramgolf.bundle.units import Definition
from paramgolf.bundle.unread import unread_names
from paramgolf.lab.launch import asked_run

MODULE = "paramgolf.evaluate.evaluation"


def program(body: str) -> Reached:
    """`Evaluation`, of two fields, and a function that has one as `made` and something unknown as `x`."""
    node = ast.parse(f"def sample(made: Evaluation, x):\n    {body}").body[0]
    evaluation = own_units()[MODULE].definitions["Evaluation"]
    return Reached((evaluation, Definition("sample", MODULE, 1, node)), frozenset())


def read_by_name(body: str) -> set[str]:
    facts = Facts(asked_run("baseline"), closed=frozenset())
    gathered, whole = Gathered(), program(body)
    for item in whole.definitions:
        folded(item.node, facts, own_units(), MODULE, gathered)
    return set(records_read_by_name(whole, gathered))


@pytest.mark.parametrize(
    "body",
    ["return made.tally", "a, b = x\n    return a", "return x[0]", "return [*x]", "return made is x", "return x == 1"],
)
def test_a_record_is_read_by_name(body: str):
    assert read_by_name(body) == {"Evaluation"}


@pytest.mark.parametrize(
    "body",
    [
        "a, b = made",
        "a = [*made]",
        "return made[0]",
        "return made == x",
        "return made in x",
        "return len(made)",
        "return made._asdict()",
        "return x._asdict()",
        "return Evaluation._fields",
        "tally, other = x\n    return tally",
        "for _, seconds in x:\n        print(seconds)",
        "return [b for tally, b in x]",
        "return map(Evaluation, x)",
        "return Evaluation(*x)",
    ],
)
def test_a_record_may_be_read_whole(body: str):
    assert read_by_name(body) == set()


def test_a_field_goes_unless_something_reads_it_or_its_maker_does_something():
    facts = Facts(asked_run("baseline"), closed=frozenset())
    facts.named = {"Evaluation": ("tally", "seconds")}
    text = "return Evaluation(tally=x, seconds={}).tally"
    assert unread_names(program(text.format("len(x)")).definitions, facts) == {("Evaluation", "seconds")}
    assert unread_names(program(text.format("x.pop()")).definitions, facts) == set()
    facts.altered = frozenset({"seconds"})
    assert unread_names(program(text.format("len(x)")).definitions, facts) == set()


def test_makers_name_fields_and_give_what_is_left_by_place():
    fields = {"A": ("first", "second", "third")}
    call = ByName(fields).visit(ast.parse("A(x, y, third=B(x, 1))", mode="eval"))
    assert ast.unparse(call) == "A(first=x, second=y, third=B(x, 1))"
    assert made_loudly([Definition("f", "m", 1, ast.Expr(call.body))], {"A"}) == {("A", "third")}
    left = WithoutFields({("A", "second"), ("B", "first")}, {"A"}).visit(call)
    assert ast.unparse(left) == "A(first=x, third=B(x, 1))"


@pytest.mark.parametrize(
    ("head", "after"),
    [
        ("class A(NamedTuple):", "A(x, third=3)"),
        ("@dataclass(frozen=True)\nclass A:", "A(x, third=3)"),
        ("@dataclass(kw_only=True)\nclass A:", "A(first=x, third=3)"),
        ("@dataclass\nclass A(B):", "A(first=x, third=3)"),
        ("class A:", "A(first=x, third=3)"),
    ],
)
def test_fields_are_given_by_place_where_their_class_takes_them_so(head: str, after: str):
    tree = ast.parse(f"{head}\n    first: 0\n    second: 0 = 1\n    third: 0 = 2\nA(first=x, third=3)")
    assert ast.unparse(given_by_place(tree).body[-1]) == after

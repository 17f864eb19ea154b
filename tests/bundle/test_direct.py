"""Methods of parts of the configuration become functions where it is known which ones they are."""

import ast

import pytest

from paramgolf.bundle.amalgamate import own_units
from paramgolf.bundle.direct import alone, method_known, with_methods_apart
from paramgolf.bundle.fold import folded
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.known import Facts, config_parts
from paramgolf.bundle.units import Units
from paramgolf.lab.launch import asked_run
from paramgolf.model.config import GPTConfig
from paramgolf.techniques.model import QKGain, QKNorm

MODULE = "paramgolf.stages"


@pytest.fixture(scope="module")
def units(package_units: Units) -> Units:
    kinds = {type(part) for part in config_parts(asked_run("baseline"))}
    return with_methods_apart(package_units, kinds)


@pytest.fixture(scope="module")
def package_units() -> Units:
    return own_units()


def fold(units: Units, body: str) -> str:
    run = asked_run("baseline")
    facts = Facts(run, closed=frozenset(type(part).__name__ for part in config_parts(run)))
    node = ast.parse(f"def sample(run: Run, x):\n    {body}").body[0]
    return ast.unparse(folded(node, facts, units, MODULE, Gathered())).split("\n    ", 1)[1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return run.data.loader.build(x, seed=3)", "return Sequential_build(Sequential(), x, seed=3)"),
        ("return run.model.softcap(x)", "return TanhSoftcap_call(run.model.softcap, x)"),
        ("return run.optim.matrix.momentum_at(x)", "return MuonConfig_momentum_at(run.optim.matrix, x)"),
        ("return run.model.dims", "return GPTConfig_dims(run.model)"),
        (
            "return (filler.build(x) for filler in run.model.on_qk)",
            "return (filler.build(x) for filler in run.model.on_qk)",
        ),
        (
            "return [filler.build(x) for filler in run.model.on_qk[1:]]",
            "return [filler.build(x) for filler in run.model.on_qk[1:]]",
        ),
        (
            "return [filler.build(x) for filler in run.model.on_read]",
            "return [X0Mix_build(run.model.on_read[0], x)]",
        ),
        ("return x.build(run)", "return x.build(run)"),
        ("return x(run).loader.build(x)", "return x(run).loader.build(x)"),
        ("run = x\n    return run.model.softcap(x)", "run = x\n    return run.model.softcap(x)"),
    ],
)
def test_a_call_is_of_the_function_that_it_comes_to(units: Units, before: str, after: str):
    assert fold(units, before) == after


def test_two_classes_have_no_one_method(units: Units):
    assert method_known(units, (QKNorm(),), "build") == "QKNorm_build"
    assert method_known(units, (QKNorm(), QKGain()), "build") == ""
    assert method_known(units, (QKNorm(),), "forward") == ""


def test_a_method_keeps_its_object_as_its_first_argument():
    methods = (
        "    @property\n    def b(self):\n        return self.c\n    @staticmethod\n    def d(e):\n        return e"
    )
    kind = ast.parse(f"class A:\n{methods}").body[0]
    assert isinstance(kind, ast.ClassDef)
    first, second = (ast.unparse(alone(item, "A")) for item in kind.body if isinstance(item, ast.FunctionDef))
    assert first == "def A_b(self: A):\n    return self.c"
    assert second == "def A_d(self: A, e):\n    return e"


def test_what_asks_for_its_class_stays_a_method(units: Units):
    unit = units[GPTConfig.__module__].definitions
    assert "GPTConfig_dims" in unit
    assert "GPTConfig_post_init" not in unit

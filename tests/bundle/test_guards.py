"""Guards go, effects stay."""

import ast
import textwrap

import pytest

from paramgolf.bundle.guards import errors_gone_on_from, unguarded, void_names, without_checks
from paramgolf.bundle.tidy import simplified

MODULE = "paramgolf.artifact.container"


def bare(source: str, caught: frozenset[type] = frozenset(), void: frozenset[str] = frozenset()) -> str:
    node = ast.parse("def sample(x, file):\n" + textwrap.indent(textwrap.dedent(source), "    ")).body[0]
    text = ast.unparse(simplified(unguarded(simplified(node), MODULE, caught, void)))
    return textwrap.dedent("\n".join(text.splitlines()[1:]))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if x < 0:\n    raise ValueError('negative')\nreturn x", "return x"),
        (
            "if x < 0:\n    raise ArtifactError('bad', evidence=f'{x}', fix='again')\nelse:\n    x = 1\nreturn x",
            "x = 1\nreturn x",
        ),
        ("bad = int((~x.isfinite()).sum())\nif bad:\n    raise ValueError(bad)\nreturn x", "return x"),
        (
            "try:\n    y = int(x)\nexcept ValueError as error:\n    raise ArtifactError('bad') from error\nreturn y",
            "y = int(x)\nreturn y",
        ),
        ("for y in x:\n    if y:\n        raise ValueError\nreturn x", "return x"),
        ("check(x)\nreturn x", "return x"),
        ("x.refuse()\nreturn x", "return x"),
    ],
)
def test_what_only_refuses_goes(before: str, after: str):
    assert bare(before, void=frozenset({"check", ".refuse"})) == after


@pytest.mark.parametrize(
    "kept",
    [
        "file.read(4)\nreturn file.read(x)",
        "check(file.read(4))\nreturn x",
        "if x:\n    file.close()\nreturn x",
        "other(x)\nreturn x",
        "try:\n    return int(x)\nexcept ValueError:\n    return 0",
        "try:\n    return int(x)\nfinally:\n    file.close()",
    ],
)
def test_what_has_an_effect_stays(kept: str):
    assert bare(kept, void=frozenset({"check"})) == kept


def test_what_a_removed_guard_read_from_a_file_is_still_read():
    text = "magic = file.read(4)\nif magic != b'PGLF':\n    raise ValueError\nreturn file.read(1)"
    assert bare(text) == "file.read(4)\nreturn file.read(1)"


def test_an_error_that_somebody_catches_stays():
    handler = ast.parse("try:\n    pass\nexcept ArtifactError:\n    pass").body[0]
    caught = errors_gone_on_from([(MODULE, handler)])
    guard = "if x < 0:\n    raise ArtifactError('bad')\nreturn x"
    assert bare(guard, caught) == guard
    assert bare("if x < 0:\n    raise ValueError('bad')\nreturn x", caught) == "return x"


def test_a_handler_that_only_passes_errors_on_catches_nothing():
    node = ast.parse("try:\n    pass\nexcept ValueError as error:\n    raise KeyError from error").body[0]
    assert errors_gone_on_from([(MODULE, node)]) == frozenset()


def test_what_does_nothing_is_void():
    source = """
        def refuse(x):
            '''Nothing left.'''
        def keep(x):
            return x
        class A:
            def check(self): pass
            def close(self): pass
            def step(self): return 1
        class B:
            def check(self): pass
            def step(self): pass
    """
    nodes = ast.parse(textwrap.dedent(source)).body
    assert void_names(nodes) == {"refuse", ".check"}, (
        "close is also a method of files, step of one class does something"
    )


def test_checks_that_have_passed_are_left_out():
    source = "class A:\n    x: int\n    def __post_init__(self):\n        other(self)"
    node = ast.parse(source).body[0]
    assert "__post_init__" not in ast.unparse(without_checks(node, frozenset({"A"})))
    assert "__post_init__" in ast.unparse(without_checks(node, frozenset()))
    sets = ast.parse(source.replace("other(self)", "object.__setattr__(self, 'x', 1)")).body[0]
    assert "__post_init__" in ast.unparse(without_checks(sets, frozenset({"A"})))


HANDING = """
class Group:
    def hang(self, x):
        for one in self.ones:
            if x:
                one.hang(x)
class One:
    {held}
    @torch.no_grad()
    def rest(self):
        pass
"""


def test_what_only_hands_on_to_what_does_nothing_is_void_unless_a_field_may_hold_a_function():
    quiet = ast.parse(HANDING.format(held="def hang(self, x):\n        pass")).body
    assert void_names(quiet) == {".hang", ".rest"}
    for held in ("hang: object", "def use(self):\n        self.hang = print"):
        assert void_names(ast.parse(HANDING.format(held=held)).body) == {".rest"}
    loud = ast.parse(HANDING.format(held="def hang(self, x):\n        print(x)")).body
    assert void_names(loud) == {".rest"}

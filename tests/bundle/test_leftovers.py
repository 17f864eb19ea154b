"""What a finished script does not need goes; what others may know of stays."""

import ast

import pytest

from paramgolf.bundle.leftovers import without_leftovers
from paramgolf.bundle.quiet import is_quiet, quiet_functions
from paramgolf.bundle.tidy import simplified


def left(text: str) -> str:
    return ast.unparse(without_leftovers(ast.parse(text)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import a, b as c\nfrom d import e, f\nc(f)", "import b as c\nfrom d import f\nc(f)"),
        ("import a.b\na.b.c()", "import a.b\na.b.c()"),
        (
            "def f():\n    return g()\ndef g():\n    return f()\nh()",
            "def f():\n    return g()\n\ndef g():\n    return f()\nh()",
        ),
        ("def f():\n    return f()\nclass A:\n    pass\nh()", "h()"),
        ("N = 3\nM = open()\nP = N\nh()", "M = open()\nh()"),
        ("def f():\n    with nullcontext():\n        h()\nf()", "def f():\n    h()\nf()"),
        ("with nullcontext() as a:\n    h(a)", "with nullcontext() as a:\n    h(a)"),
        ("h([x for x in y if True if x])", "h([x for x in y if x])"),
        ("def f(x):\n    x = x\n    return x\nf()", "def f(x):\n    return x\nf()"),
        ("try:\n    import a, b\n\n    def f():\n        b()\n    f()\nexcept ImportError:\n    pass", None),
    ],
)
def test_what_nothing_names_goes(before: str, after: str | None):
    expected = after if after is not None else before.replace("import a, b", "import b")
    assert left(before) == ast.unparse(ast.parse(expected))


def test_what_a_decorator_tells_others_of_stays():
    text = "@op.register_fake\ndef f():\n    pass\n\n@dataclass\nclass A:\n    pass"
    assert left(text) == "@op.register_fake\ndef f():\n    pass"


@pytest.mark.parametrize("text", ["x + len(y)", "lambda: print()", "np.zeros(3)", "x.items()", "ours(x)", "x.known()"])
def test_what_can_be_left_out(text: str):
    assert is_quiet(ast.parse(text, mode="eval").body, frozenset({"ours", "known"}))


@pytest.mark.parametrize("text", ["print()", "(y := 3)", "x.pop()", "f()()", "theirs(x)", "[g(x) for x in y]"])
def test_what_does_something(text: str):
    assert not is_quiet(ast.parse(text, mode="eval").body, frozenset({"ours"}))


def test_functions_that_only_work_out_what_they_return():
    text = """
def plain(x):
    found = []
    for item in x:
        if item:
            found += [item]
    return len(found)
def through(x): return plain(x)
def round_about(x): return round_about(x)
def loud(x): print(x)
def changes(x):
    x += [1]
    return x
def keeps(x):
    x.y = 1
def stores(x):
    x[0] = 1
@once
def marked(x): return x
class A:
    def twice(self): return 1
    def step(self): return 1
class B:
    def twice(self): print()
"""

    class Library:
        def step(self) -> None: ...

    found = quiet_functions(ast.parse(text).body, [Library])
    assert found == {"plain", "through"}


def test_functions_inside_that_nothing_reads_go():
    inside = "\n    def g():\n        return x\n\n    def h():\n        return g"
    text = f"def f(x):\n{inside}\n    y = len(x)\n    return {{}}"
    nothing, one = (ast.parse(text.format(result)).body[0] for result in ("1", "g"))
    assert ast.unparse(simplified(nothing, frozenset({"ours"}))) == "def f(x):\n    return 1"
    assert ast.unparse(simplified(one)) == "def f(x):\n\n    def g():\n        return x\n    y = len(x)\n    return g"


def test_names_that_nobody_reads_go_with_the_quiet_call_that_they_are_taken_from():
    (node,) = ast.parse("def f(x):\n    a, b = ours(x)\n    c, d = theirs(x)\n    e, g = ours(x)\n    return g").body
    left = "def f(x):\n    c, d = theirs(x)\n    e, g = ours(x)\n    return g"
    assert ast.unparse(simplified(node, frozenset({"ours"}))) == left

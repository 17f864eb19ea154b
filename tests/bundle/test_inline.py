"""What is called once stands where it is called, and everything is done in the same order as before."""

import ast
import contextlib
import io

import pytest

from paramgolf.bundle.inline import with_calls_inlined
from paramgolf.bundle.order import comes_first, evaluation
from paramgolf.bundle.temporaries import without_temporaries

PRELUDE = """
from typing import NamedTuple
def say(word):
    print(word)
    return word
"""


def output(tree: ast.Module) -> str:
    """What a program prints."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(ast.unparse(ast.fix_missing_locations(tree)), "<program>", "exec"), {"__name__": "__main__"})
    return said.getvalue()


def inlined(source: str) -> str:
    """The program after both passes, having checked that it does the same; `say` is called too often to move."""
    whole = f"{PRELUDE}{source}\nsay('end')\nsay('end')"
    tree = without_temporaries(with_calls_inlined(ast.parse(whole), frozenset()))
    assert output(tree) == output(ast.parse(whole))
    return ast.unparse(tree)


MOVES = {
    "a value of what does nothing": "def nothing(x): pass\ndef main():\n    y = nothing(1)\n    print(y)\nmain()",
    "an expression": "def twice(x): return 2 * x\ndef main(): print(twice(say(3)))\nmain()",
    "statements": """
def told(x):
    y = x + 1
    say(y)
    return y
def main():
    z = told(4)
    print(z)
main()
""",
    "early returns at the end": """
def sign(x):
    if x < 0:
        return -1
    else:
        return 1
def main(x): return sign(x)
print(main(-5), main(5))
""",
    "names that are taken": """
def f(a):
    b = a + 1
    return b * b
def main(b):
    c = f(b)
    return b, c
print(main(2))
""",
    "a method": """
class A:
    def __init__(self): self.x = 3
    def shifted(self, by, *, twice=False): return self.x + by * (2 if twice else 1)
def main(a): return a.shifted(4, twice=True)
print(main(A()))
""",
    "a comprehension that would catch a name": """
def f(items, x): return [x + item for item in items]
def main(item): return f([1, 2], item)
print(main(5))
""",
    "one within another": """
def inner(x): return [x, x]
def middle(x):
    say('middle')
    y = inner(say(x))
    return y + [x]
def main(x):
    z = middle(x)
    return z
print(main(1))
""",
    "a parameter that is assigned": """
def f(n):
    n += 1
    return n
def main(k):
    m = f(k)
    return m, k
print(main(1))
""",
}


@pytest.mark.parametrize("name", MOVES)
def test_what_is_called_once_moves(name: str):
    left = inlined(MOVES[name])
    assert left.count("def ") < f"{PRELUDE}{MOVES[name]}".count("def "), left


STAYS = {
    "after something is done": "def f(x):\n    say(x)\n    return x\ndef main(): print(say('a') + f('b'))\nmain()",
    "where it may not run": """
def f():
    say('f')
    return 1
def main(x): return x and f()
print(main(0), main(2))
""",
    "in a loop's condition": """
def more(things):
    say(len(things))
    return things.pop() if things else 0
def main(things):
    while more(things): pass
main([1, 2])
""",
    "a global that a local hides": """
UNIT = 3
def f(x): return x + UNIT
def main(UNIT): return f(UNIT)
print(main(1))
""",
    "recursion": "def f(x): return f(x - 1) if x else 0\ndef main(): return f(3)\nprint(main())",
    "a generator": "def f():\n    yield 1\ndef main(): return list(f())\nprint(main())",
    "an early return in the middle": """
def f(x):
    if x: return 1
    say('on')
    return 2
def main(x):
    y = f(x)
    return y + 1
print(main(0), main(1))
""",
    "arguments in another order": "def f(a, b): return b, a\ndef main(): return f(say(1), say(2))\nprint(main())",
    "a function that it makes": """
def f(x): return lambda: x
def main(): return [later() for later in [f(i) for i in range(3)]]
print(main())
def g(x):
    y = x + 1
    return lambda: y
def loop():
    made = []
    for i in range(3):
        made.append(g(i))
    return [later() for later in made]
print(loop())
""",
    "a name that two classes have": """
class A:
    def m(self): return 1
class B:
    def m(self): return 2
def main(x): return x.m()
print(main(A()), main(B()))
""",
}


@pytest.mark.parametrize("name", STAYS)
def test_what_would_change_something_stays(name: str):
    left = inlined(STAYS[name])
    assert " f(" in left or " more(" in left or " m(" in left or "(b, a)" not in left


def test_arguments_keep_their_order():
    left = inlined(STAYS["arguments in another order"])
    assert left.index("say(1)") < left.index("say(2)")


def test_what_an_argument_changes_is_read_after_it():
    inlined("""
class A: x = 1
def changed(a):
    a.x += 1
    say(a.x)
    return a.x
def f(a, by): return a.x + by
def main(a):
    print(f(a, changed(a)))
    changed(a)
main(A())
""")


def test_nothing_binds_a_name_inside_a_comprehension():
    left = inlined(
        "def f(x): return g(y := x) + [y]\ndef g(x): return [x]\ndef main(x): return [i for i in f(x)]\nprint(main(1))"
    )
    compile(left, "script", "exec")
    assert "f(x)]" in left


def test_a_method_that_a_library_may_call_stays():
    tree = ast.parse("class A:\n    def step(self): return 1\ndef main(a): return a.step()\n")
    assert "def step" in ast.unparse(with_calls_inlined(tree, frozenset({"step"})))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = f(x)\nreturn y", "return f(x)"),
        ("y = x\nz = y + y\nreturn z", "return x + x"),
        ("y = f(x)\nz = g(x)\nreturn y + z", "return f(x) + g(x)"),
        ("y = f(x)\nreturn x.n + y", "y = f(x)\nreturn x.n + y"),
        ("y = x.m\nreturn x.n + y", "return x.n + x.m"),
        ("y = f(x)\nreturn g(x) + y", "y = f(x)\nreturn g(x) + y"),
        ("y = 2\nreturn f(x)", "return f(x)"),
        ("y = f(x)\nreturn 1", "y = f(x)\nreturn 1"),
        ("y = x.clone()\nreturn 1", "return 1"),
        ("y = x.pop()\nreturn 1", "y = x.pop()\nreturn 1"),
        ("y = x\nx = 3\nreturn y", "y = x\nx = 3\nreturn y"),
        ("a, b = (f(x), g(x))\nreturn a", "a = f(x)\nb = g(x)\nreturn a"),
        ("a, b = (1, x)\na, b = (b, a)\nreturn a", "a = 1\nb = x\na, b = (b, a)\nreturn a"),
        ("y = f(x)\nreturn lambda: y", "y = f(x)\nreturn lambda: y"),
        ("y = f(z := x)\nreturn [z for i in y]", "y = f((z := x))\nreturn [z for i in y]"),
        (
            "for i in x:\n    y = i\n    z += [lambda: y]\nreturn z",
            "for i in x:\n    y = i\n    z += [lambda: y]\nreturn z",
        ),
    ],
)
def test_locals_that_say_something_once_go(body: str, expected: str):
    def function(text: str) -> str:
        return "def main(x):\n" + "\n".join(f"    {line}" for line in text.splitlines())

    assert ast.unparse(without_temporaries(ast.parse(function(body)))) == function(expected)


def test_a_record_that_is_taken_apart_is_not_made():
    source = "class P(NamedTuple):\n    a: int\n    b: int\ndef main(x):\n    (a, b) = P(x, 2)\n    return a + b"
    left = ast.unparse(without_temporaries(ast.parse(source)))
    assert "P(x" not in left


def test_what_comes_first_is_evaluated_for_certain():
    for text, first in (
        ("f(a) + a", False),
        ("g(a)", True),
        ("x and a", False),
        ("a and x", True),
        ("[a for i in y]", False),
    ):
        whole = ast.parse(text, mode="eval").body
        name = [node for node, _ in evaluation(whole) if isinstance(node, ast.Name) and node.id == "a"][-1]
        assert comes_first(whole, name) is first, text

"""Short names change nothing that a program does, however its names hide one another."""

import ast
import contextlib
import io

import pytest

from paramgolf.bundle.rename import with_short_names

PROGRAM = """
import math as mathematics
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import NamedTuple
UNIT = 3
measures = [UNIT * measure for measure in range(3)]
class Box(NamedTuple):
    width: int = UNIT
    measures: tuple = (UNIT, 2)
    def area(self, scale=UNIT): return self.width * scale
    @property
    def doubled(self): return self._replace(width=2 * self.width).area(scale=1)
    @classmethod
    def wide(cls, width): return cls(width=width)
@dataclass(frozen=True, kw_only=True)
class Setting:
    rate: float
    def __call__(self, value): return self.rate * value
class Base:
    limit = 7
    def __init__(self, *, limit): self.limit = limit
class Derived(Base):
    def __init__(self, limit): super().__init__(limit=limit + UNIT)
def hides(measures):
    return [UNIT for UNIT in measures], UNIT
def counter(start):
    total = start
    def step(by):
        nonlocal total
        total += by
        return total
    return step
def told(kind, **values): return sorted((kind, *values))
def later(value, *, power): return value ** power
def failing():
    import json as text
    try: raise ValueError("no")
    except ValueError as error: return text.dumps(str(error))
def shown(*, digits, value): return round(value, digits)
def shadows_builtin():
    return [sum for sum in range(2)], sum([1, 2])
def matched(thing):
    match thing:
        case [first, *rest]: return first, rest
        case other: return other
setting = replace(Setting(rate=1.5), rate=2.5)
step = counter(start=5)
print(measures, Box().area(), Box().doubled, Box.wide(9), setting(2), Derived(1).limit, Base.limit)
print(hides((1, 2)), step(by=2), step(3), told("x", alpha=1, beta=2), partial(later, power=3)(2), failing())
print(shadows_builtin(), matched([1, 2, 3]), matched(4), mathematics.floor(2.5), reduce(lambda x, y: x + y, [1]))
print(shown(value=1.234, **{"digits": 1}))
print(getattr(Box(4), "width"), getattr(setting, "rate"), Box(4).measures)
"""


def output(tree: ast.Module) -> str:
    """What a program prints."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(ast.unparse(tree), "<program>", "exec"), {"__name__": "__main__"})
    return said.getvalue().replace("Box(", "(").split("(")[0] + said.getvalue()


def test_a_program_of_names_that_hide_one_another_prints_the_same():
    short = with_short_names(ast.parse(PROGRAM))
    plain, renamed = output(ast.parse(PROGRAM)), output(short)
    assert plain.splitlines()[1:] == renamed.splitlines()[1:]
    text = ast.unparse(short)
    for gone in ("doubled", "counter", "setting", "power", "matched", "failing", "UNIT", "reduce(", "partial("):
        assert gone not in text, gone
    for stays in ("'width'", ".width", "rate=", "alpha=1", "_replace", "__call__"):
        assert stays in text, stays


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def outer(batch):\n    return batch\ndef other(batch):\n    return batch", "one name for one word"),
        ("def outer(first):\n    return first\ndef other(second):\n    return second", "words apart share a letter"),
    ],
)
def test_letters_are_used_again(source: str, expected: str):
    short = with_short_names(ast.parse(source))
    assert len({node.arg for node in ast.walk(short) if isinstance(node, ast.arg)}) == 1, expected


CLASS_BODY = """
def marked(function): return function
class A:
    def method(self): return 1
    @marked
    def other(self): return self.method()
print(A().other())
"""
PASSED_ON = """
import json
def dumped(things, indent): return json.dumps(things, indent=indent)
print(dumped({}, indent=2))
"""


def test_globals_and_fields_of_one_class_differ_where_its_body_sees_both():
    assert output(with_short_names(ast.parse(CLASS_BODY))) == output(ast.parse(CLASS_BODY))


def test_what_is_passed_to_a_library_by_name_keeps_its_name():
    short = ast.unparse(with_short_names(ast.parse(PASSED_ON)))
    assert short.count("indent") == 4
    assert "things" not in short

"""Members of enumerations lose words that nothing asks for."""

import ast

import pytest

from paramgolf.bundle.enumerations import with_numbered_members

KIND = "class Kind(Enum):\n    ONE = 'one'\n    TWO = 'two'\n"


def test_words_go_and_members_stay():
    names: dict[str, object] = {}
    source = f"from enum import Enum\n{KIND}found = [*Kind], Kind.ONE is Kind.TWO, list(Kind).index(Kind.TWO)"
    exec(ast.unparse(with_numbered_members(ast.parse(source))), names)
    members, same, place = names["found"]  # type: ignore[misc]
    assert ([item.name for item in members], same, place) == (["ONE", "TWO"], False, 1)
    assert "'one'" not in ast.unparse(with_numbered_members(ast.parse(source)))


@pytest.mark.parametrize("use", ["Kind.ONE.value", "Kind('one')", "x.value", "[item.value for item in Kind]"])
def test_words_that_something_asks_for_stay(use: str):
    assert "'one'" in ast.unparse(with_numbered_members(ast.parse(KIND + use)))


def test_words_of_another_enumeration_stay():
    other = "class Other(Enum):\n    A = 'a'\n    B = 'b'\nOther.A.value"
    text = ast.unparse(with_numbered_members(ast.parse(KIND + other)))
    assert "'one'" not in text
    assert "'a'" in text

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


def test_members_that_only_stand_for_themselves_are_numbers():
    places = "[*Kind].index(Kind.TWO), 1 + [*Kind].index(Kind.ONE)"
    source = f"{KIND}found = {places}, [*Kind], Kind.ONE.value\nrole = f(Kind.TWO) is not Kind.ONE"
    text = ast.unparse(with_numbered_members(ast.parse(source)))
    assert text == "found = (2 - 1, 1, [*(1, 2)], 'one')\nrole = f(2) != 1"


@pytest.mark.parametrize("use", ["isinstance(x, Kind)", "list(Kind)", "Kind['ONE']", "Kind.of(x)"])
def test_an_enumeration_that_something_asks_for_stays_a_class(use: str):
    assert "class Kind(Enum)" in ast.unparse(with_numbered_members(ast.parse(KIND + use)))


@pytest.mark.parametrize("use", ["Kind('one')", "x.value", "[item.value for item in Kind]"])
def test_words_that_something_asks_for_stay(use: str):
    assert "'one'" in ast.unparse(with_numbered_members(ast.parse(KIND + use)))


def test_words_of_another_enumeration_stay():
    other = "class Other(Enum):\n    A = 'a'\n    B = 'b'\nOther('a')"
    text = ast.unparse(with_numbered_members(ast.parse(KIND + other)))
    assert "'one'" not in text
    assert "'a'" in text

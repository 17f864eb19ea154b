"""Members of enumerations that nothing is."""

import ast

import pytest

from paramgolf.bundle.absent import absent_members
from paramgolf.bundle.units import Definition
from paramgolf.parts import Role
from paramgolf.presets.baseline import baseline

MODULE = "paramgolf.parts"
TABLE = "NUMBERS = {Role.EMBED: 1, Role.GATE: 2}"
USE = "def sample(role: Role = Role.EMBED):\n    return NUMBERS[role], role is Role.HEAD, [*Role].index(role)"


def absent(*statements: str) -> set[str]:
    """The members of `Role` that nothing is, by name."""
    nodes = [node for text in ("class Role(Enum):\n    pass", *statements) for node in ast.parse(text).body]
    names = [getattr(node, "name", "") or ast.unparse(node.targets[0]) for node in nodes]  # type: ignore[attr-defined]
    found = absent_members(
        [Definition(name, MODULE, 1, node) for name, node in zip(names, nodes, strict=True)], baseline()
    )
    return {member for _, member in found}


def test_what_is_only_looked_up_and_compared_is_nothing():
    every = {role.name for role in Role}
    assert absent(TABLE, USE) == every - {"EMBED"}


@pytest.mark.parametrize(
    "use",
    [
        "def more():\n    return list(Role)",
        "def more():\n    return [role for role in Role]",
        "def more(word):\n    return Role(word)",
        "def more(word):\n    return Role[word]",
    ],
)
def test_of_an_enumeration_that_is_gone_over_or_asked_every_member_may_come_up(use: str):
    assert absent(TABLE, USE, use) == set()


@pytest.mark.parametrize(
    "use",
    [
        "def more():\n    return Role.GATE",
        "def more():\n    return list(NUMBERS)",
        "def more():\n    return {Role.GATE: 1}",
        "def more(x=Role.GATE):\n    return x",
        "def more():\n    return x in (Role.GATE,)",
    ],
)
def test_what_something_makes_or_may_get_out_of_a_table_stays(use: str):
    assert "GATE" not in absent(TABLE, USE, use)

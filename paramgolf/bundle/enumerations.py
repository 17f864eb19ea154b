"""Members of enumerations that only stand for themselves: numbers, from 1.

What asks a member for its value, or an enumeration for the member of a value, keeps all values as they are; what asks
for a member by name is told its value at once. An enumeration that is only asked for members, for their places and for
all of them needs no class: a number is as much itself, and as true, as a member.
"""

import ast
from collections.abc import Iterator
from typing import Any

from paramgolf.bundle.absent import member_named, place_asked
from paramgolf.bundle.trees import Transformer, walk

BY_VALUE = frozenset({"value", "_value_", "_value2member_map_", "__members__", "name", "_name_"})
"""Attributes that tell of values and names."""


def with_numbered_members(tree: ast.Module) -> ast.Module:
    """`tree`, changed in place."""
    words = {node.name: dict(words_in_enumeration(node)) for node in tree.body if isinstance(node, ast.ClassDef)}
    words = {name: found for name, found in words.items() if found}
    Valued(words).visit(tree)
    asked = {node.attr for node in walk(tree) if isinstance(node, ast.Attribute)} & BY_VALUE - {"name"}
    numbers = {name: {member: 1 + place for place, member in enumerate(words[name])} for name in words}
    for node in tree.body if not asked else ():
        if isinstance(node, ast.ClassDef) and node.name in numbers and node.name in called_in(tree):
            del numbers[node.name]
        elif isinstance(node, ast.ClassDef) and node.name in numbers:
            names = ", ".join(numbers[node.name])
            node.body = list(ast.parse(f"{names} = range(1, {len(words[node.name]) + 1})").body)
    plain = (
        {} if asked else {name: found for name, found in numbers.items() if name not in otherwise_named(tree, words)}
    )
    if plain:
        tree.body = [node for node in tree.body if getattr(node, "name", "") not in plain]
        Numbered(plain).visit(tree)
    return tree


def words_in_enumeration(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The members of an enumeration of words, each with its word; nothing of any other class."""
    found = [(item.targets[0].id, item.value.value) for item in node.body if is_member(item)]  # type: ignore[attr-defined]
    if [ast.unparse(base) for base in node.bases] == ["Enum"] and len(found) == len(node.body) > 1:
        yield from found


def is_member(item: ast.stmt) -> bool:
    """Whether a statement makes a member of a word."""
    if not isinstance(item, ast.Assign) or not isinstance(item.targets[0], ast.Name) or len(item.targets) > 1:
        return False
    return isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)


def called_in(tree: ast.Module) -> set[str]:
    """Names that are called."""
    calls = (node.func for node in walk(tree) if isinstance(node, ast.Call))
    return {func.id for func in calls if isinstance(func, ast.Name)}


def gone_over(node: ast.AST) -> ast.Name | None:
    """What a loop or a display goes over, if that is a name."""
    inner: Any = getattr(node, "iter", None)
    if isinstance(node, ast.Starred):
        inner = node.value
    return inner if isinstance(inner, ast.Name) else None


def otherwise_named(tree: ast.Module, words: dict[str, dict[str, str]]) -> set[str]:
    """Names that are used otherwise than for a member, or gone over."""
    attributes = (node for node in walk(tree) if isinstance(node, ast.Attribute))
    plain = {id(node.value) for node in attributes if node.attr in words.get(member_named(node)[0], {})}
    plain |= {id(place_asked(node)) for node in walk(tree) if place_asked(node)}
    plain |= {id(gone_over(node)) for node in walk(tree) if gone_over(node)}
    names = (node for node in walk(tree) if isinstance(node, ast.Name) and id(node) not in plain)
    return {node.id for node in names}


class Valued(Transformer):
    """Says the value of a member that is named where it is asked for it."""

    def __init__(self, words: dict[str, dict[str, str]]) -> None:
        self.words = words

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        kind, member = member_named(node.value)
        word = self.words.get(kind, {}).get(member)
        return ast.Constant(word) if node.attr == "value" and word is not None else node


class Numbered(Transformer):
    """Puts numbers in the place of members."""

    def __init__(self, numbers: dict[str, dict[str, int]]) -> None:
        self.numbers = numbers

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        kind, member = member_named(node)
        if kind in self.numbers:
            return ast.Constant(self.numbers[kind][member])
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """The place of a member, counted from 0."""
        kind = place_asked(node.func)
        self.generic_visit(node)
        if kind is None or kind.id not in self.numbers:
            return node
        return ast.BinOp(node.args[0], ast.Sub(), ast.Constant(1))

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Numbers are equal where members are the same."""
        sides = [node.left, *node.comparators]
        if any(member_named(side)[0] in self.numbers for side in sides):
            same = {ast.Is: ast.Eq(), ast.IsNot: ast.NotEq()}
            node.ops = [same.get(type(how), how) for how in node.ops]
        self.generic_visit(node)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """One more than one less."""
        self.generic_visit(node)
        left, right = node.left, node.right
        adds = isinstance(node.op, ast.Add) and ast.unparse(left) == "1"
        takes = isinstance(right, ast.BinOp) and isinstance(right.op, ast.Sub) and ast.unparse(right.right) == "1"
        return right.left if adds and takes and isinstance(right, ast.BinOp) else node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """All members, where they are gone over."""
        if node.id in self.numbers:
            return ast.Tuple([ast.Constant(number) for number in self.numbers[node.id].values()], ast.Load())
        return node

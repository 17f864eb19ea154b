"""Records of which only named fields are read: a field that nobody reads goes, and with it what every maker gives it.

A named tuple may be taken apart, gone over or compared, and then all its fields are read. Folding notes where that
happens to a record whose class it knows; where it does not know what is taken apart, by how many names.
"""

import ast
import dataclasses
from collections.abc import Container, Iterable, Mapping
from typing import Any, cast

from paramgolf.bundle.quiet import is_quiet
from paramgolf.bundle.trees import Transformer, walk
from paramgolf.bundle.units import Definition

ALL_FIELDS = frozenset({"_asdict", "_fields", "_make", "_field_defaults"})
"""Attributes that tell of all fields."""
GOES_OVER = frozenset(
    {*("tuple", "list", "set", "len", "sum", "zip", "map", "enumerate", "sorted", "reversed", "iter", "next", "hash")}
    | {*("max", "min", "any", "all", "dict", "repr", "str", "print", "asdict", "astuple", "fields")}
)
"""Functions that may look at every field of what they are given."""


def field_names(kind: type) -> tuple[str, ...]:
    """The fields of a named tuple or dataclass."""
    if dataclasses.is_dataclass(kind):
        return tuple(item.name for item in dataclasses.fields(kind))
    return cast("tuple[str, ...]", getattr(kind, "_fields", ()))


def made_loudly(
    program: Iterable[Definition], kinds: Container[str], quiet: frozenset[str] = frozenset()
) -> set[tuple[str, str]]:
    """Class and field of records among `kinds` that some maker gives what does something."""
    found = set()
    for item in program:
        for node in walk(item.node):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                given = [(keyword.arg or "", keyword.value) for keyword in node.keywords]
                found |= {(node.func.id, name) for name, value in given if not is_quiet(value, quiet)}
    return found


class ByName(Transformer):
    """Gives records their fields by name."""

    def __init__(self, fields: Mapping[str, tuple[str, ...]]) -> None:
        self.fields = fields

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in self.fields:
            names = self.fields[node.func.id][: len(node.args)]
            pairs = zip(names, node.args, strict=True)
            return ast.Call(node.func, [], [*(ast.keyword(name, value) for name, value in pairs), *node.keywords])
        return node


class WithoutFields(Transformer):
    """Leaves out of calls what they give for fields that are gone."""

    def __init__(self, dropped: Container[tuple[str, str]], kinds: Container[str]) -> None:
        self.dropped = dropped
        self.kinds = kinds

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in self.kinds:
            name = node.func.id
            node.keywords = [item for item in node.keywords if (name, item.arg) not in self.dropped]
        return node


class ByPlace(Transformer):
    """Gives named tuples their fields by place, as far as the order allows."""

    def __init__(self, tree: ast.Module) -> None:
        self.fields: dict[str, list[str]] = {}
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and takes_by_place(node):
                items = [item for item in node.body if isinstance(item, ast.AnnAssign)]
                self.fields[node.name] = [ast.unparse(item.target) for item in items]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in self.fields:
            names: Any = self.fields[node.func.id][len(node.args) :]
            while node.keywords and names and node.keywords[0].arg == names[0]:
                node.args.append(node.keywords.pop(0).value)
                names = names[1:]
        return node


def takes_by_place(node: ast.ClassDef) -> bool:
    """Whether a class is a record of which fields may be given by place."""
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    made = any(isinstance(item, ast.FunctionDef) and item.name == "__init__" for item in node.body)
    plain = not node.bases and any(mark.split("(")[0] == "dataclass" and "kw_only" not in mark for mark in marks)
    return [ast.unparse(base) for base in node.bases] == ["NamedTuple"] or (plain and not made)


def given_by_place(tree: ast.Module) -> ast.Module:
    """`tree`, changed in place."""
    return cast(ast.Module, ByPlace(tree).visit(tree))

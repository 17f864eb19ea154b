"""Members of enumerations that a program never makes: it only looks them up in tables and asks what is one of them.

Such a member is nothing's value, so its line in a table is never read, and nothing is that member.
"""

import ast
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from paramgolf.bundle.known import config_parts, fields_of, live
from paramgolf.bundle.trees import walk
from paramgolf.bundle.units import Definition

Members = frozenset[tuple[str, str]]
"""Enumeration and member."""


def absent_members(program: Iterable[Definition], config: Any) -> Members:
    """The members that neither `program` nor a setting makes; none of an enumeration that is gone over or called."""
    definitions = list(program)
    kinds = {item.name: live(item.module, item.name) for item in definitions if isinstance(item.node, ast.ClassDef)}
    every = {(name, member) for name, kind in kinds.items() if is_enumeration(kind) for member in kind.__members__}
    looked_up = tables(definitions)
    made = {(type(value).__name__, value.name) for value in members_in(config)}
    spread = set[str]()
    for item in definitions:
        if not is_enumeration(kinds.get(item.name)):
            passed_over = set(keys_and_comparisons(item.node, looked_up))
            for node in nodes_evaluated(item.node):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    made |= {(node.value.id, node.attr)} - ({member_named(node)} if id(node) in passed_over else set())
                    passed_over.add(id(node.value))
                elif place_asked(node):
                    passed_over.add(id(place_asked(node)))
                elif isinstance(node, ast.Name) and id(node) not in passed_over:
                    spread.add(node.id)
    return frozenset((name, member) for name, member in every - made if name not in spread)


def is_enumeration(kind: Any) -> bool:
    """Whether `kind` is a plain enumeration."""
    return isinstance(kind, type) and Enum in kind.__bases__


def members_in(config: Any) -> Iterator[Enum]:
    """The members of enumerations among settings."""
    for part in config_parts(config):
        for name in fields_of(part):
            value = getattr(part, name)
            yield from (item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Enum))


def nodes_evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and all that is in it but annotations, outer ones first."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from nodes_evaluated(child)


def member_named(node: ast.expr) -> tuple[str, str]:
    """`Kind` and `MEMBER` of `Kind.MEMBER`."""
    plain = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    return (node.value.id, node.attr) if plain else ("", "")  # type: ignore[attr-defined]


def place_asked(node: ast.AST) -> ast.Name | None:
    """`Kind` of `[*Kind].index`, which gives the number of a member and no member."""
    listed = node.value if isinstance(node, ast.Attribute) and node.attr == "index" else None
    only = listed.elts[0] if isinstance(listed, ast.List) and len(listed.elts) == 1 else None
    return only.value if isinstance(only, ast.Starred) and isinstance(only.value, ast.Name) else None


def tables(definitions: Iterable[Definition]) -> frozenset[str]:
    """Names at the top that are dictionaries of which only items are asked for."""
    made, otherwise = set[str](), set[str]()
    for item in definitions:
        value = getattr(item.node, "value", None)
        if isinstance(value, ast.Dict):
            made.add(item.name)
        asked = {id(node.value) for node in walk(item.node) if isinstance(node, ast.Subscript)}
        names = (node for node in nodes_evaluated(item.node) if isinstance(node, ast.Name) and id(node) not in asked)
        otherwise |= {node.id for node in names if isinstance(node.ctx, ast.Load)}
    return frozenset(made - otherwise)


def keys_and_comparisons(node: ast.stmt, looked_up: frozenset[str]) -> Iterator[int]:
    """Expressions of which the value goes no further: keys of tables that are only asked for items, sides of `is`."""
    names = {ast.unparse(target) for target in getattr(node, "targets", [getattr(node, "target", None)]) if target}
    displays = [node.value] if names & looked_up and isinstance(node, ast.Assign | ast.AnnAssign) else []
    for inner in nodes_evaluated(node):
        if isinstance(inner, ast.Subscript):
            displays.append(inner.value)
        elif isinstance(inner, ast.Compare) and all(isinstance(how, ASKS_WHICH) for how in inner.ops):
            yield from (id(side) for side in (inner.left, *inner.comparators))
    for display in displays:
        if isinstance(display, ast.Dict):
            yield from (id(key) for key in display.keys)


ASKS_WHICH = (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)
"""Comparisons that ask whether something is a member."""


def is_absent(node: ast.expr | None, absent: Members) -> bool:
    """Whether an expression names a member that nothing is."""
    return node is not None and member_named(node) in absent

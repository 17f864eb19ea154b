"""What nobody reads: settings of the configuration and attributes of objects whose readers folding has removed.

A field or attribute has a reader when something asks an object that may have it for its name. Where folding knows the
class of the object, only that class and its relatives are asked.
"""

import ast
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from torch import nn

from paramgolf.bundle.known import Facts, OneOf, live
from paramgolf.bundle.quiet import is_quiet
from paramgolf.bundle.reach import mentions
from paramgolf.bundle.records import WithoutFields, made_loudly
from paramgolf.bundle.slim import KINDS, BodiesFilled, keeps_annotations
from paramgolf.bundle.trees import Transformer, walk
from paramgolf.bundle.units import Definition

Dropped = frozenset[tuple[str, str]]
"""Class and field, or class and attribute."""


READ_WHOLE = frozenset({"asdict", "astuple", "fields"})
"""Functions that read every field of an object."""


class Readers:
    """Which attributes a program asks for."""

    def __init__(self, definitions: Iterable[Definition]) -> None:
        self.asked: dict[str, set[type] | None] = {}
        for item in definitions:
            for name, kinds in mentions(item.node):
                before = self.asked.setdefault(name, set())
                self.asked[name] = None if before is None or kinds is None else before | kinds

    def may_read(self, kind: type, name: str) -> bool:
        """Whether anything asks an object of the class `kind` for `name`."""
        kinds = self.asked.get(name, set())
        return kinds is None or any(issubclass(kind, other) or issubclass(other, kind) for other in kinds)


def unasked_keys(definitions: Iterable[Definition]) -> frozenset[str]:
    """Keys of what a loader tells of its `state` that nothing else in the program says."""
    keys: set[str] = set()
    others: set[str] = set()
    for item in definitions:
        inside = [node for node in displays_of_state(item.node) if None not in node.keys]
        told = {id(key): key.value for node in inside for key in node.keys if isinstance(key, ast.Constant)}
        keys |= set(map(str, told.values()))
        words = (node for node in walk(item.node) if isinstance(node, ast.Constant) and id(node) not in told)
        others |= {node.value for node in words if isinstance(node.value, str)}
    return frozenset(keys - others)


def displays_of_state(node: ast.stmt) -> list[ast.Dict]:
    """The dictionaries that the `state` of a class that has a `restore` returns."""
    methods = {part.name: part for part in getattr(node, "body", ()) if isinstance(part, ast.FunctionDef)}
    if not isinstance(node, ast.ClassDef) or not {"state", "restore"} <= methods.keys():
        return []
    returns = [part.value for part in walk(methods["state"]) if isinstance(part, ast.Return)]
    return [value for value in returns if isinstance(value, ast.Dict)]


def without_keys(node: ast.stmt, unasked: frozenset[str]) -> ast.stmt:
    """A definition, changed in place, without keys of a loader's state that nobody asks for."""
    for display in displays_of_state(node):
        pairs = [
            (key, value)
            for key, value in zip(display.keys, display.values, strict=True)
            if not (isinstance(key, ast.Constant) and key.value in unasked and is_quiet(value))
        ]
        display.keys, display.values = [key for key, _ in pairs], [value for _, value in pairs]
    return node


def unread_names(definitions: Iterable[Definition], facts: Facts) -> Dropped:
    """Fields of closed classes, and attributes that methods assign, that nothing reads."""
    program = list(definitions)
    readers = Readers(program)
    whole = [item.name for item in program if reads_whole(item.node)]
    listed = any(not isinstance(item.node, ast.ClassDef) for item in program if item.name in whole)
    found: set[tuple[str, str]] = set()
    loud = made_loudly(program, facts.named, facts.quiet)
    for item in program:
        kind = live(item.module, item.name)
        if not isinstance(item.node, ast.ClassDef) or not isinstance(kind, type):
            continue
        names = set(assigned_attributes(item.node, kind, facts))
        if item.name in facts.closed and item.name not in whole and not listed:
            names |= {part.target.id for part in declared_fields(item.node) if isinstance(part.target, ast.Name)}
        elif item.name in facts.named and (issubclass(kind, tuple) or (item.name not in whole and not listed)):
            names |= {part.target.id for part in declared_fields(item.node) if isinstance(part.target, ast.Name)}
            names -= {name for owner, name in loud if owner == item.name} | facts.altered
        if not keeps_annotations(item.node) and not issubclass(kind, Enum):
            names |= {name for part in item.node.body for name in constants_given(part)}
        found |= {(item.name, name) for name in names - facts.changed if not readers.may_read(kind, name)}
    return frozenset(found)


def reads_whole(node: ast.stmt) -> bool:
    """Whether a definition reads every field of some object, whatever they are called."""
    calls = (inner.func for inner in walk(node) if isinstance(inner, ast.Call))
    return any(isinstance(func, ast.Name) and func.id in READ_WHOLE for func in calls)


def declared_fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    """The fields that the body of a class declares."""
    return [part for part in node.body if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part)]


def assigned_attributes(node: ast.ClassDef, kind: type, facts: Facts) -> Iterator[str]:
    """Attributes that methods of a class assign to their own object, where leaving that out changes nothing else."""
    for inner in walk(node):
        for target, _ in assignments_to_attributes(inner):
            if not issubclass(kind, nn.Module) or isinstance(facts.observed.get((kind, target.attr)), OneOf):
                yield target.attr


def assignments_to_attributes(node: ast.AST) -> list[tuple[ast.Attribute, ast.expr]]:
    """The attribute and value of `object.attribute = value`."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Attribute):
        return [(node.targets[0], node.value)]
    if isinstance(node, ast.AnnAssign | ast.AugAssign) and isinstance(node.target, ast.Attribute) and node.value:
        return [(node.target, node.value)]
    return []


OWN = frozenset({"self", "ctx"})
"""What methods, and functions of autograd, call the object that they keep attributes in."""


def constants_given(part: ast.stmt) -> Iterator[str]:
    """The name that a statement gives a value that does nothing, one name alone."""
    targets = part.targets if isinstance(part, ast.Assign) else [part.target] if isinstance(part, ast.AnnAssign) else []
    value = part.value if isinstance(part, ast.Assign | ast.AnnAssign) else None
    if value is not None and len(targets) == 1 and isinstance(targets[0], ast.Name) and is_quiet(value):
        yield targets[0].id


class WithoutUnread(BodiesFilled):
    """Leaves out of a class what nobody reads."""

    def __init__(self, owner: type, dropped: Dropped, quiet: frozenset[str]) -> None:
        self.quiet = quiet
        self.module = issubclass(owner, nn.Module)
        """Of modules, only attributes are dropped that are plain, or empty, whatever makes them."""
        self.names = {name for kind, name in dropped if kind == owner.__name__}

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        if isinstance(node.target, ast.Name):
            return None if node.target.id in self.names else node
        return self.kept(node)

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        return self.kept(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt | None:
        return self.kept(node)

    def kept(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> ast.stmt | None:
        """An assignment, unless its attribute is unread and making its value does nothing else."""
        if {*constants_given(node)} & self.names:
            return None
        for target, value in assignments_to_attributes(node):
            own = isinstance(target.value, ast.Name) and target.value.id in OWN
            if own and target.attr in self.names and (self.module or is_quiet(value, self.quiet)):
                return None
        return node


class WithoutOthers(BodiesFilled):
    """Leaves out what is assigned to attributes of other objects that nobody reads."""

    def __init__(self, dropped: Dropped, quiet: frozenset[str]) -> None:
        self.dropped = dropped
        self.quiet = quiet

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        for target, value in assignments_to_attributes(node):
            kinds = getattr(target, KINDS, None) or ()
            gone = all(any((base.__name__, target.attr) in self.dropped for base in kind.__mro__) for kind in kinds)
            if kinds and gone and is_quiet(value, self.quiet):
                return None
        return node


def without_unread(node: ast.stmt, module: str, dropped: Dropped, facts: Facts) -> ast.stmt:
    """A definition of `module`, changed in place, without what nobody reads."""
    node = WithoutFields(dropped, facts.named).visit(node)
    node = WithoutOthers(dropped, facts.quiet).visit(node)
    if isinstance(node, ast.ClassDef) and any(kind == node.name for kind, _ in dropped):
        result: Any = WithoutUnread(live(module, node.name), dropped, facts.quiet).visit(node)
        return result if isinstance(result, ast.stmt) else ast.Pass()
    return node


class Sparing(Transformer):
    """Leaves out of an expression the settings that nobody reads."""

    def __init__(self, dropped: Dropped) -> None:
        self.dropped = dropped

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name):
            name = node.func.id
            node.keywords = [item for item in node.keywords if (name, item.arg) not in self.dropped]
        self.generic_visit(node)
        return node


def spared(expression: str, dropped: Dropped) -> str:
    """The source of a configuration without the settings that nobody reads."""
    return ast.unparse(Sparing(dropped).visit(ast.parse(expression, mode="eval")))

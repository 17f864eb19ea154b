"""Parameters that no body reads any more: they go, and with them what callers pass.

A function loses a parameter where every use of its name is a call that passes it plainly and whose argument can be left
out without a trace; a method, where that holds for all methods of its name, of whatever class, and no library has it.
"""

import ast
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from paramgolf.bundle.applied import (
    APPLY,
    can_lose,
    describes,
    forward_of,
    is_applied,
    is_launched,
    lose,
    names_reached,
    operators_described,
)
from paramgolf.bundle.evaluator import is_silent
from paramgolf.bundle.guards import OTHERS, attributes_held
from paramgolf.bundle.passed import decorators, methods_called_by_us, passes_arguments
from paramgolf.bundle.quiet import is_quiet
from paramgolf.bundle.reach import mentioned_strings
from paramgolf.bundle.trees import Transformer, children, walk
from paramgolf.bundle.units import Definition

Unused = frozenset[tuple[str, str]]
"""Function, class or `.method`, and the parameter that it does not read."""


class Taker(NamedTuple):
    """A function, or a method without the argument that stands for its object."""

    node: ast.FunctionDef
    skips: int
    """Arguments that callers do not give."""

    @property
    def positional(self) -> list[str]:
        """Names of the parameters that may be given by place."""
        return [argument.arg for argument in self.node.args.args[self.skips :]]

    @property
    def parameters(self) -> list[str]:
        """Names of all parameters."""
        return [*self.positional, *(argument.arg for argument in self.node.args.kwonlyargs)]


def unused_parameters(program: Iterable[Definition], quiet: frozenset[str] = frozenset()) -> Unused:
    """What can be left out of the definitions and calls of `program`."""
    definitions = list(program)
    takers = takers_of(definitions)
    uses = Uses(definitions)
    found: set[tuple[str, str]] = set()
    for name, group in takers.items():
        if {name, name.removesuffix(APPLY)} & uses.otherwise or not all(
            same_parameters(group[0], other) for other in group[1:]
        ):
            continue
        for place, parameter in enumerate(group[0].parameters):
            if any(reads(taker.node, parameter) for taker in group):
                continue
            if name.endswith(APPLY) and not can_lose(uses.functions[name.removesuffix(APPLY)], place):
                continue
            by_place = place if parameter in group[0].positional else None
            passed = [argument(call, parameter, by_place) for call in uses.calls[name]]
            if all(value is None or is_silent(value) or is_quiet(value, quiet) for value in passed):
                found.add((name, parameter))
                if name.endswith(APPLY):  # the places of the others move
                    break
    return frozenset(found)


def takers_of(definitions: list[Definition]) -> dict[str, list[Taker]]:
    """Functions, constructors by the name of their class, and methods by a dot and their name."""
    takers: dict[str, list[Taker]] = defaultdict(list)
    others: set[str] = {name for item in definitions for name in mentioned_strings(item.node)}
    bases = {ast.unparse(base) for item in definitions for base in getattr(item.node, "bases", ())}
    for item in definitions:
        if isinstance(item.node, ast.FunctionDef) and (passes_arguments(item.node) or is_launched(item.node)):
            takers[item.name].append(Taker(item.node, 0))
        if isinstance(item.node, ast.FunctionDef):
            for operator in operators_described(item.node):
                takers[operator].append(Taker(item.node, 0))
        if not isinstance(item.node, ast.ClassDef):
            continue
        if is_applied(item.node):
            takers[f"{item.name}{APPLY}"] += [Taker(forward_of(item.node), 1)]
        ours = {id(method) for method in methods_called_by_us(item)}
        for method in item.node.body:
            if not isinstance(method, ast.FunctionDef):
                continue
            skips = int("staticmethod" not in decorators(method))
            if method.name == "__init__" and item.name not in bases and not item.node.decorator_list:
                takers[item.name].append(Taker(method, skips))
            elif id(method) in ours and not any(hasattr(other, method.name) for other in OTHERS):
                takers[f".{method.name}"].append(Taker(method, skips))
            elif method.name != "__init__":
                others.add(method.name)
    held = {f".{name}" for item in definitions for name in attributes_held(item.node)}
    return {name: group for name, group in takers.items() if name.removeprefix(".") not in others and name not in held}


def same_parameters(one: Taker, other: Taker) -> bool:
    """Whether two methods of one name can be called alike."""
    return one.positional == other.positional and one.parameters == other.parameters


def reads(node: ast.FunctionDef, name: str) -> bool:
    """Whether a function mentions `name`, or hands on whatever it has been given."""
    if node.args.vararg or node.args.kwarg or node.args.posonlyargs:
        return True
    return any(isinstance(inner, ast.Name) and inner.id in (name, "locals") for inner in walk(node))


class Uses:
    """Where a program names functions and methods."""

    def __init__(self, definitions: list[Definition]) -> None:
        self.calls: dict[str, list[ast.Call]] = defaultdict(list)
        self.otherwise: set[str] = set()
        """What is named otherwise than by a plain call of it."""
        self.functions = {item.name: item.node for item in definitions if is_applied(item.node)}
        self.operators = operators_by_describer(definitions)
        for item in definitions:
            called = {id(mark.value) for mark in getattr(item.node, "decorator_list", ()) if describes(mark)}
            self.otherwise |= set(local_names(item.node)) & set(names_read(item.node))
            for node in evaluated_nodes(item.node):
                if isinstance(node, ast.Call):
                    called |= {id(node.func), id(names_reached(node.func, self.functions))}
                    self.note(node)
                elif isinstance(node, ast.Attribute) and id(node) not in called:
                    self.otherwise.add(f".{node.attr}")
                elif isinstance(node, ast.Name) and id(node) not in called and isinstance(node.ctx, ast.Load):
                    self.otherwise.add(self.operators.get(node.id, node.id))

    def note(self, call: ast.Call) -> None:
        """Remember a call."""
        name = called_name(call, self.functions)
        name = self.operators.get(name, name)
        if any(isinstance(item, ast.Starred) for item in call.args) or any(item.arg is None for item in call.keywords):
            self.otherwise.add(name)
        self.calls[name].append(call)


def operators_by_describer(definitions: Iterable[Definition]) -> dict[str, str]:
    """The operator of each function that tells the shapes of one: they lose the same parameters, in every call."""
    functions = (item.node for item in definitions if isinstance(item.node, ast.FunctionDef))
    return {node.name: operator for node in functions for operator in operators_described(node)}


def evaluated_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and what is in it, but for annotations of functions and the types of casts, which a script has not."""
    yield node
    skipped: list[ast.AST | None] = []
    if isinstance(node, ast.FunctionDef):
        skipped = [node.returns]
    elif isinstance(node, ast.arg):
        skipped = [node.annotation]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "cast":
        skipped = [node.args[0]]
    elif isinstance(node, ast.AnnAssign):
        skipped = [node.annotation]
    for child in children(node):
        if not any(child is other for other in skipped):
            yield from evaluated_nodes(child)


def names_read(node: ast.stmt) -> Iterator[str]:
    """Names that a definition reads."""
    yield from (inner.id for inner in walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load))


def local_names(node: ast.AST) -> Iterator[str]:
    """Names that functions in a definition bind: there, they may mean something else than at the top."""
    for function in walk(node):
        if isinstance(function, ast.FunctionDef):
            for inner in walk(function):
                if isinstance(inner, ast.arg):
                    yield inner.arg
                elif isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load):
                    yield inner.id
                elif isinstance(inner, ast.FunctionDef) and inner is not function:
                    yield inner.name


def called_name(call: ast.Call, functions: Container[str]) -> str:
    """A function's name, or a dot and a method's; that of a kernel, and of one of `functions` with `.apply`."""
    if (inner := names_reached(call.func, functions)) is not None:
        return f"{inner.id}{APPLY if isinstance(call.func, ast.Attribute) else ''}"
    if isinstance(call.func, ast.Attribute):
        return f".{call.func.attr}"
    return call.func.id if isinstance(call.func, ast.Name) else ""


def argument(call: ast.Call, name: str, place: int | None) -> ast.expr | None:
    """What a call passes for a parameter, if it passes anything."""
    if place is not None and place < len(call.args):
        return call.args[place]
    return next((item.value for item in call.keywords if item.arg == name), None)


class WithoutUnused(Transformer):
    """Leaves parameters out of definitions, and what they get out of calls."""

    def __init__(self, unused: Unused, takers: dict[str, list[Taker]], operators: dict[str, str]) -> None:
        self.unused = unused
        self.operators = operators
        self.places = {name: group[0].positional for name, group in takers.items()}
        self.owners = {id(taker.node): name for name, group in takers.items() for taker in group}
        self.functions = {name.removesuffix(APPLY) for name in takers if name.endswith(APPLY)}

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        for place, name in enumerate(self.places.get(f"{node.name}{APPLY}", ())):
            if (f"{node.name}{APPLY}", name) in self.unused:
                lose(node, place)
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        self.generic_visit(node)
        name = self.owners.get(id(node), "")
        for item in list(node.args.args):
            if (name, item.arg) in self.unused:
                remove_positional(node.args, item)
        kept = [
            pair
            for pair in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            if (name, pair[0].arg) not in self.unused
        ]
        node.args.kwonlyargs, node.args.kw_defaults = [item for item, _ in kept], [value for _, value in kept]
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = called_name(node, self.functions)
        name = self.operators.get(name, name)
        places = self.places.get(name, [])
        gone = {parameter for owner, parameter in self.unused if owner == name}
        if gone:
            node.args = [
                item for place, item in enumerate(node.args) if place >= len(places) or places[place] not in gone
            ]
            node.keywords = [item for item in node.keywords if item.arg not in gone]
        return node


def remove_positional(arguments: ast.arguments, item: ast.arg) -> None:
    """Take one parameter and its default out."""
    place = arguments.args.index(item)
    first = len(arguments.args) - len(arguments.defaults)
    if place >= first:
        del arguments.defaults[place - first]
    del arguments.args[place]


def without_unused(program: Iterable[Definition], quiet: frozenset[str] = frozenset()) -> Iterator[Definition]:
    """The definitions, changed in place, until no parameter is unused; calls of `quiet` functions change nothing."""
    definitions = list(program)
    while unused := unused_parameters(definitions, quiet):
        rewrite = WithoutUnused(unused, takers_of(definitions), operators_by_describer(definitions))
        for item in definitions:
            rewrite.visit(item.node)
    yield from definitions

"""Methods of parts of the configuration as functions: which one a call comes to is known, so it need not be asked.

`config.attention.build(dims)` is `SoftmaxAttention_build(config.attention, dims)` where the configuration has one class
there. A setting that the function reads stands in it as its value; then nothing reads the part itself any more, and
what holds it, its class and its place in the configuration are left out as whatever else nobody reads.
"""

import ast
from collections.abc import Iterable
from typing import Any, cast

from paramgolf.bundle.slim import copied
from paramgolf.bundle.trees import walk
from paramgolf.bundle.units import Definition, Unit, Units

PLAIN_MARKS = {"property", "staticmethod", "torch.no_grad()"}
"""Decorators with which a method can stand alone."""


def apart(kind: str, method: str) -> str:
    """The name of a method that stands alone."""
    return f"{kind}_{method.strip('_')}"


def with_methods_apart(units: Units, kinds: Iterable[type]) -> dict[str, Unit]:
    """The package with each method of each of `kinds` defined as a function too, known in every module."""
    new = {module: unit._replace(definitions=dict(unit.definitions)) for module, unit in units.items()}
    homes: dict[str, str] = {}
    for kind in kinds:
        homes[kind.__name__] = kind.__module__
        for item in functions_of(units, kind):
            name = apart(kind.__name__, item.name)
            new[kind.__module__].definitions[name] = Definition(
                name, kind.__module__, item.lineno, alone(item, kind.__name__)
            )
            homes[name] = kind.__module__
    return {module: unit._replace(ours={**unit.ours, **homes}) for module, unit in new.items()}


def functions_of(units: Units, kind: type) -> list[ast.FunctionDef]:
    """The methods of a class of the package that can stand alone."""
    unit = units.get(kind.__module__)
    item = unit.definitions.get(kind.__name__) if unit else None
    body = getattr(item.node, "body", ()) if item else ()
    return [part for part in body if isinstance(part, ast.FunctionDef) and can_stand_alone(part)]


def can_stand_alone(node: ast.FunctionDef) -> bool:
    """Whether a method does not ask for its class."""
    named = {inner.id for inner in walk(node) if isinstance(inner, ast.Name)}
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    own = node.name == "__call__" or not node.name.startswith("__")
    return own and marks <= PLAIN_MARKS and not named & {"super", "__class__"}


def alone(node: ast.FunctionDef, kind: str) -> ast.FunctionDef:
    """A method as a function whose first argument is the object."""
    function = copied(node)
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    function.name = apart(kind, node.name)
    function.decorator_list = [
        mark for mark in function.decorator_list if ast.unparse(mark) not in ("property", "staticmethod")
    ]
    if "staticmethod" in marks:
        function.args.args.insert(0, ast.arg("self"))
    function.args.args[0].annotation = ast.Name(kind, ast.Load())
    return function


def method_known(units: Units, values: tuple[Any, ...], name: str) -> str:
    """The function that `value.name` is for all `values`; nothing where that is not known."""
    kinds = {type(value) for value in values}
    if len(kinds) != 1:
        return ""
    kind = cast(type, kinds.pop())
    function, unit = apart(kind.__name__, name), units.get(kind.__module__)
    there = unit is not None and function in unit.definitions and name in vars(kind)
    return function if there else ""

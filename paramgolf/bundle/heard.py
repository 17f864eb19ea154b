"""What a script tells: lines of its log. The rest is not gathered.

In the package, an event is a dictionary that any listener may look into, and the log finds the function for its kind in
a table. A script has one listener: where an event is emitted, it calls the function that writes its lines.
"""

import ast
from collections.abc import Mapping
from typing import cast

from paramgolf.bundle.slim import BodiesFilled, copied
from paramgolf.bundle.tidy import simplified
from paramgolf.bundle.trees import Transformer, walk
from paramgolf.bundle.units import Definition, Unit, Units, home_of

LOG_MODULE, LOG_TABLE, EVENT = "paramgolf.challenge_log", "GRAMMAR", "event"
SETTINGS = frozenset({"tokenizer", "dataset", "heads", "tied", "val_pattern", "backend", "batch_tokens"})
"""Values of events; the lines that show them say what the configuration of a script says, or where it lay and ran."""
UNREAD_KINDS = frozenset({"warmup", "trained"})
"""Kinds of events of whose lines nothing that reads logs (`training_log.py`) makes anything."""

Heard = Mapping[str, frozenset[str]]
"""Kind of an event -> what of it some line of the log shows."""


class LinesLeftOut(Transformer):
    """Leaves lines out of lists of lines."""

    def visit_List(self, node: ast.List) -> ast.expr:
        node.elts = [item for item in node.elts if not SETTINGS & looked_up(item)]
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        return node


def looked_up(node: ast.AST) -> set[str]:
    """The values of an event that an expression shows."""
    parts = (inner for inner in walk(node) if isinstance(inner, ast.Subscript))
    return {str(part.slice.value) for part in parts if isinstance(part.slice, ast.Constant)}


def without_settings_repeated(units: Units) -> dict[str, Unit]:
    """The package without lines of the log that only say what the script was told or what its data are called."""
    unit = units[LOG_MODULE]
    new = {}
    for name, item in unit.definitions.items():
        node = item.node
        if isinstance(node, ast.FunctionDef) and EVENT in plain_parameters(node):
            node = simplified(LinesLeftOut().visit(copied(node)), frozenset({"join"}))
        new[name] = item._replace(node=node)
    return {**units, LOG_MODULE: unit._replace(definitions=new)}


def heard_events(units: Units) -> Heard:
    """What the log shows of which events."""
    writers = log_writers(units)
    return {kind: shown(units, name, set()) for kind, name in writers.items() if kind not in UNREAD_KINDS}


def shown(units: Units, name: str, seen: set[str]) -> frozenset[str]:
    """The values of an event that the function `name`, and what it calls, look up."""
    seen.add(name)
    home = home_of(units, LOG_MODULE, name)
    found: set[str] = set()
    for node in walk(home.definition.node) if home and home.definition else ():
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found.add(str(node.slice.value))
        elif isinstance(node, ast.Name) and node.id not in seen:
            found |= shown(units, node.id, seen)
    return frozenset(found)


def quieter(units: Units) -> dict[str, Unit]:
    """The package with its log written where events are emitted, and without what nobody is told."""
    writers, heard = log_writers(units), heard_events(units)
    rewrite, wider = Unheard(heard, writers), Told(units)
    new = {}
    for module, unit in units.items():
        changed: dict[str, Definition] = {}
        for name, item in unit.definitions.items():
            if module == LOG_MODULE and isinstance(item.node, ast.FunctionDef) and EVENT in plain_parameters(item.node):
                changed[name] = item._replace(node=wider.visit(copied(item.node)))
            elif says_something(item.node):
                changed[name] = item._replace(node=cast(ast.stmt, rewrite.visit(copied(item.node))))
        ours = {} if module == LOG_MODULE else dict.fromkeys(writers.values(), LOG_MODULE)
        new[module] = unit._replace(definitions={**unit.definitions, **changed}, ours={**unit.ours, **ours})
    return new


def says_something(node: ast.stmt) -> bool:
    """Whether a definition emits events."""
    return any(isinstance(inner, ast.Attribute) and inner.attr == "emit" for inner in walk(node))


def log_writers(units: Units) -> dict[str, str]:
    """Kind of an event -> the function that writes its lines."""
    table = units[LOG_MODULE].definitions[LOG_TABLE].node
    assert isinstance(table, ast.AnnAssign)
    assert isinstance(table.value, ast.Dict)
    pairs = zip(table.value.keys, table.value.values, strict=True)
    return {ast.literal_eval(key): ast.unparse(value) for key, value in pairs if key is not None}


def plain_parameters(node: ast.FunctionDef) -> list[str]:
    """Names of a function's plain parameters."""
    return [argument.arg for argument in node.args.args]


class Told(Transformer):
    """Gives functions of an event, in the module of the log, a parameter for each value that they look up."""

    def __init__(self, units: Units) -> None:
        self.units = units

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        names = sorted(shown(self.units, node.name, set()))
        node.args = ast.arguments([], [], None, [ast.arg(name) for name in names], [None] * len(names), None, [])
        self.generic_visit(node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.value.id == EVENT and isinstance(node.slice, ast.Constant):
            return ast.Name(str(node.slice.value), ast.Load())
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if [ast.unparse(item) for item in node.args] == [EVENT]:
            names = sorted(shown(self.units, ast.unparse(node.func), set()))
            return ast.Call(node.func, [], [ast.keyword(name, ast.Name(name, ast.Load())) for name in names])
        self.generic_visit(node)
        return node


class Unheard(BodiesFilled):
    """Leaves out events, and what of events, that nobody is told; hands on the lines of the others."""

    def __init__(self, heard: Heard, writers: Mapping[str, str]) -> None:
        self.heard = heard
        self.writers = writers

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "emit"):
            self.generic_visit(node)
            return node
        kind = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        if kind not in self.heard:
            return None
        call.keywords = [item for item in call.keywords if item.arg is None or item.arg in self.heard[str(kind)]]
        lines = ast.Call(ast.Name(self.writers[str(kind)], ast.Load()), [], call.keywords)
        node.value = ast.Call(ast.Attribute(call.func.value, "tell", ast.Load()), [lines], [])
        return node

"""What a script tells: the lines of its log, and the numbers of its result. The rest is not gathered."""

import ast
from collections.abc import Mapping

from paramgolf.bundle.slim import BodiesFilled
from paramgolf.bundle.units import Units, home_of

LOG_MODULE, LOG_TABLE = "paramgolf.challenge_log", "GRAMMAR"
TOLD = frozenset(
    {
        *("preset", "seed", "params", "steps", "train_seconds", "eval_seconds", "val_bpb_raw", "val_bpb_export"),
        *("val_bpb", "val_loss", "artifact_bytes", "code_bytes", "total_bytes"),
    }
)
"""Fields of `Result` that a script writes; a run of the package writes all."""

Heard = Mapping[str, frozenset[str]]
"""Kind of an event -> what of it some line of the log shows."""


def heard_events(units: Units) -> Heard:
    """What the log shows of which events."""
    table = units[LOG_MODULE].definitions[LOG_TABLE].node
    assert isinstance(table, ast.AnnAssign)
    assert isinstance(table.value, ast.Dict)
    pairs = zip(table.value.keys, table.value.values, strict=True)
    return {ast.literal_eval(key): shown(units, ast.unparse(value), set()) for key, value in pairs if key is not None}


def shown(units: Units, name: str, seen: set[str]) -> frozenset[str]:
    """The values of an event that the function `name`, and what it calls, look up."""
    seen.add(name)
    home = home_of(units, LOG_MODULE, name)
    found: set[str] = set()
    for node in ast.walk(home.definition.node) if home and home.definition else ():
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found.add(str(node.slice.value))
        elif isinstance(node, ast.Name) and node.id not in seen:
            found |= shown(units, node.id, seen)
    return frozenset(found)


class Unheard(BodiesFilled):
    """Leaves out events, and what of events and results, that nobody is told."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "emit"):
            self.generic_visit(node)
            return node
        kind = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        if kind not in self.heard:
            return None
        call.keywords = [item for item in call.keywords if item.arg is None or item.arg in self.heard[str(kind)]]
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "Result":
            node.keywords = [item for item in node.keywords if item.arg in TOLD]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        self.generic_visit(node)
        if node.name == "Result":
            fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            untold = [item for item in fields if ast.unparse(item.target) not in TOLD]
            node.body = [item for item in node.body if item not in untold]
        return node

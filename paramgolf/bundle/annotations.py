"""What annotations in the source of the package stand for."""

import ast
import types
from typing import Any

from paramgolf.bundle.known import hints_of


def evaluated(annotation: ast.expr, space: dict[str, Any]) -> Any:
    """The object that an annotation stands for; None where its names exist for type checkers only."""
    text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    if not isinstance(text, str):
        return None
    try:
        return hints_of(annotated_probe(text, space)).get("value")
    except SyntaxError:
        return None


def annotated_probe(text: str, space: dict[str, Any]) -> Any:
    """A function whose only annotation is `text`, in the name space `space`."""

    def probe() -> None: ...

    function = types.FunctionType(probe.__code__, space)
    function.__annotations__ = {"value": text}
    return function

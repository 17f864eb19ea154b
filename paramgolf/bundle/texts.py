"""What is known stands in the texts that are put together of it."""

import ast
from typing import cast

from paramgolf.bundle.trees import Transformer


class Texts(Transformer):
    """Puts known values, and texts in texts, into the text around."""

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        """What is known stands in the text."""
        node.value, given = cast(ast.expr, self.visit(node.value)), node.format_spec
        plain = given is None or (
            isinstance(given, ast.JoinedStr) and all(isinstance(v, ast.Constant) for v in given.values)
        )
        if isinstance(node.value, ast.Constant) and plain and node.conversion == -1:
            spec = (
                "".join(str(cast(ast.Constant, part).value) for part in cast(ast.JoinedStr, given).values)
                if given
                else ""
            )
            return ast.Constant(format(node.value.value, spec))
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Text alone, where nothing is left to put in."""
        self.generic_visit(node)
        node.values = [inner for part in node.values for inner in parts_apart(part)]
        texts = [part.value for part in node.values if isinstance(part, ast.Constant)]
        return ast.Constant("".join(map(str, texts))) if len(texts) == len(node.values) else node


def parts_apart(part: ast.expr) -> list[ast.expr]:
    """The parts of a text that stands in a text as it is; any other part alone."""
    plain = isinstance(part, ast.FormattedValue) and part.conversion == -1 and part.format_spec is None
    inner = cast(ast.FormattedValue, part).value if plain else None
    return inner.values if isinstance(inner, ast.JoinedStr) else [part]


def named_plainly(node: ast.expr) -> ast.expr:
    """`getattr(thing, 'name')` as `thing.name`."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != "getattr" or len(node.args) != 2:
        return node
    name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
    plain = isinstance(name, str) and name.isidentifier()
    return ast.Attribute(node.args[0], str(name), ast.Load()) if plain else node


def is_constant(node: ast.expr, value: bool) -> bool:
    """Whether `node` is a truth value itself."""
    return isinstance(node, ast.Constant) and node.value is value

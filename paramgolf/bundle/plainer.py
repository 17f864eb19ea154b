"""The same in plainer words: several attributes assigned at once, tuples put into tuples as they are written down."""

import ast
from typing import cast

import torch


class Plainer(ast.NodeTransformer):
    """Takes apart what is together for looks alone."""

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        """`a.x, a.y = p, q` in two statements, where no value could notice."""
        self.generic_visit(node)
        target, value = node.targets[0], node.value
        if len(node.targets) > 1 or not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple):
            return node
        kept = {
            item.attr for item in target.elts if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name)
        }
        still = all(is_path(item) and not attributes_in(item) & kept for item in value.elts)
        if len(kept) < len(target.elts) or len(target.elts) != len(value.elts) or not still:
            return node
        pairs = zip(target.elts, value.elts, strict=True)
        return [ast.copy_location(ast.Assign([left], right), node) for left, right in pairs]

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        self.generic_visit(node)
        node.elts = spread_out(node.elts)
        return node

    def visit_List(self, node: ast.List) -> ast.expr:
        self.generic_visit(node)
        node.elts = spread_out(node.elts)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        node.args = spread_out(node.args)
        return node


def spread_out(items: list[ast.expr]) -> list[ast.expr]:
    """`*(a, b)` as `a, b`."""
    found: list[ast.expr] = []
    for item in items:
        inner = item.value if isinstance(item, ast.Starred) else None
        found += inner.elts if isinstance(inner, ast.Tuple | ast.List) else [item]
    return found


def is_path(node: ast.expr) -> bool:
    """Whether `node` is a plain value, a name, or attributes of one."""
    return isinstance(node, ast.Constant | ast.Name) or (isinstance(node, ast.Attribute) and is_path(node.value))


def attributes_in(node: ast.expr) -> set[str]:
    """Names of the attributes that `node` asks for."""
    return {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}


def plainer(node: ast.stmt) -> ast.stmt:
    """`node`, changed in place."""
    result = Plainer().visit(node)
    assert isinstance(result, ast.stmt)
    return result


def as_statements(result: ast.AST | list[ast.stmt] | None) -> list[ast.stmt]:
    """What a visit gave, as statements."""
    return [] if result is None else result if isinstance(result, list) else [cast(ast.stmt, result)]


def until_the_end(block: list[ast.stmt]) -> list[ast.stmt]:
    """The statements up to the first that leaves the block."""
    ends = (
        place for place, item in enumerate(block) if isinstance(item, ast.Return | ast.Raise | ast.Continue | ast.Break)
    )
    return block[: next(ends, len(block)) + 1]


def is_function_of_autograd(kind: type) -> bool:
    """Whether the methods of a class get an object to keep things in, whatever their decorator says."""
    return issubclass(kind, torch.autograd.Function)

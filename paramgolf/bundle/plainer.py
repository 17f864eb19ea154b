"""The same in plainer words: several attributes assigned at once, tuples put into tuples as they are written down."""

import ast
from typing import Any, cast

import torch

from paramgolf.bundle.trees import Transformer, walk


class Plainer(Transformer):
    """Takes apart what is together for looks alone."""

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        """`a.x, a.y = p, q` in two statements, where no value could notice."""
        self.generic_visit(node)
        target, value = node.targets[0], node.value
        if len(node.targets) > 1 or not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple):
            return node
        kept = [item.attr for item in target.elts if isinstance(item, ast.Attribute) and is_path(item.value)]
        if not len(kept) == len(target.elts) == len(value.elts):
            return node
        if not all(is_path(item) and not attributes_in(item) & {*kept[:n]} for n, item in enumerate(value.elts)):
            return node
        pairs = zip(target.elts, value.elts, strict=True)
        return [ast.copy_location(ast.Assign([left], right), node) for left, right in pairs]

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        """`if (x := None) is None` always holds."""
        self.generic_visit(node)
        test = node.test
        if not (isinstance(test, ast.Compare) and isinstance(test.left, ast.NamedExpr) and len(test.ops) == 1):
            return node
        if not all(ast.unparse(side) == "None" for side in (test.left.value, test.comparators[0])):
            return node
        block = node.body if isinstance(test.ops[0], ast.Is) else node.orelse
        if not isinstance(test.ops[0], ast.Is | ast.IsNot):
            return node
        target = test.left.target
        assigned = ast.Assign([ast.Name(target.id, ast.Store())], ast.Constant(None))
        return block if bound_first(block, target.id) else [ast.copy_location(assigned, node), *block]

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        """`[x for x in y]` is `[*y]`."""
        self.generic_visit(node)
        [first, *more] = node.generators
        if more or first.ifs or first.is_async or ast.unparse(node.elt) != ast.unparse(first.target):
            return node
        return ast.List([ast.Starred(first.iter, ast.Load())], ast.Load()) if isinstance(node.elt, ast.Name) else node

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


def bound_first(block: list[ast.stmt], name: str) -> bool:
    """Whether a block binds a name before it may read it, and for certain."""
    for item in block:
        if isinstance(item, ast.Assign) and [ast.unparse(target) for target in item.targets] == [name]:
            return all(not isinstance(inner, ast.Name) or inner.id != name for inner in walk(item.value))
        if any(isinstance(inner, ast.Name) and inner.id == name for inner in walk(item)):
            return False
    return False


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
    return {inner.attr for inner in walk(node) if isinstance(inner, ast.Attribute)}


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


def spelled(value: Any) -> ast.expr:
    """The expression for a plain value."""
    return ast.parse(repr(value), mode="eval").body


def is_function_of_autograd(kind: type) -> bool:
    """Whether the methods of a class get an object to keep things in, whatever their decorator says."""
    return issubclass(kind, torch.autograd.Function)

"""In which order an expression is evaluated, and what in it is evaluated for certain."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from paramgolf.bundle.trees import children, walk

LOUD = ast.Call | ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr
"""Expressions that may do something, rather than only give a value."""
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Evaluated(NamedTuple):
    """A part of an expression, told when its own parts have been."""

    node: ast.expr
    sure: bool
    """Whether it is evaluated once whenever the whole is."""


def evaluation(node: ast.AST, sure: bool = True) -> Iterator[Evaluated]:
    """Every part of `node` in the order of evaluation."""
    for place, child in enumerate(parts_in_order(node)):
        yield from evaluation(child, sure and not is_perhaps(node, place))
    if isinstance(node, ast.expr):
        yield Evaluated(node, sure)


def parts_in_order(node: ast.AST) -> list[ast.AST]:
    """What `node` consists of, in the order of evaluation."""
    if isinstance(node, ast.IfExp):
        return [node.test, node.body, node.orelse]
    if isinstance(node, COMPREHENSIONS):
        first, *rest = node.generators
        made: list[ast.AST] = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        return [first.iter, first.target, *first.ifs, *rest, *made]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [part for pair in pairs for part in pair if part is not None]
    return children(node)


def is_perhaps(node: ast.AST, place: int) -> bool:
    """Whether the part of `node` at `place` may be passed over, or come more than once."""
    if isinstance(node, ast.Lambda):
        return True
    if isinstance(node, ast.BoolOp | ast.IfExp | COMPREHENSIONS):
        return place > 0
    return isinstance(node, ast.Compare) and place > 1


def is_loud(node: ast.AST) -> bool:
    """Whether evaluating `node` may do something."""
    return any(isinstance(inner, LOUD) for inner in walk(node))


def may_stand(value: ast.AST, whole: ast.expr, place: ast.expr) -> bool:
    """Whether Python takes `value` at `place` in `whole`: no name is bound by an expression inside a comprehension."""
    if not any(isinstance(inner, ast.NamedExpr) for inner in walk(value)):
        return True
    around = [node for node in walk(whole) if isinstance(node, COMPREHENSIONS)]
    return not any(inner is place for node in around for inner in walk(node))


def heads_of(statement: ast.stmt) -> list[ast.expr]:
    """What a statement evaluates first: its value, its condition, what it goes over."""
    if isinstance(statement, ast.AugAssign):
        return [statement.value] if isinstance(statement.target, ast.Name) else []
    if isinstance(statement, ast.Assign | ast.Expr | ast.Return):
        return [statement.value] if statement.value is not None else []
    if isinstance(statement, ast.If):
        return [statement.test]
    if isinstance(statement, ast.For):
        return [statement.iter]
    if isinstance(statement, ast.With):
        return [statement.items[0].context_expr]
    return [statement.exc] if isinstance(statement, ast.Raise) and statement.exc is not None else []


def comes_first(whole: ast.expr, part: ast.expr) -> bool:
    """Whether `part` is evaluated for certain, and nothing that does anything before it but its own parts."""
    own = {id(inner) for inner in walk(part)}
    for node, sure in evaluation(whole):
        if node is part:
            return sure
        if isinstance(node, LOUD) and id(node) not in own:
            return False
    return False


def only_names_before(head: ast.expr, part: ast.expr) -> bool:
    """Whether, before `part`, `head` reads nothing that a call could change: no attribute but of what is called."""
    own = {id(inner) for inner in walk(part)}
    functions_called = {id(inner.func) for inner in walk(head) if isinstance(inner, ast.Call)}
    for node, _ in evaluation(head):
        if node is part:
            return True
        if id(node) in own or isinstance(node, ast.Name | ast.Constant):
            continue
        if not (isinstance(node, ast.Attribute) and id(node) in functions_called):
            return False
    return False

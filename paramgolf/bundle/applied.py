"""Calls that come to a function of ours by way of a library: kernels launched, functions of autograd, operators."""

import ast
from collections.abc import Container, Iterator
from typing import TypeGuard

from paramgolf.bundle.trees import walk

APPLY = ".apply"
"""After the name of a function of autograd: its `forward`, which gets what `apply` is given."""
ASKED = "needs_input_grad"
FREEZES = frozenset({"requires_grad", "requires_grad_"})
"""What takes part in keeping weights from learning. Where nothing does, every gradient of a weight is wanted."""


def names_reached(func: ast.expr, functions: Container[str]) -> ast.Name | None:
    """What `kernel[grid]`, or `Function.apply` of one of `functions`, names; None where `func` is anything else."""
    inner = func.value if isinstance(func, ast.Subscript | ast.Attribute) else None
    if not isinstance(inner, ast.Name):
        return None
    applies = isinstance(func, ast.Attribute) and f".{func.attr}" == APPLY and inner.id in functions
    return inner if applies or isinstance(func, ast.Subscript) else None


def is_launched(node: ast.FunctionDef) -> bool:
    """Whether a function is compiled for each launch by Triton."""
    return [ast.unparse(mark) for mark in node.decorator_list] == ["triton.jit"]


def describes(mark: ast.expr) -> TypeGuard[ast.Attribute]:
    """Whether a decorator makes a function tell the shapes of what an operator gives."""
    return isinstance(mark, ast.Attribute) and mark.attr == "register_fake"


def operators_described(node: ast.FunctionDef) -> Iterator[str]:
    """The operators of which a function tells the shapes: it gets what they get."""
    for mark in node.decorator_list:
        if describes(mark):
            yield ast.unparse(mark.value)


def is_applied(node: ast.stmt) -> TypeGuard[ast.ClassDef]:
    """Whether a class is a function of autograd that is nothing but its two passes."""
    if not isinstance(node, ast.ClassDef) or [ast.unparse(base) for base in node.bases] != ["torch.autograd.Function"]:
        return False
    parts = [getattr(part, "name", "") for part in node.body if not is_prose(part)]
    return sorted(parts) == ["backward", "forward"]


def is_prose(part: ast.stmt) -> bool:
    """Whether a statement documents."""
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


def forward_of(node: ast.ClassDef) -> ast.FunctionDef:
    """The forward pass of a function of autograd."""
    return next(part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "forward")


def gradients(node: ast.ClassDef) -> list[ast.expr | None]:
    """What a function of autograd returns as gradients, wherever it does."""
    backward = next(part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "backward")
    return [inner.value for inner in walk(backward) if isinstance(inner, ast.Return)]


def questions(node: ast.ClassDef) -> list[ast.Constant]:
    """The places of which a function of autograd asks whether a gradient is wanted."""
    found = [inner for inner in walk(node) if isinstance(inner, ast.Subscript) and asks(inner.value)]
    return [inner.slice for inner in found if isinstance(inner.slice, ast.Constant)]


def asks(node: ast.AST) -> bool:
    """Whether `node` is the list of what gradients are wanted."""
    return isinstance(node, ast.Attribute) and node.attr == ASKED


def only_asks(node: ast.Attribute) -> bool:
    """Whether a property is only read."""
    return isinstance(node.ctx, ast.Load) and not node.attr.endswith("_")


def freezes(node: ast.AST) -> bool:
    """Whether a definition has to do with which tensors get gradients."""
    return any(
        (isinstance(inner, ast.Attribute) and inner.attr in FREEZES and not only_asks(inner))
        or (isinstance(inner, ast.keyword) and inner.arg in FREEZES)
        for inner in walk(node)
    )


def can_lose(node: ast.ClassDef, place: int) -> bool:
    """Whether a function of autograd gives no gradient for its argument at `place`, and never asks about it."""
    for value in gradients(node):
        first = value.elts[: place + 1] if isinstance(value, ast.Tuple) else []
        if len(first) <= place or any(isinstance(item, ast.Starred) for item in first):
            return False
        if ast.unparse(first[place]) != "None":
            return False
    asked = questions(node)
    return sum(map(asks, walk(node))) == len(asked) and all(one.value != place for one in asked)


def lose(node: ast.ClassDef, place: int) -> None:
    """Take the gradient for the argument at `place` out of a function of autograd."""
    for value in gradients(node):
        assert isinstance(value, ast.Tuple)
        del value.elts[place]
    for asked in questions(node):
        if isinstance(asked.value, int) and asked.value > place:
            asked.value -= 1

"""The attention backends that a script can come to: on the contest's chip, down to the first that is always there.

`choose` goes through a list of backends and takes the first that is present. FlexAttention and cuDNN come with torch
and run on every chip since Hopper, so whatever the list has after one of them is never taken, and a script has no use
for it. A CPU, where a bundle is proven, has `sdpa`.
"""

import ast
from collections.abc import Iterable

from paramgolf.bundle.fold import folded
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.known import Facts
from paramgolf.bundle.slim import copied
from paramgolf.bundle.trees import Transformer, walk
from paramgolf.bundle.units import Definition, Units
from paramgolf.model.attention import KERNELS
from paramgolf.run import Run

ATTENTION, PREFERRED, BASE = "paramgolf.model.attention", "preferred", "sdpa"
MPS = "mps"
"""A kind of device that scripts do not run on."""
ALWAYS_THERE = frozenset({"flex", "cudnn", "sdpa"})
"""Backends that every chip of a contest has: Hopper or later, with the torch that this package asks for."""


def unused_backends(run: Run, facts: Facts, units: Units) -> frozenset[str]:
    """Names of backends that the script of `run` never takes."""
    if run.model.backend != "auto":
        return frozenset(KERNELS) - {run.model.backend, BASE}
    preferred = folded(units[ATTENTION].definitions[PREFERRED].node, facts, units, ATTENTION, Gathered())
    used = {BASE}
    for node in walk(preferred):
        if isinstance(node, ast.Tuple) and all(isinstance(item, ast.Constant) for item in node.elts):
            used |= set(up_to_one_always_there(item.value for item in node.elts if isinstance(item, ast.Constant)))
    return frozenset(KERNELS) - used


def up_to_one_always_there(names: Iterable[object]) -> list[str]:
    """The names in order up to the first that is always there, that one included."""
    kept: list[str] = []
    for name in names:
        kept.append(str(name))
        if name in ALWAYS_THERE:
            break
    return kept


class WithoutBackends(Transformer):
    """Leaves backends out of lists and tables; nothing is equal to one of them."""

    def __init__(self, unused: frozenset[str]) -> None:
        self.unused = unused

    def is_unused(self, node: ast.AST | None) -> bool:
        """Whether `node` is the name of a backend that is never taken."""
        return isinstance(node, ast.Constant) and node.value in self.unused

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        kept = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if not self.is_unused(key)]
        return ast.Dict([key for key, _ in kept], [value for _, value in kept])

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        node.elts = [item for item in node.elts if not self.is_unused(item)]
        return node

    def visit_List(self, node: ast.List) -> ast.expr:
        node.elts = [item for item in node.elts if not self.is_unused(item)]
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """`[name] if it is present else []`."""
        self.generic_visit(node)
        return node.body if ast.unparse(node.body) == ast.unparse(node.orelse) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt | None:
        self.generic_visit(node)
        return None if isinstance(node.value, ast.List) and not node.value.elts else node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        """`found.append(name)`."""
        call = node.value
        return None if isinstance(call, ast.Call) and any(map(self.is_unused, call.args)) else node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if len(node.ops) == 1 and self.is_unused(node.comparators[0]):
            return ast.Constant(isinstance(node.ops[0], ast.NotEq))
        return node


def without_backends(item: Definition, unused: frozenset[str]) -> ast.stmt:
    """The statement of a definition, a copy if it is of the module that knows backends."""
    other = any(isinstance(inner, ast.Constant) and inner.value == MPS for inner in walk(item.node))
    if other and item.module != ATTENTION:
        unused = frozenset({MPS})
    elif item.module != ATTENTION or not unused:
        return item.node
    else:
        unused |= {MPS}
    node = WithoutBackends(unused).visit(copied(item.node))
    return node if isinstance(node, ast.stmt) else ast.Pass()

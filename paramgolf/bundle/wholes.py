"""Where a program reads every field of a record: taken apart, gone over, compared, or asked for all."""

import ast

from paramgolf.bundle.evaluator import Evaluator
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.guards import OTHERS
from paramgolf.bundle.items import Scope
from paramgolf.bundle.known import Fact, Instance, live
from paramgolf.bundle.quiet import called
from paramgolf.bundle.records import ALL_FIELDS

THEIRS = frozenset({"shape", "saved_tensors", "args"})
"""Attributes of libraries that are taken apart."""


class Wholes:
    """Notes the classes of records that are read whole."""

    def __init__(self, evaluator: Evaluator, gathered: Gathered) -> None:
        self.evaluator = evaluator
        self.gathered = gathered

    def read(self, node: ast.expr, scope: Scope) -> None:
        """Every field of a value is read."""
        loaded = isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
        fact = self.evaluator.fact(node, scope) if loaded else None
        if isinstance(fact, Instance):
            self.gathered.taken_apart.add(fact.kind)

    def told(self, node: ast.Attribute, whole: Fact) -> None:
        """An attribute, of what is known as `whole`, may tell of all fields; of whatever record, where that is open."""
        if node.attr in ALL_FIELDS:
            named = live(self.evaluator.module, node.value.id) if isinstance(node.value, ast.Name) else None
            kind = whole.kind if isinstance(whole, Instance) else named
            self.gathered.taken_apart.add(kind if isinstance(kind, type) else object)

    def apart(self, target: ast.AST, value: ast.expr | None, scope: Scope, fact: Fact = None) -> None:
        """A value, or what is known by `fact` alone, is bound to `target`, perhaps to several names."""
        if not isinstance(target, ast.Tuple | ast.List):
            return
        if value is not None:
            fact = self.evaluator.fact(value, scope)
        if isinstance(fact, Instance):
            self.gathered.taken_apart.add(fact.kind)
        elif fact is None and not (value is not None and is_of_others(value)):
            self.gathered.unpacked.add(tuple(map(ast.unparse, target.elts)))
        for place, item in enumerate(target.elts):
            given = value.elts[place] if isinstance(value, ast.Tuple) and place < len(value.elts) else None
            self.apart(item, given, scope)

    def each_apart(self, target: ast.AST, items: ast.expr, scope: Scope) -> None:
        """Every item of `items` is bound to `target`, perhaps to several names."""
        if not isinstance(target, ast.Tuple | ast.List):
            return
        inner: list[ast.expr | None] = []
        if isinstance(items, ast.Call) and called(items) == "enumerate":
            inner = [None, items.args[0]]
        elif isinstance(items, ast.Call) and called(items) == "zip":
            inner = [*items.args]
        elif isinstance(items, ast.Call) and called(items) == "items":
            inner = [None, None]
        if len(inner) != len(target.elts):
            self.apart(target, None, scope, self.evaluator.each(items, scope))
            return
        for item, given in zip(target.elts, inner, strict=True):
            if given is not None:
                self.each_apart(item, given, scope)
            else:
                self.apart(item, None, scope)


def is_of_others(value: ast.expr) -> bool:
    """Whether a value is a library's, as far as names tell: a shape, what a tensor's method gives, a tuple."""
    if isinstance(value, ast.Subscript):
        return is_of_others(value.value)
    if isinstance(value, ast.GeneratorExp | ast.ListComp | ast.Tuple | ast.List | ast.BinOp | ast.Constant):
        return True
    if isinstance(value, ast.Attribute):
        return value.attr in THEIRS
    return isinstance(value, ast.Call) and any(hasattr(other, called(value)) for other in OTHERS)

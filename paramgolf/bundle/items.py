"""What is known of what holds others: of its items one by one, or of what they have in common."""

import ast
import dataclasses
import operator
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, cast

from paramgolf.bundle.known import Fact, Facts, Instance, Modules, OneOf, distinct, hints_of, live
from paramgolf.bundle.plainer import is_path
from paramgolf.bundle.slim import copied
from paramgolf.bundle.trees import Transformer
from paramgolf.bundle.units import Units, home_of

Scope = dict[str, Fact]
"""Local names of a function; a name that is there hides the module's."""
EMPTY = OneOf(((),))
"""What is known of a tuple without items, and of whatever else is gone over and holds nothing."""
AGREED = "agree"
"""The method that gives the first rank's values to all."""
RANGES = frozenset({"range", "tl.range", "tl.static_range"})
OVER_ITEMS: dict[str, Callable[..., Any]] = {"any": any, "all": all, "tuple": tuple, "len": len}


FEW_PARTS = 4


class Instead(Transformer):
    """Puts expressions in the place of names."""

    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copied(self.values[node.id]) if node.id in self.values else node


class OverItems:
    """The part of an evaluator that goes over things."""

    facts: Facts
    units: Units
    module: str

    def fact(self, node: ast.expr, scope: Scope, depth: int = 0) -> Fact:
        """What is known of the value of `node`."""
        raise NotImplementedError

    def truth(self, node: ast.expr, scope: Scope, depth: int = 0) -> bool | None:
        """Whether `node` is true, where that is known."""
        raise NotImplementedError

    def combined(self, work: Callable[..., Any], nodes: list[ast.expr], scope: Scope, depth: int) -> Fact:
        """`work` on every combination of the values of `nodes`."""
        raise NotImplementedError

    def comprehended(self, node: ast.DictComp | ast.GeneratorExp, scope: Scope, depth: int) -> Fact:
        """What a comprehension gives, where that is known."""
        if isinstance(node, ast.DictComp):
            return self.table(node, scope, depth)
        return EMPTY if self.fact(node.generators[0].iter, scope, depth) == EMPTY else None

    def table(self, node: ast.DictComp, scope: Scope, depth: int) -> Fact:
        """A dictionary of what is known, one value for each of known things."""
        [first, *more] = node.generators
        known = self.fact(first.iter, scope, depth)
        if more or first.ifs or not isinstance(first.target, ast.Name) or not isinstance(known, OneOf):
            return None
        if len(known.values) > 1 or type(known.values[0]) is not tuple:
            return None
        found = {}
        for item in known.values[0]:
            inner = {**scope, first.target.id: OneOf((item,))}
            pair = [self.fact(part, inner, depth) for part in (node.key, node.value)]
            if not all(isinstance(fact, OneOf) and fact.plain for fact in pair):
                return None
            key, value = (cast(OneOf, fact).values[0] for fact in pair)
            found[key] = value
        return OneOf((found,)) if found else None

    def bound(self, target: ast.expr, items: ast.expr, scope: Scope) -> Scope:
        """What is known of the names that each of `items` is bound to."""
        if isinstance(target, ast.Name):
            return {target.id: self.item(items, scope)}
        if not isinstance(target, ast.Tuple) or not isinstance(items, ast.Call) or ast.unparse(items.func) != "zip":
            return {}
        both = zip(target.elts, items.args, strict=False)
        return {name.id: self.item(given, scope) for name, given in both if isinstance(name, ast.Name)}

    def apiece(self, node: ast.expr, scope: Scope) -> ast.List | None:
        """A list that is made from a few parts of the configuration, each with its own expression; else None."""
        if not isinstance(node, ast.ListComp) or len(node.generators) > 1 or node.generators[0].ifs:
            return None
        place = node.generators[0]
        known = self.fact(place.iter, scope)
        parts = known.values[0] if isinstance(known, OneOf) and len(known.values) == 1 else None
        if type(parts) is not tuple or len(parts) > FEW_PARTS or not all(map(dataclasses.is_dataclass, parts)):
            return None
        if not isinstance(place.target, ast.Name) or not is_path(place.iter):
            return None
        each = [ast.Subscript(copied(place.iter), ast.Constant(n), ast.Load()) for n in range(len(parts))]
        return ast.List([Instead({place.target.id: one}).visit(copied(node.elt)) for one in each], ast.Load())

    def is_of_others(self, node: ast.expr, scope: Scope) -> bool:
        """Whether `node` is a module or class of a library."""
        home = (
            home_of(self.units, self.module, node.id) if isinstance(node, ast.Name) and node.id not in scope else None
        )
        return home is not None and home.definition is None

    def of_items(self, node: ast.Call, func: ast.Attribute, scope: Scope, depth: int) -> Fact:
        """A call of a method that goes over what it has, or has been given."""
        if func.attr in ("items", "keys", "values") and not node.args:
            return EMPTY if self.fact(func.value, scope, depth) == OneOf(({},)) else None
        if ast.unparse(func) == "dict.fromkeys" and len(node.args) == 1:
            return self.combined(lambda items: distinct(tuple(items)), node.args, scope, depth)
        if func.attr == AGREED and len(node.args) == 1:
            given = node.args[0]  # what is known is the same on every rank
            return self.combined(lambda *items: items, given.elts, scope, depth) if type(given) is ast.List else None
        return None

    def counted(self, ends: list[ast.expr], scope: Scope, depth: int) -> Fact:
        """A range from one number up to another, if it holds nothing."""
        return EMPTY if self.combined(operator.lt, ends, scope, depth) == OneOf((False,)) else None

    def over_items(self, name: str, given: ast.expr, scope: Scope, depth: int) -> Fact:
        """`len`, `tuple`, `any` and `all` of what is known item by item, or of what all items have in common."""
        if name == "len":
            whole = self.fact(given, scope, depth)
            return OneOf((len(whole.kinds),)) if isinstance(whole, Modules) else None
        if not isinstance(given, ast.GeneratorExp) or len(given.generators) > 1 or given.generators[0].ifs:
            return None
        place = given.generators[0]
        items = self.items(place.iter, scope, depth)
        if not isinstance(place.target, ast.Name):
            return None
        if items is None:
            common = self.item(place.iter, scope)
            ends = name == "any"
            truth = self.truth(given.elt, {**scope, place.target.id: common}, depth) if common else None
            return OneOf((ends is False,)) if name != "tuple" and truth is not None and truth is not ends else None
        facts = [self.fact(given.elt, {**scope, place.target.id: item}, depth) for item in items]
        if not all(isinstance(fact, OneOf) and len(fact.values) == 1 for fact in facts):
            return None
        return OneOf((OVER_ITEMS[name](cast(OneOf, fact).values[0] for fact in facts),))

    def items(self, node: ast.expr, scope: Scope, depth: int) -> list[Fact] | None:
        """What is known of each item of `node`, where it is known how many there are."""
        whole = self.fact(node, scope, depth)
        if isinstance(whole, Modules):
            return [Instance(kind) for kind in whole.kinds]
        if isinstance(node, ast.Tuple) and not any(isinstance(item, ast.Starred) for item in node.elts):
            return [self.fact(item, scope, depth) for item in node.elts]
        return None

    def each(self, node: ast.expr, scope: Scope) -> Fact:
        """What annotations say of the items of what a call, an attribute or a parameter gives."""
        if isinstance(node, ast.Name):
            return scope.get(f"{node.id}[]")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in scope:
            home = home_of(self.units, self.module, node.func.id)
            made = live(home.definition.module, home.definition.name) if home and home.definition else None
            return self.facts.items_of(hints_of(made).get("return")) if isinstance(made, FunctionType) else None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            whole = self.fact(node.func.value, scope)
            method = getattr(whole.kind, node.func.attr, None) if isinstance(whole, Instance) else None
            return self.facts.items_of(hints_of(method).get("return")) if isinstance(method, FunctionType) else None
        if isinstance(node, ast.Attribute):
            whole = self.fact(node.value, scope)
            return self.facts.items_of(hints_of(whole.kind).get(node.attr)) if isinstance(whole, Instance) else None
        return None

    def item(self, node: ast.expr, scope: Scope) -> Fact:
        """What is known of every item of `node`."""
        fact = self.fact(node, scope)
        if fact is None:
            return self.each(node, scope)
        if not isinstance(fact, OneOf) or not all(type(value) is tuple for value in fact.values):
            return None
        items = distinct(tuple(item for value in fact.values for item in value))
        return OneOf(items) if items else None


def unknown(names: Iterable[str]) -> Scope:
    """Names of which nothing is known, nor of their items."""
    return {key: None for name in names for key in (name, f"{name}[]")}

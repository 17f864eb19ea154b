"""What is known of the value of an expression."""

import ast
import dataclasses
import itertools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, cast, get_type_hints

from torch import nn

from paramgolf.bundle.absent import is_absent
from paramgolf.bundle.applied import ASKED
from paramgolf.bundle.bindings import assigned_pairs, stored_names
from paramgolf.bundle.gather import APPLIED, LAUNCHED
from paramgolf.bundle.items import EMPTY, OVER_ITEMS, RANGES, OverItems, Scope
from paramgolf.bundle.known import Fact, Facts, Instance, Modules, OneOf, distinct, hints_of, live
from paramgolf.bundle.quiet import called
from paramgolf.bundle.trees import walk
from paramgolf.bundle.units import Home, Units, home_of

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
SAMENESS: dict[type[ast.cmpop], bool] = {ast.Is: True, ast.Eq: True, ast.IsNot: False, ast.NotEq: False}
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
EITHER = OneOf((False, True))
"""What is known of a truth value."""
OVER_NOTHING = frozenset({"zip", "enumerate", "reversed", "sorted", "tuple"})
"""Builtins that give nothing when what they go over holds nothing."""
TEXT_METHODS = frozenset({"lower", "upper", "replace", "removeprefix", "removesuffix", "startswith", "endswith"})
"""Methods of texts that give another, or a truth."""
PURE: dict[str, Callable[..., Any]] = {
    "any": any,
    "all": all,
    "len": len,
    "bool": bool,
    "max": max,
    "min": min,
    "tuple": tuple,
    "range": range,
}
DEEPEST = 4
"""Calls within calls that are followed."""
FEW = 64
"""More combinations than this are not tried out."""


class Named(NamedTuple):
    """A type, of which only its name matters."""

    name: str


class Evaluator(OverItems):
    """What is known of expressions in one module."""

    def __init__(self, facts: Facts, units: Units, module: str) -> None:
        self.facts = facts
        self.units = units
        self.module = module

    def fact(self, node: ast.expr, scope: Scope, depth: int = 0) -> Fact:
        """What is known of the value of `node`."""
        if isinstance(node, ast.Constant):
            return OneOf((node.value,))
        if isinstance(node, ast.Name):
            return scope[node.id] if node.id in scope else self.facts.globals.get(node.id)
        if isinstance(node, ast.Attribute) and node.attr == "__name__":
            return self.type_name(self.fact(node.value, scope, depth))
        if isinstance(node, ast.Attribute):
            return self.facts.attribute(self.fact(node.value, scope, depth), node.attr)
        if isinstance(node, ast.Tuple):
            return self.combined(lambda *items: items, node.elts, scope, depth)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            decided = self.truth(node.operand, scope, depth)
            return None if decided is None else OneOf((not decided,))
        if isinstance(node, ast.Compare):
            return self.comparisons(node, scope, depth)
        if isinstance(node, ast.BoolOp):
            return self.picked(node, scope, depth)
        if isinstance(node, ast.BinOp):
            work = ARITHMETIC.get(type(node.op))
            return self.combined(work, [node.left, node.right], scope, depth) if work else None
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == f"ctx.{ASKED}":
            return None if self.facts.freezes else OneOf((True,))
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
            whole = self.fact(node.value, scope, depth)
            if isinstance(whole, Modules) and isinstance(node.slice, ast.Constant) and type(node.slice.value) is int:
                place = node.slice.value  # beyond the last one in a branch that is never taken
                return Instance(whole.kinds[place]) if place < len(whole.kinds) else None
            return self.combined(operator.getitem, [node.value, node.slice], scope, depth)
        if isinstance(node, ast.IfExp):
            decided = self.truth(node.test, scope, depth)
            return None if decided is None else self.fact(node.body if decided else node.orelse, scope, depth)
        if isinstance(node, ast.DictComp | ast.GeneratorExp):
            return self.comprehended(node, scope, depth)
        return self.call(node, scope, depth) if isinstance(node, ast.Call) else None

    def type_name(self, fact: Fact) -> Fact:
        """The name of a known type."""
        if not isinstance(fact, OneOf) or not all(isinstance(value, Named) for value in fact.values):
            return None
        return OneOf(tuple(value.name for value in fact.values))

    def reached_by(self, func: ast.expr, scope: Scope) -> tuple[str, str] | None:
        """What `kernel[grid](...)` and `Function.apply(...)` call with their arguments."""
        inner = func.value if isinstance(func, ast.Subscript | ast.Attribute) else None
        applies = isinstance(func, ast.Attribute) and func.attr == "apply"
        if not isinstance(inner, ast.Name) or inner.id in scope or not (applies or isinstance(func, ast.Subscript)):
            return None
        home = home_of(self.units, self.module, inner.id)
        if home is None or home.definition is None:
            return None
        return (home.definition.module, f"{inner.id}{APPLIED}" if applies else f"{inner.id}{LAUNCHED}")

    def is_truth(self, node: ast.expr, scope: Scope) -> bool:
        """Whether the value of `node` is True or False, as far as that can be seen."""
        if isinstance(node, ast.Constant):
            return type(node.value) is bool
        if isinstance(node, ast.Compare):
            return all(isinstance(how, ast.Is | ast.IsNot) for how in node.ops)
        if isinstance(node, ast.UnaryOp):
            return isinstance(node.op, ast.Not)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id in scope:
            return False
        return hints_of(live(self.module, node.func.id)).get("return") is bool

    def truth(self, node: ast.expr, scope: Scope, depth: int = 0) -> bool | None:
        """Whether `node` is true, where that is known."""
        if isinstance(node, ast.BoolOp):
            return self.junction(node, scope, depth)
        fact = self.fact(node, scope, depth)
        if isinstance(fact, Modules):
            return bool(fact.kinds)
        if not isinstance(fact, OneOf):
            return None
        found = {bool(value) for value in fact.values}
        return found.pop() if len(found) == 1 else None

    def picked(self, node: ast.BoolOp, scope: Scope, depth: int) -> Fact:
        """The value of an `and` or `or`: that of its first term that ends it, or of its last."""
        ends = isinstance(node.op, ast.Or)
        if all(map(is_silent, node.values)):
            whole = self.combined(lambda *items: first_that_ends(items, ends), node.values, scope, depth)
            if whole is not None:
                return whole
        for value in node.values[:-1]:
            decided = self.truth(value, scope, depth)
            if decided is None:
                return None
            if decided is ends:
                return self.fact(value, scope, depth)
        return self.fact(node.values[-1], scope, depth)

    def junction(self, node: ast.BoolOp, scope: Scope, depth: int) -> bool | None:
        """The truth of an `and` or `or`. One decided term may decide it, whatever the others are."""
        ends = isinstance(node.op, ast.Or)
        found = [self.truth(value, scope, depth) for value in node.values]
        if ends in found and all(is_silent(value) for value in node.values[: found.index(ends)]):
            return ends
        return None if None in found else not ends

    def comparisons(self, node: ast.Compare, scope: Scope, depth: int) -> Fact:
        """A chain of comparisons: one that fails decides it, if those before it say nothing."""
        sides = [node.left, *node.comparators]
        links = [
            ast.Compare(left, [how], [right]) for left, how, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        if len(links) == 1:
            return self.comparison(node, scope, depth)
        decided = self.junction(ast.BoolOp(ast.And(), [*links]), scope, depth)
        return None if decided is None else OneOf((decided,))

    def comparison(self, node: ast.Compare, scope: Scope, depth: int) -> Fact:
        """A comparison, tried out on every value."""
        compare = COMPARISONS[type(node.ops[0])]
        sides = [node.left, node.comparators[0]]
        member = isinstance(node.ops[0], ast.In | ast.NotIn) and is_silent(node.left)
        if member and self.truth(sides[1], scope, depth) is False:  # nothing is in what is empty
            return OneOf((isinstance(node.ops[0], ast.NotIn),))
        if isinstance(node.ops[0], ast.Is | ast.IsNot) and self.same_method(sides[0], sides[1], scope):
            return OneOf((isinstance(node.ops[0], ast.Is),))
        same = SAMENESS.get(type(node.ops[0]))
        if same is not None and all(map(is_silent, sides)) and any(is_absent(s, self.facts.absent) for s in sides):
            return OneOf((not same,))
        if isinstance(node.ops[0], ast.Is | ast.IsNot) and not any(
            isinstance(side, ast.Constant) and side.value is None for side in sides
        ):
            return EITHER
        fact = self.combined(compare, sides, scope, depth)
        return EITHER if fact is None and any(map(is_text_or_none, sides)) else fact

    def same_method(self, one: ast.expr, other: ast.expr, scope: Scope) -> bool | None:
        """Whether `type(x).method is Kind.method`: true if no class of the program below `Kind` has one of its own."""
        if not isinstance(one, ast.Attribute) or not isinstance(other, ast.Attribute) or one.attr != other.attr:
            return None
        kind = live(self.module, ast.unparse(other.value))
        if not isinstance(kind, type) or ast.unparse(other.value) in scope or object in self.facts.classes:
            return None
        if not isinstance(one.value, ast.Call) or ast.unparse(one.value.func) != "type":
            return None
        fact = self.fact(one.value.args[0], scope)
        below = [each for each in self.facts.classes if issubclass(each, kind) and each is not kind]
        known = isinstance(fact, Instance) and issubclass(fact.kind, kind)
        return True if known and not any(one.attr in vars(each) for each in below) else None

    def call(self, node: ast.Call, scope: Scope, depth: int) -> Fact:
        """A call."""
        if called(node) == "cast" and len(node.args) == 2:
            return self.fact(node.args[1], scope, depth)
        if len(node.args) == 2 and ast.unparse(node.func) in RANGES:
            return self.counted(node.args, scope, depth)
        if isinstance(node.func, ast.Attribute):
            return self.of_items(node, node.func, scope, depth) or self.method(node, node.func, scope, depth)
        if not isinstance(node.func, ast.Name) or node.func.id in scope:
            return None
        return self.named(node, node.func.id, scope, depth)

    def named(self, node: ast.Call, name: str, scope: Scope, depth: int) -> Fact:
        """A call of a builtin, `isinstance`, or a function of ours that only returns an expression."""
        if name in self.facts.structure:
            return self.of_structure(name, [self.fact(item, scope, depth) for item in node.args])
        if name in OVER_NOTHING and any(self.fact(item, scope, depth) == EMPTY for item in node.args):
            quiet = (is_silent(item) or self.fact(item, scope, depth) == EMPTY for item in node.args)
            return EMPTY if all(quiet) else None
        if name in OVER_ITEMS and len(node.args) == 1:
            fact = self.over_items(name, node.args[0], scope, depth)
            if fact is not None:
                return fact
        if name == "getattr" and len(node.args) == 3:
            return self.asked(node, scope, depth)
        if name == "isinstance" and len(node.args) == 2:
            kind = live(self.module, ast.unparse(node.args[1]))
            return self.combined(lambda value: isinstance(value, kind), node.args[:1], scope, depth) if kind else None
        if name == "type" and len(node.args) == 1:
            return self.combined(lambda value: Named(type(value).__name__), node.args, scope, depth)
        if name in PURE and not node.keywords and home_of(self.units, self.module, name) is None:
            return self.combined(PURE[name], node.args, scope, depth)
        home = home_of(self.units, self.module, name)
        if home is None or home.definition is None:
            return None
        fact = self.tried(node, home, scope, depth)
        if fact is None and depth < DEEPEST:
            fact = self.through(node, home, scope, depth)
        key = home.definition.module, home.definition.name
        fact = self.facts.returned(live(*key)) if fact is None else fact
        if fact is None and all(map(is_silent, (*node.args, *(item.value for item in node.keywords)))):
            return self.facts.results.get(key)
        return fact

    def method(self, node: ast.Call, func: ast.Attribute, scope: Scope, depth: int) -> Fact:
        """A call of a method of ours."""
        whole, fact = self.fact(func.value, scope, depth), None
        if func.attr in TEXT_METHODS and isinstance(whole, OneOf) and all(type(text) is str for text in whole.values):
            return self.combined(
                lambda text, *given: getattr(text, func.attr)(*given), [func.value, *node.args], scope, depth
            )
        if all(map(is_silent, (func, *node.args))) and not node.keywords:
            fact = self.facts.attribute(whole, f"{func.attr}()")
        if fact is None and isinstance(whole, Instance):
            return self.facts.returned(getattr(whole.kind, func.attr, None))
        if fact is None and isinstance(whole, OneOf) and len({type(value) for value in whole.values}) == 1:
            return self.facts.returned(vars(type(whole.values[0])).get(func.attr))
        return fact

    def asked(self, node: ast.Call, scope: Scope, depth: int) -> Fact:
        """`getattr(part, name, default)` of parts of the configuration that have the attribute, or that have it not."""
        fact, name = (
            self.fact(node.args[0], scope, depth),
            ast.literal_eval(node.args[1]) if is_text(node.args[1]) else "",
        )
        if isinstance(fact, Instance) and name and issubclass(fact.kind, nn.Module) and hasattr(fact.kind, name):
            return self.facts.attribute(fact, name)
        if isinstance(fact, Instance) and name and issubclass(fact.kind, tuple):
            return (
                self.facts.attribute(fact, name) if hasattr(fact.kind, name) else self.fact(node.args[2], scope, depth)
            )
        if not isinstance(fact, OneOf) or not name or not all(map(dataclasses.is_dataclass, fact.values)):
            return None
        has = {hasattr(value, name) for value in fact.values}
        if len(has) > 1:
            return None
        return self.facts.attribute(fact, name) if has.pop() else self.fact(node.args[2], scope, depth)

    def of_structure(self, name: str, facts: list[Fact]) -> Fact:
        """What a function of the model's structure and the configuration gives, if that is nothing."""
        work, model = self.facts.structure[name]
        known = [fact for fact in facts if isinstance(fact, Instance) and isinstance(model, fact.kind)]
        values = [fact.values[0] for fact in facts if isinstance(fact, OneOf) and len(fact.values) == 1]
        if facts[:1] != known or len(values) + 1 < len(facts):
            return None
        return None if work(model, *values) else EMPTY

    def tried(self, node: ast.Call, home: Home, scope: Scope, depth: int) -> Fact:
        """The result of a function of the configuration alone, if it is a plain value: it is called."""
        facts = [self.fact(item, scope, depth) for item in node.args]
        values = [fact.values[0] for fact in facts if isinstance(fact, OneOf) and len(fact.values) == 1]
        parts = [value for value in values if dataclasses.is_dataclass(value)]
        definition = home.definition
        if definition is None or node.keywords or len(values) < len(node.args) or not parts:
            return None
        function = live(definition.module, definition.name)
        if (
            function is None
            or isinstance(function, type)
            or get_type_hints(function).get("return") not in (str, int, bool, float)
        ):
            return None
        return OneOf((function(*values),))

    def through(self, node: ast.Call, home: Home, scope: Scope, depth: int) -> Fact:
        """The value of a call of a function of ours of which every step is known."""
        function = home.definition.node if home.definition else None
        if not isinstance(function, ast.FunctionDef) or function.decorator_list or function.args.vararg:
            return None
        names = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
        inner: Scope = dict.fromkeys(names)
        for name, value in zip(names, node.args, strict=False):
            inner[name] = self.fact(value, scope, depth)
        inner |= {keyword.arg: self.fact(keyword.value, scope, depth) for keyword in node.keywords if keyword.arg}
        if not all(is_silent(value) for value in (*node.args, *(keyword.value for keyword in node.keywords))):
            return None
        other = Evaluator(self.facts, self.units, home.definition.module if home.definition else self.module)
        return other.given(function.body, inner | dict.fromkeys(stored_names(function) - {*names}), depth + 1)

    def given(self, body: list[ast.stmt], inner: Scope, depth: int) -> Fact:
        """What a body returns of which every step is known: assignments, decided branches, a return."""
        for item in body:
            if isinstance(item, ast.Return):
                return None if item.value is None else self.fact(item.value, inner, depth)
            if isinstance(item, ast.Assign):
                known = [pair for target in item.targets for pair in assigned_pairs(target, item.value)]
                found = {name: self.fact(value, inner, depth) for name, value in known}
                inner = {**inner, **dict.fromkeys(stored_names(item)), **found}
            elif isinstance(item, ast.If):
                decided = self.truth(item.test, inner, depth) if is_silent(item.test) else None
                branch = item.body if decided else item.orelse
                if decided is None or (branch and not isinstance(branch[-1], ast.Return)):
                    return None
                if branch:
                    return self.given(branch, inner, depth)
            elif not isinstance(item, ast.Expr) or not isinstance(item.value, ast.Constant):
                return None
        return None

    def combined(self, work: Callable[..., Any], nodes: list[ast.expr], scope: Scope, depth: int) -> Fact:
        """`work` on every combination of the values of `nodes`."""
        facts = [self.fact(node, scope, depth) for node in nodes]
        if not all(isinstance(fact, OneOf) for fact in facts):
            return None
        choices = list(itertools.product(*(cast(OneOf, fact).values for fact in facts)))
        if len(choices) > FEW:
            return None
        try:
            return OneOf(distinct(tuple(work(*choice) for choice in choices)))
        except (TypeError, ValueError, ArithmeticError, LookupError):
            return None


def first_that_ends(items: tuple[Any, ...], ends: bool) -> Any:
    """The first of the terms of an `and` or `or` that ends it, or the last."""
    return next((item for item in items if bool(item) is ends), items[-1])


def is_text(node: ast.expr) -> bool:
    """Whether `node` is a string."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_text_or_none(node: ast.expr) -> bool:
    """Whether `node` is a string or None: whatever is compared with it, the result is a truth value."""
    return is_text(node) or (isinstance(node, ast.Constant) and node.value is None)


def is_silent(node: ast.expr) -> bool:
    """Whether leaving out the evaluation of `node` changes nothing: it calls nothing and stores nothing."""
    loud = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.ListComp, ast.SetComp, ast.DictComp)
    return not any(isinstance(inner, loud) for inner in walk(node))

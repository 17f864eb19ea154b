"""Constant folding: the branches that a fixed configuration never takes are left out.

Decisions are folded (`if`, `while`, conditional expressions, loops over nothing), and every setting that is read stands
there as its value; what has no other reader is then left out of the configuration.
"""

import ast
import dataclasses
import itertools
from typing import Any, cast

from paramgolf.bundle.absent import is_absent
from paramgolf.bundle.annotations import evaluated
from paramgolf.bundle.bindings import argument_names, single_bindings, stored_names
from paramgolf.bundle.direct import method_known
from paramgolf.bundle.evaluator import PURE, Evaluator, is_silent
from paramgolf.bundle.gather import METHOD, Gathered, Key, Passed
from paramgolf.bundle.items import EMPTY, Scope, unknown
from paramgolf.bundle.known import Fact, Facts, Instance, OneOf, is_bare, live, names_in
from paramgolf.bundle.plainer import as_statements, is_function_of_autograd, plainer, spelled, until_the_end
from paramgolf.bundle.quiet import called
from paramgolf.bundle.records import GOES_OVER
from paramgolf.bundle.returns import given_back
from paramgolf.bundle.slim import KINDS, copied
from paramgolf.bundle.texts import Texts, is_constant, named_plainly
from paramgolf.bundle.trees import walk
from paramgolf.bundle.units import Units, home_of
from paramgolf.bundle.wholes import Wholes

OF_NOTHING: dict[type[ast.expr], Any] = {
    ast.ListComp: [],
    ast.SetComp: frozenset(),
    ast.DictComp: {},
    ast.GeneratorExp: (),
}
"""What comprehensions over nothing give."""


class Fold(Texts):
    """Folds the decisions in a definition of `module`, in place."""

    def __init__(self, facts: Facts, units: Units, module: str, gathered: Gathered) -> None:
        self.evaluator = Evaluator(facts, units, module)
        self.gathered = gathered
        self.wholes = Wholes(self.evaluator, gathered)
        self.facts = facts
        self.module = module
        self.scope: Scope = {}
        self.owner: type | None = None
        self.key: Key | None = None
        """The class or function at the top level that is being folded; None inside a function."""
        self.called: set[int] = set()
        """Attributes that are called, which so do not escape."""
        self.self_of: tuple[str, Key] | None = None
        """Name of the first argument of the method that is being folded, and its class."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        self.owner = live(self.module, node.name) if self.owner is None else None
        self.key = (self.module, node.name)
        self.generic_visit(node)
        self.owner = self.key = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        outer = self.scope, self.owner, self.key, self.self_of
        top = not self.self_of and self.owner is None and not self.scope
        self.scope = {**self.scope, **self.arguments(node, self.owner)}
        self.scope |= unknown(stored_names(node))
        if self.owner is not None and self.key and node.args.args:
            self.self_of = (node.args.args[0].arg, self.key)
        self.owner = self.key = None
        told = zip(single_bindings(node), (self.evaluator.fact, self.evaluator.each), strict=True)
        for name, value, known in ((*pair, known) for pairs, known in told for pair in pairs):
            if name not in argument_names(node.args):
                self.scope[name] = known(value, self.scope)
        node.args.defaults = [cast(ast.expr, self.visit(item)) for item in node.args.defaults]
        node.args.kw_defaults = [item and cast(ast.expr, self.visit(item)) for item in node.args.kw_defaults]
        # A decorator that belongs to an operator, as `register_fake`, gives it to nobody.
        marks = node.decorator_list
        node.decorator_list = [item if isinstance(item, ast.Attribute) else self.visit(item) for item in marks]
        node.body = [inner for item in node.body for inner in as_statements(self.visit(item))]
        node.body = until_the_end(node.body) or [ast.Pass()]
        if top:
            result = given_back(node, lambda value: self.evaluator.fact(value, self.scope))
            self.gathered.returned[self.module, node.name] = result
        self.scope, self.owner, self.key, self.self_of = outer
        return node

    def arguments(self, node: ast.FunctionDef, owner: type | None) -> Scope:
        """What the annotations of a function say of its arguments, and its class of the first."""
        names = argument_names(node.args)
        found: Scope = dict.fromkeys(names)
        space = names_in(self.module)
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        for argument in arguments:
            if argument.annotation is not None:
                hint = evaluated(argument.annotation, space)
                found |= {argument.arg: self.facts.annotated(hint), f"{argument.arg}[]": self.facts.items_of(hint)}
        static = any(isinstance(d, ast.Name) and d.id in ("staticmethod", "classmethod") for d in node.decorator_list)
        method = owner is not None and bool(arguments) and not static
        called_with = self.facts.parameters.get(self.called_as(node, owner), {})
        found |= {name: fact for name, fact in called_with.items() if fact is not None}
        if owner is not None and (method or (arguments and is_function_of_autograd(owner))):
            found[arguments[0].arg] = self.own(owner)
        return found

    def called_as(self, node: ast.FunctionDef, owner: type | None) -> Key:
        """The name by which calls reach a function: its own, or for `__init__` that of its class."""
        top = not self.self_of and not (owner is None and self.scope)
        if owner is not None:
            return (self.module, owner.__name__ if node.name == "__init__" else f"{owner.__name__}.{node.name}")
        return (self.module, node.name) if top else ("", "")

    def own(self, kind: type) -> Fact:
        """What is known of `self` in a method of `kind`, other classes' inheritance included."""
        fact = self.facts.of_class(kind)
        return fact if fact is not None else Instance(kind)

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        return cast(ast.expr, self.hidden(node, dict.fromkeys(argument_names(node.args))))

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        if self.evaluator.fact(node.generators[0].iter, self.scope) == EMPTY:
            return spelled(OF_NOTHING[type(node)])
        if apiece := self.evaluator.apiece(node, self.scope):
            return cast(ast.expr, self.visit(apiece))
        known = dict.fromkeys(stored_names(node))
        for place in node.generators:
            self.wholes.each_apart(place.target, place.iter, self.scope)
            if len(node.generators) == 1:
                known |= self.evaluator.bound(place.target, place.iter, self.scope)
            if len(node.generators) == 1 and isinstance(place.target, ast.Name) and not known.get(place.target.id):
                known[place.target.id] = self.evaluator.each(place.iter, self.scope)
        return cast(ast.expr, self.hidden(node, known))

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def hidden(self, node: ast.AST, names: Scope) -> ast.AST:
        """Visit `node`, inside which `names` are other than outside."""
        outer = self.scope
        self.scope = {**outer, **unknown(names), **names}
        self.generic_visit(node)
        self.scope = outer
        return node

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        decided = self.evaluator.truth(node.test, self.scope)
        if decided is not None:
            return [
                inner for item in (node.body if decided else node.orelse) for inner in as_statements(self.visit(item))
            ]
        node.test = self.lighter(node.test)
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def lighter(self, test: ast.expr) -> ast.expr:
        """A condition without the terms that are known; only its truth stays the same."""
        if not isinstance(test, ast.BoolOp):
            return test
        neutral = isinstance(test.op, ast.And)
        kept = [value for value in test.values if self.evaluator.truth(value, self.scope) is not neutral]
        kept = [self.lighter(value) for value in kept]
        return kept[0] if len(kept) == 1 else ast.BoolOp(test.op, kept)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if not all(isinstance(how, ast.Is | ast.IsNot) for how in node.ops):
            for side in (node.left, *node.comparators):
                self.wholes.read(side, self.scope)
        return self.as_value(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        """A table has no lines for what never comes up."""
        both = zip(node.keys, node.values, strict=True)
        pairs = [(key, value) for key, value in both if not is_absent(key, self.facts.absent)]
        node.keys, node.values = [key for key, _ in pairs], [value for _, value in pairs]
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return self.as_value(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        return self.as_value(node)

    def visit_Starred(self, node: ast.Starred) -> ast.AST | None:
        """Nothing, spread out, is nothing."""
        if self.spreads_nothing(node):
            return None
        self.wholes.read(node.value, self.scope)
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.wholes.read(node.value, self.scope)
        self.wholes.read(node.slice, self.scope)
        return self.as_value(node) if isinstance(node.ctx, ast.Load) else self.generic_visit(node)

    def as_value(self, node: ast.expr) -> ast.AST:
        """An expression, or what it always is."""
        fact = self.evaluator.fact(node, self.scope)
        return spelled(fact.values[0]) if isinstance(fact, OneOf) and fact.plain else self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        decided = self.evaluator.truth(node.test, self.scope)
        if decided is not None:
            return cast(ast.AST, self.visit(node.body if decided else node.orelse))
        node.test = self.lighter(node.test)
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        fact = self.evaluator.fact(node, self.scope)
        if isinstance(fact, OneOf) and fact.plain:
            return spelled(fact.values[0])
        self.generic_visit(node)
        neutral = isinstance(node.op, ast.And)
        while len(node.values) > 1 and self.is_truth(node.values[-2]) and is_constant(node.values[-1], neutral):
            node.values = node.values[:-1]
        first = node.values[0]
        while len(node.values) > 1 and self.evaluator.truth(first, self.scope) is neutral:
            node.values = node.values[1:]
            first = node.values[0]
        while len(node.values) > 1 and self.evaluator.truth(node.values[-1], self.scope) is neutral:
            if not (isinstance(node.values[-1], ast.Constant) and self.evaluator.is_truth(node.values[-2], self.scope)):
                break
            node.values = node.values[:-1]
        return first if len(node.values) == 1 or self.evaluator.truth(first, self.scope) is not None else node

    def spreads_nothing(self, node: ast.expr) -> bool:
        """Whether `*node` stands for no item."""
        loaded = isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Load)
        return loaded and self.evaluator.fact(cast(ast.Starred, node).value, self.scope) == EMPTY

    def is_truth(self, node: ast.expr) -> bool:
        """Whether an expression gives True or False."""
        fact = self.evaluator.fact(node, self.scope)
        return isinstance(fact, OneOf) and all(type(value) is bool for value in fact.values)

    def directly(self, node: ast.Call) -> ast.Call:
        """A call of a known part of the configuration, or of its method, as one of the function that it comes to."""
        func = node.func
        choices = [(func, "__call__"), *([(func.value, func.attr)] if isinstance(func, ast.Attribute) else [])]
        for whole, method in choices:
            fact = self.evaluator.fact(whole, self.scope) if is_silent(whole) else None
            known = method_known(self.evaluator.units, fact.values, method) if isinstance(fact, OneOf) else ""
            if known:
                return ast.Call(ast.Name(known, ast.Load()), [whole, *node.args], node.keywords)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Note what is passed; a name that is called does not escape by that."""
        node.args = [item for item in node.args if not self.spreads_nothing(item)]
        node = self.directly(node)
        if isinstance(node.func, ast.Name) and node.func.id in GOES_OVER:
            for item in node.args:
                self.wholes.read(item, self.scope)
        if isinstance(node.func, ast.Name) and node.func.id not in self.scope:
            home = home_of(self.evaluator.units, self.module, node.func.id)
            if node.func.id in ("isinstance", "issubclass"):
                node.args[0] = cast(ast.expr, self.visit(node.args[0]))
                return node
            if home and home.definition:
                self.note(node, (home.definition.module, home.definition.name))
                node.args = [cast(ast.expr, self.visit(item)) for item in node.args]
                for keyword in node.keywords:
                    keyword.value = cast(ast.expr, self.visit(keyword.value))
                fact = self.evaluator.fact(node, self.scope)
                # What gives nothing for this model gives nothing of its own type.
                return spelled(fact.values[0]) if isinstance(fact, OneOf) and fact.plain and fact != EMPTY else node
        if (beneath := self.evaluator.reached_by(node.func, self.scope)) is not None:
            self.note(node, beneath)
        if isinstance(node.func, ast.Attribute):
            self.note(node, (METHOD, node.func.attr))
            self.called.add(id(node.func))
        if called(node) in ("_replace", "replace"):
            for name, value in ((keyword.arg, keyword.value) for keyword in node.keywords):
                if name is not None:
                    self.gathered.replaced.setdefault(name, []).append(self.evaluator.fact(value, self.scope))
        asks = isinstance(node.func, ast.Attribute) or called(node) in ("getattr", *PURE)
        fact = self.evaluator.fact(node, self.scope) if asks else None
        if isinstance(fact, OneOf) and fact.plain and fact != EMPTY:
            return spelled(fact.values[0])
        return named_plainly(self.worked_out(cast(ast.expr, self.generic_visit(node))))

    def worked_out(self, node: ast.expr) -> ast.expr:
        """A name of a type, as text: a minifier may shorten the type's own."""
        names = [inner for inner in walk(node) if isinstance(inner, ast.Attribute) and inner.attr == "__name__"]
        fact = self.evaluator.fact(node, self.scope) if names else None
        return spelled(fact.values[0]) if isinstance(fact, OneOf) and fact.plain else node

    def note(self, node: ast.Call, key: Key) -> None:
        """Remember the arguments of a call."""
        if any(item.arg is None for item in node.keywords):
            self.gathered.escaped.add(key)
            return
        plain = [*itertools.takewhile(lambda item: not isinstance(item, ast.Starred), node.args)]
        more = len(plain) < len(node.args)
        if more:
            self.gathered.spread.add(key)
        positional = tuple(self.evaluator.fact(item, self.scope) for item in plain)
        named = {item.arg: self.evaluator.fact(item.value, self.scope) for item in node.keywords if item.arg}
        self.gathered.calls.setdefault(key, []).append(Passed(positional, named, more))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id not in self.scope:
            home = home_of(self.evaluator.units, self.module, node.id)
            if home and home.definition:
                self.gathered.escaped.add((home.definition.module, home.definition.name))
        self.gathered.sets_by_name |= node.id == "setattr"
        if node.id == "cls" and self.self_of:
            self.gathered.escaped.add(self.self_of[1])
        fact = self.scope.get(node.id) if isinstance(node.ctx, ast.Load) else None
        return spelled(fact.values[0]) if isinstance(fact, OneOf) and fact.plain else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        node.value = node.value and cast(ast.expr, self.visit(node.value))
        if isinstance(node.target, ast.Attribute):
            self.stored(node.target, node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        for target in node.targets:
            self.wholes.apart(target, node.value, self.scope)
        self.generic_visit(node)
        for target in node.targets:
            for inner in walk(target):
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    self.stored(inner, node.value if inner is target else None)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        if isinstance(node.target, ast.Attribute):
            self.gathered.overwritten.add(node.target.attr)
        return self.generic_visit(node)

    def stored(self, target: ast.Attribute, value: ast.expr | None) -> None:
        """Note an assignment to an attribute."""
        if self.self_of and isinstance(target.value, ast.Name) and target.value.id == self.self_of[0]:
            fact = self.evaluator.fact(value, self.scope) if value is not None else None
            self.gathered.kept.setdefault((self.self_of[1], target.attr), []).append(fact)
        else:
            self.gathered.overwritten.add(target.attr)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """What a setting, or anything else that is known of an object, is."""
        if isinstance(node.ctx, ast.Load) and id(node) not in self.called:
            self.gathered.escaped.add((METHOD, node.attr))
        before = self.evaluator.fact(node.value, self.scope)
        self.generic_visit(node)
        if node.attr == "__name__":
            return self.worked_out(node)
        whole = self.evaluator.fact(node.value, self.scope) if before is None else before
        self.wholes.told(node, whole)
        if isinstance(whole, Instance):
            setattr(node, KINDS, {whole.kind})
        elif self.evaluator.is_of_others(node.value, self.scope):
            setattr(node, KINDS, set())
        elif isinstance(whole, OneOf) and all(dataclasses.is_dataclass(value) for value in whole.values):
            setattr(node, KINDS, {type(value) for value in whole.values})
        fact = self.facts.attribute(whole, node.attr) if isinstance(node.ctx, ast.Load) else None
        if isinstance(fact, OneOf) and fact.plain:
            return spelled(fact.values[0])
        if isinstance(fact, OneOf) and is_bare(fact.values, self.facts.closed):
            return ast.Call(ast.Name(type(fact.values[0]).__name__, ast.Load()), [], [])
        return self.property_apart(node, whole) if isinstance(node.ctx, ast.Load) else node

    def property_apart(self, node: ast.Attribute, whole: Fact) -> ast.expr:
        """A property of a known part of the configuration as a call of the function that it is."""
        if not isinstance(whole, OneOf) or not is_silent(node.value):
            return node
        if not all(isinstance(getattr(type(value), node.attr, None), property) for value in whole.values):
            return node
        known = method_known(self.evaluator.units, whole.values, node.attr)
        return cast(ast.expr, self.visit(ast.Call(ast.Name(known, ast.Load()), [node.value], []))) if known else node

    def visit_For(self, node: ast.For) -> ast.stmt | list[ast.stmt]:
        fact = self.evaluator.fact(node.iter, self.scope)
        if fact == EMPTY:
            return [inner for item in node.orelse for inner in as_statements(self.visit(item))]
        self.wholes.each_apart(node.target, node.iter, self.scope)
        self.generic_visit(node)
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, until_the_end(block) or ([ast.Pass()] if name == "body" else []))
        return node


def folded(node: ast.stmt, facts: Facts, units: Units, module: str, gathered: Gathered) -> ast.stmt:
    """A copy of a top-level definition of `module` without the branches that are never taken."""
    result = Fold(facts, units, module, gathered).visit(plainer(copied(node)))
    return plainer(result)

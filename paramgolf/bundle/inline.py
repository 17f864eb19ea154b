"""Functions and methods that one place calls stand in that place.

A function of ours goes where its only call is, if everything before that call in its statement only gives values: its
statements before, what it returns in the call's stead. Names, and the order in which anything is done, stay what they
were; what is called otherwise, or decorated, or a generator, is left alone.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from paramgolf.bundle.identifiers import bound_names
from paramgolf.bundle.order import LOUD, comes_first, evaluation, heads_of, is_loud, may_stand, only_names_before
from paramgolf.bundle.quiet import called
from paramgolf.bundle.slim import copied, with_part
from paramgolf.bundle.trees import Transformer, children, walk

Names = set[str]
MOST_NAMES = 35
"""Names that one function may have after something has been put into it: each wants a letter of its own."""


class Callee(NamedTuple):
    """A function that is called once."""

    node: ast.FunctionDef
    owner: ast.ClassDef | None
    static: bool


def with_calls_inlined(tree: ast.Module, known: frozenset[str]) -> ast.Module:
    """`tree`, changed in place. Methods whose name is in `known`, to libraries or in strings, are left alone."""
    while True:
        callees = dict(single_calls(tree, known))
        inliner = Inliner(callees, set(globals_bound(tree)))
        inliner.over(tree.body, None)
        if not inliner.done:
            return tree
        remove(tree, inliner.done)


def single_calls(tree: ast.Module, known: frozenset[str]) -> Iterator[tuple[str, Callee]]:
    """Functions by name, and methods by a dot and their name, that are named once, to be called."""
    named: Counter[str] = Counter()
    called: Counter[str] = Counter()
    for node in walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            named[name_used(node)] += 1
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            plain = not any(isinstance(item, ast.Starred) for item in node.args)
            called[name_used(node.func)] += plain and all(item.arg for item in node.keywords)
    defined = Counter(
        f".{item.name}" for node in walk(tree) if isinstance(node, ast.ClassDef) for item in functions(node.body)
    )
    for owner, item in definitions(tree):
        name = f".{item.name}" if owner else item.name
        once = named[name] == called[name] == 1 and defined[name] <= 1
        if once and item.name not in known and not item.name.startswith("__") and can_move(item, owner):
            yield name, Callee(item, owner, bool(item.decorator_list))


def definitions(tree: ast.Module) -> Iterator[tuple[ast.ClassDef | None, ast.FunctionDef]]:
    """Functions at the top, and methods with their classes."""
    yield from ((None, item) for item in functions(tree.body))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from ((node, item) for item in functions(node.body))


def functions(body: list[ast.stmt]) -> list[ast.FunctionDef]:
    """The functions that a block defines."""
    return [item for item in body if isinstance(item, ast.FunctionDef)]


def name_used(node: ast.Name | ast.Attribute) -> str:
    """A name, or a dot and that of an attribute."""
    return node.id if isinstance(node, ast.Name) else f".{node.attr}"


def can_move(node: ast.FunctionDef, owner: ast.ClassDef | None) -> bool:
    """Whether the body of a function means the same elsewhere."""
    static = owner is not None and [ast.unparse(item) for item in node.decorator_list] == ["staticmethod"]
    if (node.decorator_list and not static) or node.args.vararg or node.args.kwarg or node.args.posonlyargs:
        return False
    odd = ast.Yield | ast.YieldFrom | ast.Await | ast.Global | ast.Nonlocal | ast.ClassDef | ast.Import | ast.ImportFrom
    words = {inner.id for inner in walk(node) if isinstance(inner, ast.Name)}
    recursive = node.name in words or any(
        isinstance(inner, ast.Attribute) and inner.attr == node.name for inner in walk(node)
    )
    return (
        not recursive
        and not puts_off(node)
        and not words & {"super", "locals"}
        and not any(isinstance(i, odd) for i in walk(node))
    )


EAGER = frozenset({"tuple", "list", "dict", "set", "sum", "any", "all", "sorted", "max", "min", "join", "ModuleList"})
"""Functions that go over what they are given at once."""


def puts_off(node: ast.FunctionDef) -> bool:
    """Whether something in a function may read its locals later: a function or a generator that it makes."""
    calls = [inner for inner in walk(node) if isinstance(inner, ast.Call) and inner.args]
    at_once = {id(call.args[0]) for call in calls if called(call) in EAGER}
    loops = {id(inner.iter) for inner in walk(node) if isinstance(inner, ast.For | ast.comprehension)}
    unpacked = {id(inner.value) for inner in walk(node) if isinstance(inner, ast.Starred)}
    unpacked |= {id(inner.value) for inner in walk(node) if isinstance(inner, ast.Assign) and takes_apart(inner)}
    for inner in walk(node):
        if isinstance(inner, ast.GeneratorExp) and id(inner) not in at_once | loops | unpacked:
            return True
        if isinstance(inner, ast.Lambda | ast.FunctionDef) and inner is not node:
            return True
    return False


def takes_apart(node: ast.Assign) -> bool:
    """Whether a statement goes over its value at once."""
    return all(isinstance(target, ast.Tuple) for target in node.targets)


class Inliner:
    """Goes over statements and puts functions where they are called."""

    def __init__(self, callees: dict[str, Callee], outside: Names) -> None:
        self.callees = callees
        self.outside = outside
        """Names at the top of the script."""
        self.done: set[int] = set()
        """Functions that have moved."""

    def over(self, body: list[ast.stmt], function: ast.FunctionDef | None) -> None:
        """One block and what is inside it, of `function` or at the top."""
        place = 0
        while place < len(body):
            statement = body[place]
            if id(statement) in self.done:  # what is left there goes
                place += 1
                continue
            new = self.replaced(statement, function) if function is not None else None
            if new is not None:
                body[place : place + 1] = new
                continue
            inner = statement if isinstance(statement, ast.FunctionDef) and function is None else function
            for name in ("body", "orelse", "finalbody"):
                if isinstance(block := getattr(statement, name, None), list):
                    self.over(block, None if isinstance(statement, ast.ClassDef) else inner)
            place += 1

    def replaced(self, statement: ast.stmt, function: ast.FunctionDef) -> list[ast.stmt] | None:
        """What a statement becomes when the first function it calls moves there, if it may."""
        for head in heads_of(statement):
            for node, _ in evaluation(head):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                    continue
                callee = self.callees.get(name_used(node.func))
                if callee is None or id(callee.node) in self.done or callee.node is function:
                    continue
                new = self.moved(statement, head, node, callee, function)
                if new is not None:
                    self.done.add(id(callee.node))
                    return new
        return None

    def moved(
        self, statement: ast.stmt, head: ast.expr, call: ast.Call, callee: Callee, function: ast.FunctionDef
    ) -> list[ast.stmt] | None:
        """The statements of a callee and the one that called it, or None where that would change something."""
        here = set(words_in(function))
        bound = set(bound_names(function))
        free = {name for name in words_in(callee.node) if name in self.outside} - set(bound_names(callee.node))
        given = arguments_of(call, callee)
        if is_crowded(function, callee.node):
            return None
        if given is None or free & bound or not may_stand(callee.node, head, call):
            return None
        node = renamed(callee.node, here | self.outside)
        given = {new: given[old] for old, new in zip(parameters(callee.node), parameters(node), strict=True)}
        body = [item for item in node.body if not isinstance(item, ast.Pass)]
        alone = head is call and isinstance(statement, ast.Return | ast.Expr)
        last = body[-1] if body else None
        returns = [inner for item in body for inner in own_returns(item)]
        early = len(returns) - isinstance(last, ast.Return)
        if early and not (alone and isinstance(statement, ast.Return) and always_returns(body)):
            return None
        if len(body) == 1 and isinstance(last, ast.Return) and last.value is not None:
            value = put_in(last.value, given)
            if value is not None:
                return [with_part(statement, call, value)]
        if not comes_first(head, call) or not only_names_before(head, call):
            return None
        assigned = set(bound_names(ast.Module([*body], [])))
        before: list[ast.stmt] = []
        simple = {name: value for name, value in given.items() if is_still(value) and name not in assigned}
        # What stays an argument is evaluated in the same order as before.
        before += [assignment(name, value) for name, value in given.items() if name not in simple]
        body = [Substitute(simple).visit(item) for item in body]
        if early:
            return [*before, *body]
        value = last.value if isinstance(last, ast.Return) else None
        rest = body[:-1] if isinstance(last, ast.Return) else body
        if isinstance(statement, ast.Expr) and head is call and (value is None or not is_loud(value)):
            return [*before, *rest] or [ast.Pass()]
        end = body[-1] if body else None
        result = end.value if isinstance(end, ast.Return) and end.value else ast.Constant(None)
        return [*before, *rest, with_part(statement, call, result)]


def is_crowded(function: ast.FunctionDef, callee: ast.FunctionDef) -> bool:
    """Whether two functions in one would have more names than there are short ones for."""
    words = [*words_in(callee)]
    return len(words) > MOST_NAMES // 2 and len({*words, *words_in(function)}) > MOST_NAMES


def always_returns(body: list[ast.stmt]) -> bool:
    """Whether a block never ends without having returned or raised."""
    last = body[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and always_returns(last.body) and always_returns(last.orelse)
    if isinstance(last, ast.With):
        return always_returns(last.body)
    return isinstance(last, ast.Return | ast.Raise)


def own_returns(node: ast.AST) -> Iterator[ast.Return]:
    """The returns of a function's statement, not of functions in it."""
    if isinstance(node, ast.Return):
        yield node
    if not isinstance(node, ast.FunctionDef | ast.Lambda):
        for child in children(node):
            yield from own_returns(child)


def parameters(node: ast.FunctionDef) -> list[str]:
    """Names of all parameters."""
    return [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]


def arguments_of(call: ast.Call, callee: Callee) -> dict[str, ast.expr] | None:
    """Parameter -> what a call gives it, in the order of evaluation as far as defaults allow."""
    node = callee.node
    given = list(call.args)
    if callee.owner is not None and not callee.static:
        assert isinstance(call.func, ast.Attribute)
        given.insert(0, call.func.value)
    if len(given) > len(node.args.args):
        return None
    found = dict(zip([item.arg for item in node.args.args], given, strict=False))
    found |= {item.arg: item.value for item in call.keywords if item.arg}
    first = len(node.args.args) - len(node.args.defaults)
    defaults = dict(zip([item.arg for item in node.args.args[first:]], node.args.defaults, strict=True))
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    defaults |= {item.arg: value for item, value in pairs if value is not None}
    for name in parameters(node):
        if name not in found:
            if not isinstance(defaults.get(name), ast.Constant):
                return None
            found[name] = copied(defaults[name])
    return found if set(found) == set(parameters(node)) else None


def is_still(node: ast.expr) -> bool:
    """Whether it does not matter when, or how often, `node` is evaluated."""
    return isinstance(node, ast.Name | ast.Constant)


def put_in(value: ast.expr, given: dict[str, ast.expr]) -> ast.expr | None:
    """An expression with arguments in the place of parameters, if everything is then done in the same order."""
    uses = [(node, sure) for node, sure in evaluation(value) if isinstance(node, ast.Name) and node.id in given]
    counts = Counter(node.id for node, _ in uses)
    moving = [name for name, argument in given.items() if not is_still(argument)]
    if not all(may_stand(given[node.id], value, node) for node, _ in uses):
        return None
    for name in moving:
        if counts[name] > 1 or (counts[name] == 0 and is_loud(given[name])):
            return None
        places = [node for node, sure in uses if node.id == name and sure]
        if len(places) < counts[name]:
            return None
        if is_loud(given[name]) and not only_names_before(value, places[0]):
            return None
    met = [name for name in before_anything_is_done(value) if name in moving]
    if {name for name in moving if counts[name]} != set(met):
        return None
    if any(is_loud(given[name]) for name in moving) and met != [name for name in moving if counts[name]]:
        return None
    result: ast.expr = Substitute(given).visit(value)
    return result


def before_anything_is_done(value: ast.expr) -> Iterator[str]:
    """The names that an expression reads before its first call."""
    for node, sure in evaluation(value):
        if isinstance(node, LOUD) or not sure:
            return
        if isinstance(node, ast.Name):
            yield node.id


class Substitute(Transformer):
    """Puts expressions in the place of names."""

    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copied(self.values[node.id]) if node.id in self.values else node


def assignment(name: str, value: ast.expr) -> ast.stmt:
    """`name = value`."""
    return ast.Assign([ast.Name(name, ast.Store())], value, lineno=0)


def words_in(node: ast.AST) -> Iterator[str]:
    """Every name that stands in `node`."""
    yield from (inner.id for inner in walk(node) if isinstance(inner, ast.Name))
    yield from bound_names(node)


def globals_bound(tree: ast.Module) -> Iterator[str]:
    """Names at the top of a script."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Try | ast.If):
            yield from globals_bound(ast.Module(node.body, []))
        else:
            yield from bound_names(node)


def renamed(node: ast.FunctionDef, taken: Names) -> ast.FunctionDef:
    """A copy of a function whose own names are none of `taken`."""
    node = copied(node)
    own = set(bound_names(node))
    new: dict[str, str] = {}
    for name in sorted(own & taken):
        number = 2
        while f"{name}_{number}" in taken | own:
            number += 1
        new[name] = f"{name}_{number}"
    rename: dict[type[ast.AST], str] = {
        ast.Name: "id",
        ast.arg: "arg",
        ast.FunctionDef: "name",
        ast.ExceptHandler: "name",
    }
    for inner in walk(node):
        place: Any = rename.get(type(inner))
        if place and inner is not node and getattr(inner, place) in new:
            setattr(inner, place, new[getattr(inner, place)])
    return node


def remove(tree: ast.Module, gone: set[int]) -> None:
    """Leave functions out of `tree`."""
    holders: list[ast.Module | ast.ClassDef] = [tree, *(item for item in tree.body if isinstance(item, ast.ClassDef))]
    for node in holders:
        node.body = [item for item in node.body if id(item) not in gone] or [ast.Pass()]

"""A script that runs in one known way needs no guards: checks that only raise an error are left out.

What is left out never changes a value: conditions whose only consequence is an error, values computed for nothing else,
functions and methods that do nothing any more, and calls of these.
"""

import ast
import builtins
import copy
from collections.abc import Generator, Iterable, Iterator
from io import IOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from paramgolf.bundle.evaluator import is_silent
from paramgolf.bundle.known import live
from paramgolf.bundle.quiet import called, is_quiet
from paramgolf.bundle.tidy import Tidy
from paramgolf.bundle.trees import Transformer, walk

CHECK = "__post_init__"
"""The method of a record that checks its fields."""
OTHERS: tuple[Any, ...] = (
    *(dict, list, set, str, bytes, tuple, int, float, bytearray, memoryview, Path, Exception, IOBase, Generator),
    *(torch, torch.cuda, torch.nn, torch.nn.functional, torch.nn.init, torch.distributed, np, np.ndarray),
    *(torch.Tensor, torch.Generator, torch.nn.Module, torch.nn.ModuleList, torch.nn.ModuleDict, np.random.Generator),
)
"""What methods are called on that are not ours."""


class Unguard(Transformer):
    """Leaves out guards and calls of what is void."""

    def __init__(self, module: str, caught: frozenset[type], void: frozenset[str]) -> None:
        self.module = module
        self.caught = caught
        """Errors that the program goes on from."""
        self.void = void
        """Functions and methods (with a dot before their name) that do nothing."""

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        body = [item for item in node.body if not is_empty([item])]
        if self.only_raises(body) or (not body and is_quiet(node.test)):
            return [item for item in node.orelse if not isinstance(item, ast.Pass)]
        node.body = node.body or [ast.Pass()]
        return node

    def only_raises(self, body: list[ast.stmt]) -> bool:
        """Whether `body` does nothing but raise an error that ends the program."""
        *before, last = body or [ast.Pass()]
        quiet = all(isinstance(item, ast.Assign | ast.Expr) and self.local(item) for item in before)
        return quiet and isinstance(last, ast.Raise) and not self.is_caught(last)

    def local(self, item: ast.Assign | ast.Expr) -> bool:
        """Whether a statement changes at most locals."""
        return isinstance(item, ast.Assign) and all(isinstance(target, ast.Name | ast.Tuple) for target in item.targets)

    def is_caught(self, node: ast.Raise) -> bool:
        """Whether the program goes on after this error."""
        if node.exc is None:
            return True
        name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        kind = getattr(builtins, name, None) or live(self.module, name)
        kinds = [kind] if isinstance(kind, type) else [live("paramgolf.errors", "GolfError")]
        return any(issubclass(one, other) for one in kinds for other in self.caught)

    def visit_Try(self, node: ast.Try) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        if not node.handlers and is_empty(node.finalbody):
            return [*node.body, *node.orelse]
        raising = all(isinstance(handler.body[-1], ast.Raise) for handler in node.handlers)
        if (
            node.handlers
            and raising
            and not node.finalbody
            and not any(bare_raise(handler) for handler in node.handlers)
        ):
            return [*node.body, *node.orelse]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        call = node.value
        if isinstance(call, ast.Call):
            name = f".{called(call)}" if isinstance(call.func, ast.Attribute) else called(call)
            parts = [*call.args, *(keyword.value for keyword in call.keywords)]
            if name in self.void and all(is_quiet(part) for part in parts):
                return None
        self.generic_visit(node)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        if not self.is_caught(node):
            return ast.copy_location(ast.Raise(ast.Name("ValueError", ast.Load())), node)
        return node

    def visit_For(self, node: ast.For) -> ast.stmt | None:
        self.generic_visit(node)
        return None if not node.orelse and is_empty(node.body) and is_quiet(node.iter) else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


def bare_raise(handler: ast.ExceptHandler) -> bool:
    """Whether a handler cleans up and passes its error on."""
    return cast(ast.Raise, handler.body[-1]).exc is None


def is_empty(body: Iterable[ast.stmt]) -> bool:
    """Whether a block does nothing."""
    return all(
        isinstance(item, ast.Pass) or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
        for item in body
    )


class Idle(Tidy):
    """Removes locals that only guards read, where computing them changes nothing."""

    def idle(self, target: ast.expr, value: ast.expr) -> bool:
        return isinstance(target, ast.Name) and target.id in self.unread and (is_silent(value) or is_quiet(value))


def unguarded(node: ast.stmt, module: str, caught: frozenset[type], void: frozenset[str]) -> ast.stmt:
    """`node`, changed in place."""
    node = cast(ast.stmt, Unguard(module, caught, void).visit(node)) or ast.Pass()
    while True:
        idle = Idle()
        node = cast(ast.stmt, idle.visit(node))
        if not idle.changed:
            return node


def errors_gone_on_from(nodes: Iterable[tuple[str, ast.stmt]]) -> frozenset[type]:
    """Classes of errors that some handler does not turn into another error; `nodes` come with their modules."""
    found: set[type] = set()
    for module, node in nodes:
        for inner in walk(node):
            if isinstance(inner, ast.ExceptHandler) and (
                not isinstance(inner.body[-1], ast.Raise) or bare_raise(inner)
            ):
                found |= set(classes_named(inner.type, module))
            if isinstance(inner, ast.Call) and called(inner) == "suppress":
                found |= {kind for argument in inner.args for kind in classes_named(argument, module)}
    return frozenset(found)


def classes_named(node: ast.expr | None, module: str) -> list[type]:
    """The classes in an `except` clause."""
    if node is None:
        return [BaseException]
    names = [ast.unparse(item) for item in (node.elts if isinstance(node, ast.Tuple) else [node])]
    kinds = [getattr(builtins, name, None) or live(module, name) for name in names]
    return [kind for kind in kinds if isinstance(kind, type)]


def void_names(nodes: Iterable[ast.stmt]) -> frozenset[str]:
    """Functions, and methods of all classes that have them (with a dot), that do nothing and return nothing."""
    found: set[str] = set()
    methods: dict[str, list[bool]] = {}
    held: set[str] = set()
    for node in nodes:
        held |= set(attributes_held(node))
        if isinstance(node, ast.FunctionDef) and does_as_written(node) and is_empty(node.body):
            found.add(node.name)
        if isinstance(node, ast.ClassDef) and not any("Protocol" in ast.unparse(base) for base in node.bases):
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    methods.setdefault(item.name, []).append(does_as_written(item) and does_nothing(item))
    methods = {name: empty for name, empty in methods.items() if name not in held}
    ours = {name for name, empty in methods.items() if all(empty) and (not name.startswith("__") or name == CHECK)}
    return frozenset(found | {f".{name}" for name in ours if not any(hasattr(other, name) for other in OTHERS)})


def attributes_held(node: ast.stmt) -> Iterator[str]:
    """Names of attributes that hold whatever they are given, perhaps functions: fields, and what is assigned."""
    for inner in walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            yield inner.attr
        elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            yield inner.target.id


def does_as_written(node: ast.FunctionDef) -> bool:
    """Whether no decorator makes more of a function than it is."""
    return {ast.unparse(mark) for mark in node.decorator_list} <= {"torch.no_grad()"}


def does_nothing(method: ast.FunctionDef) -> bool:
    """Whether a method is empty, but for handing on to the class above, or to the same method of others."""
    above = f"super().{method.name}()"
    return all(is_empty([item]) or ast.unparse(item) == above or hands_on(item, method.name) for item in method.body)


def hands_on(item: ast.stmt, method: str) -> bool:
    """Whether a statement does nothing but call `method` of objects: nothing, where all methods of that name do."""
    if isinstance(item, ast.If | ast.For):
        head = item.test if isinstance(item, ast.If) else item.iter
        return is_quiet(head) and all(is_empty([part]) or hands_on(part, method) for part in (*item.body, *item.orelse))
    call = item.value if isinstance(item, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != method:
        return False
    return all(map(is_quiet, (call.func.value, *call.args, *(keyword.value for keyword in call.keywords))))


def without_checks(node: ast.stmt, closed: frozenset[str]) -> ast.stmt:
    """A class without a `__post_init__` that does nothing, or has passed: instances of `closed` classes are known."""
    if isinstance(node, ast.ClassDef):
        node = copy.copy(node)
        node.body = [item for item in node.body if not is_passed_check(item, node.name in closed)] or [ast.Pass()]
    return node


def is_passed_check(item: ast.stmt, closed: bool) -> bool:
    """Whether `item` is a `__post_init__` that need not run again."""
    if not isinstance(item, ast.FunctionDef) or item.name != CHECK:
        return False
    return does_nothing(item) or (closed and "__setattr__" not in ast.unparse(item))

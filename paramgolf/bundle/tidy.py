"""What folding leaves behind: locals that nothing reads, prose of errors, caches of compiled code."""

import ast
from typing import cast

from paramgolf.bundle.evaluator import is_silent
from paramgolf.bundle.quiet import called, is_quiet
from paramgolf.bundle.trees import Transformer, walk

ERROR_PROSE = ("evidence", "fix")


def simplified(node: ast.stmt, quiet: frozenset[str] = frozenset()) -> ast.stmt:
    """`node`, changed in place: errors say their cause only, unused locals are gone, nothing is cached."""
    Terse().visit(node)
    while True:
        tidy = Tidy(quiet)
        node = cast(ast.stmt, tidy.visit(node))
        if not tidy.changed:
            return node


class Terse(Transformer):
    """Leaves evidence and advice out of errors, and `cache` out of `njit`: source that was unpacked is in no file."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "njit":
                decorator.keywords = [keyword for keyword in decorator.keywords if keyword.arg != "cache"]
        self.generic_visit(node)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        return self.cut(node)

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        return self.cut(node)

    def cut(self, node: ast.Raise | ast.Return) -> ast.stmt:
        """Without the keywords that only people read."""
        call = node.exc if isinstance(node, ast.Raise) else node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and makes_error(call.func.id):
            call.keywords = [keyword for keyword in call.keywords if keyword.arg not in ERROR_PROSE]
        self.generic_visit(node)
        return node


def makes_error(name: str) -> bool:
    """Whether the class called `name` is an error, as far as its name tells."""
    return name.endswith("Error") or name in ("OverTime", "OverBytes", "Interrupted")


class Tidy(Transformer):
    """Removes assignments to locals that are never read."""

    def __init__(self, quiet: frozenset[str] = frozenset()) -> None:
        self.changed = False
        self.quiet = quiet
        """Functions of ours that change nothing."""
        self.unread: set[str] = set()
        self.within: set[str] | None = None
        """Names that the function around reads; None at the top and in a class."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt | None:
        if self.within is not None and node.name not in self.within and not node.decorator_list:
            self.changed = True
            return None
        outer, outside_of = self.unread, self.within
        names = [inner for inner in walk(node) if isinstance(inner, ast.Name)]
        read = {inner.id for inner in names if not isinstance(inner.ctx, ast.Store)}
        outside = {name for inner in walk(node) if isinstance(inner, ast.Global | ast.Nonlocal) for name in inner.names}
        self.unread = {inner.id for inner in names} - read - outside
        self.within = (self.within or set()) | read | outside
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        self.unread, self.within = outer, outside_of
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        outer, outside_of, self.unread, self.within = self.unread, self.within, set(), None
        self.generic_visit(node)
        self.unread, self.within = outer, outside_of
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            return self.pairs(node, target, node.value)
        if all(self.idle(target, node.value) for target in node.targets) or self.all_idle(node):
            self.changed = True
            return None
        called_for_itself = isinstance(node.value, ast.Call) and not is_quiet(node.value)
        if len(node.targets) == 1 and isinstance(target, ast.Name) and target.id in self.unread and called_for_itself:
            self.changed = True
            return ast.copy_location(ast.Expr(node.value), node)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        if isinstance(node.value, ast.Call) and self.quiet and is_quiet(node.value, self.quiet):
            self.changed = True
            return None
        return node

    def visit_withitem(self, node: ast.withitem) -> ast.withitem:
        if isinstance(node.optional_vars, ast.Name) and node.optional_vars.id in self.unread:
            node.optional_vars = None
        return node

    def all_idle(self, node: ast.Assign) -> bool:
        """Whether none of the names that something is taken apart into is read, and making it changes nothing."""
        target, value = node.targets[0], node.value
        names = target.elts if isinstance(target, ast.Tuple) and len(node.targets) == 1 else []
        ours = isinstance(value, ast.Call) and called(value) in self.quiet  # not a library's, which may refuse
        return bool(names) and ours and all(self.idle(name, value) for name in names)

    def pairs(self, node: ast.Assign, target: ast.Tuple, value: ast.Tuple) -> ast.stmt | None:
        """`a, b = x, y` without the ones that are not read."""
        if len(target.elts) != len(value.elts):
            return node
        both = list(zip(target.elts, value.elts, strict=True))
        kept = [pair for pair in both if not self.idle(*pair)]
        if len(kept) == len(both):
            return node
        self.changed = True
        if not kept:
            return None
        target.elts, value.elts = [left for left, _ in kept], [right for _, right in kept]
        return node if len(kept) > 1 else ast.copy_location(ast.Assign([kept[0][0]], kept[0][1]), node)

    def idle(self, target: ast.expr, value: ast.expr) -> bool:
        """Whether an assignment changes nothing."""
        return (
            isinstance(target, ast.Name)
            and target.id in self.unread
            and (is_silent(value) or (bool(self.quiet) and is_quiet(value, self.quiet)))
        )

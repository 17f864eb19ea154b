"""Which names a function binds, and to what."""

import ast
from collections.abc import Iterator

from paramgolf.bundle.trees import children, walk


def argument_names(arguments: ast.arguments) -> set[str]:
    """The names of all arguments."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in every if argument is not None}


def stored_names(node: ast.AST) -> set[str]:
    """Every name that is bound somewhere inside `node`."""
    found = set()
    for inner in walk(node):
        if isinstance(inner, ast.Name):
            if not isinstance(inner.ctx, ast.Load):
                found.add(inner.id)
        elif isinstance(inner, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler) and inner.name and inner is not node:
            found.add(inner.name)
    return found


Bindings = list[tuple[str, ast.expr]]
"""Names, each with an expression that decides what it is bound to."""


def single_bindings(function: ast.FunctionDef) -> tuple[Bindings, Bindings]:
    """Locals that are bound at exactly one place, in order: those assigned plainly, and those that a loop goes by."""
    counts = bound_counts(function)
    assigned: Bindings = []
    looped: Bindings = []
    for node in own_nodes(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            assigned += assigned_pairs(node.targets[0], node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            assigned += assigned_pairs(node.target, node.value)
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            looped.append((node.target.id, node.iter))
    once = {name for name, count in counts.items() if count == 1}
    return [pair for pair in assigned if pair[0] in once], [pair for pair in looped if pair[0] in once]


def bound_counts(function: ast.FunctionDef) -> dict[str, int]:
    """At how many places each name inside a function is bound; one of another scope at more than one."""
    counts: dict[str, int] = {}
    targets = [node.target for node in walk(function) if isinstance(node, ast.comprehension)]
    theirs = {id(node) for target in targets for node in walk(target)}  # a comprehension's own
    for node in walk(function):
        if id(node) in theirs:
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            counts[node.id] = counts.get(node.id, 0) + 1
        elif isinstance(node, ast.Global | ast.Nonlocal):
            counts |= dict.fromkeys(node.names, 2)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node is not function:
            counts[node.name] = 2
    return counts


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Everything inside a function but outside of the functions, lambdas and classes in it."""
    for child in children(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield from own_nodes(child)


def assigned_pairs(target: ast.expr, value: ast.expr) -> list[tuple[str, ast.expr]]:
    """The names in `target` with the expression that each is assigned."""
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return [
            pair for left, right in zip(target.elts, value.elts, strict=True) for pair in assigned_pairs(left, right)
        ]
    return []

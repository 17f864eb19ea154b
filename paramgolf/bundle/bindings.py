"""Which names a function binds, and to what."""

import ast
from collections.abc import Iterator


def argument_names(arguments: ast.arguments) -> set[str]:
    """The names of all arguments."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in every if argument is not None}


def stored_names(node: ast.AST) -> set[str]:
    """Every name that is bound somewhere inside `node`."""
    found = {
        inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load)
    }
    inside = [inner for inner in ast.walk(node) if inner is not node]
    found |= {inner.name for inner in inside if isinstance(inner, ast.FunctionDef | ast.ClassDef)}
    return found | {inner.name for inner in inside if isinstance(inner, ast.ExceptHandler) and inner.name}


def single_assignments(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """Locals that are bound at exactly one place, by a plain assignment, with what they are bound to, in order."""
    counts = bound_counts(function)
    pairs: list[tuple[str, ast.expr]] = []
    for node in own_nodes(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            pairs += assigned_pairs(node.targets[0], node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            pairs += assigned_pairs(node.target, node.value)
    return ((name, value) for name, value in pairs if counts.get(name) == 1)


def single_loops(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """Locals that are bound at exactly one place, as what a loop goes over, with that."""
    counts = bound_counts(function)
    loops = (node for node in own_nodes(function) if isinstance(node, ast.For))
    pairs = ((node.target.id, node.iter) for node in loops if isinstance(node.target, ast.Name))
    return ((name, value) for name, value in pairs if counts.get(name) == 1)


def bound_counts(function: ast.FunctionDef) -> dict[str, int]:
    """At how many places each name inside a function is bound; one of another scope at more than one."""
    counts: dict[str, int] = {}
    targets = [node.target for node in ast.walk(function) if isinstance(node, ast.comprehension)]
    theirs = {id(node) for target in targets for node in ast.walk(target)}  # a comprehension's own
    for node in ast.walk(function):
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
    for child in ast.iter_child_nodes(function):
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

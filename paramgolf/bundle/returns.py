"""What functions of ours give, from all that they return."""

import ast
from collections.abc import Callable

from paramgolf.bundle.gather import joined_facts
from paramgolf.bundle.inline import always_returns, own_returns
from paramgolf.bundle.known import Fact, OneOf
from paramgolf.bundle.quiet import only_works_out
from paramgolf.bundle.trees import walk


def given_back(node: ast.FunctionDef, fact: Callable[[ast.expr], Fact]) -> Fact:
    """What is known of the result of a folded function; a plain value only where calling it does nothing else."""
    if any(isinstance(inner, ast.Yield | ast.YieldFrom | ast.Await) for inner in walk(node)):
        return None
    values = [item.value or ast.Constant(None) for part in node.body for item in own_returns(part)]
    if not always_returns(node.body):
        values.append(ast.Constant(None))
    found = joined_facts(fact(value) for value in values)
    quiet = len(values) == 1 and not node.decorator_list and only_works_out(node, frozenset())
    return found if quiet or not isinstance(found, OneOf) else None

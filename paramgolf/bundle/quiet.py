"""What can be left out without a trace, as far as names tell."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from paramgolf.bundle.trees import children

QUIET_CALLS = frozenset(
    {
        "abs",
        "all",
        "any",
        "bool",
        "dict",
        "float",
        "int",
        "isinstance",
        "len",
        "list",
        "max",
        "min",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
        "type",
        "zip",
        "enumerate",
        "repr",
        "id",
        "getattr",
        "hasattr",
        "fields",
        "isfinite",
        "isnan",
        "nonzero",
        "clone",
        "flatten",
        "numel",
        "element_size",
        "keys",
        "values",
        "items",
        "get",
        "join",
        "stat",
        "exists",
        "is_file",
        "startswith",
        "endswith",
        "difference",
        "union",
        "prod",
        "crc32",
        "hex",
        "item",
        "dim",
        "size",
        "fromkeys",
        "count",
        "flatnonzero",
        "_asdict",
        "parameters",
        "named_parameters",
        "modules",
        "named_modules",
        "declared",
        "artifact_ledger",
        "partial",
        "zeros",
        "ones",
        "empty",
        "array",
        "arange",
        "range",
        "perf_counter",
        "max_memory_allocated",
        "max_memory_reserved",
        "sha256",
        "hexdigest",
        "encode",
        "lstrip",
        "rstrip",
        "index",
        "elapsed",
    }
)
"""Functions and methods whose calls change nothing."""


def is_quiet(node: ast.expr, more: frozenset[str] = frozenset()) -> bool:
    """Whether leaving `node` out changes nothing, calls of functions in `more` included."""
    for inner in evaluated_parts(node):
        if isinstance(inner, ast.NamedExpr | ast.Yield | ast.YieldFrom | ast.Await):
            return False
        if isinstance(inner, ast.Call):
            plain = isinstance(inner.func, ast.Name | ast.Attribute)
            if not plain or (called(inner) not in QUIET_CALLS and called(inner) not in more):
                return False
    return True


def evaluated_parts(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and what is in it, but for bodies of functions that it makes."""
    yield node
    if not isinstance(node, ast.Lambda):
        for child in children(node):
            yield from evaluated_parts(child)


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    func = call.func
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""


def quiet_functions(nodes: Iterable[ast.stmt], others: Sequence[Any]) -> frozenset[str]:
    """Names of functions and methods, of none of `others`, of which all definitions only work out what they return."""
    found: dict[str, list[ast.FunctionDef]] = defaultdict(list)
    program = list(nodes)
    for node in program:
        for item in [node, *getattr(node, "body", ())] if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(item, ast.FunctionDef) and not any(hasattr(other, item.name) for other in others):
                found[item.name].append(item)
    quiet = frozenset(node.name for node in program if isinstance(node, ast.ClassDef) and only_keeps(node))
    while True:
        more = frozenset(name for name, group in found.items() if all(only_works_out(item, quiet) for item in group))
        if more <= quiet:
            return quiet
        quiet |= more


def only_keeps(node: ast.ClassDef) -> bool:
    """Whether a class only keeps what it is given."""
    marks = [*node.bases, *(mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list)]
    named = [ast.unparse(mark) for mark in marks] in (["NamedTuple"], ["dataclass"])
    methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    return named and not methods & {"__new__", "__init__", "__post_init__"}


def only_works_out(function: ast.FunctionDef, quiet: frozenset[str]) -> bool:
    """Whether a function binds locals and returns, and does nothing else."""
    if not {ast.unparse(mark) for mark in function.decorator_list} <= {"staticmethod", "property", "cache"}:
        return False
    given = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    return all(is_local(item, quiet, given) for item in function.body)


def is_local(item: ast.stmt, quiet: frozenset[str], given: set[str]) -> bool:
    """Whether a statement changes nothing but locals that were made here."""
    if isinstance(item, ast.Pass):
        return True
    if isinstance(item, ast.If | ast.For):
        head = item.test if isinstance(item, ast.If) else item.iter
        return is_quiet(head, quiet) and all(is_local(part, quiet, given) for part in (*item.body, *item.orelse))
    if isinstance(item, ast.Return | ast.Expr):
        return item.value is None or is_quiet(item.value, quiet)
    if isinstance(item, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = item.targets if isinstance(item, ast.Assign) else [item.target]
        names = all(is_plain_target(target) for target in targets)
        kept = not isinstance(item, ast.AugAssign) or ast.unparse(item.target) not in given
        return names and kept and (item.value is None or is_quiet(item.value, quiet))
    return False


def is_plain_target(target: ast.expr) -> bool:
    """Whether only names are bound."""
    return isinstance(target, ast.Name) or (isinstance(target, ast.Tuple) and all(map(is_plain_target, target.elts)))

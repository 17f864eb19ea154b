"""Whether a script fits together: every call of its own functions as they take arguments, every name bound.

A proof on a CPU runs no kernel and none of what kernels need; what a wrong rewrite leaves there is found in the text.
"""

import ast
import builtins
import symtable
from collections.abc import Iterator
from typing import NamedTuple

from paramgolf.bundle.applied import describes, forward_of, is_applied, is_launched
from paramgolf.bundle.passed import passes_arguments
from paramgolf.bundle.slim import names_looked_up
from paramgolf.bundle.trees import walk
from paramgolf.bundle.unused import called_name, local_names
from paramgolf.errors import GolfError

LAUNCH_OPTIONS = frozenset({"num_warps", "num_stages"})
"""What Triton takes beside the parameters of a kernel."""
OF_MODULES = frozenset({"__file__", "__name__"})
"""Names that every module has."""


class Taken(NamedTuple):
    """What a function can be called with."""

    positional: tuple[str, ...]
    named: frozenset[str]
    """All that may be given by name."""
    needed: frozenset[str]
    more: bool = False
    """Whether any number of positional ones is taken."""
    anything: bool = False
    """Whether any name is."""


def taken(arguments: ast.arguments, skips: int = 0, options: frozenset[str] = frozenset()) -> Taken:
    """What a function with `arguments` can be called with, the first `skips` of which callers do not give."""
    positional = tuple(item.arg for item in (*arguments.posonlyargs, *arguments.args))[skips:]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    needed = {item.arg for item, default in pairs if default is None}
    needed |= {*positional[: len(positional) - len(arguments.defaults)]}
    by_name = {*positional, *(item.arg for item in arguments.kwonlyargs)} | options
    return Taken(
        positional, frozenset(by_name), frozenset(needed), arguments.vararg is not None, arguments.kwarg is not None
    )


def takers(tree: ast.Module) -> dict[str, Taken]:
    """The functions at the top of a script, kernels and functions of autograd among them, by what calls name."""
    found = {}
    for node in definitions_at_top(tree.body):
        if isinstance(node, ast.FunctionDef):
            if passes_arguments(node) or is_launched(node) or any(map(describes, node.decorator_list)):
                found[node.name] = taken(node.args, options=LAUNCH_OPTIONS if is_launched(node) else frozenset())
        elif is_applied(node):
            found[f"{node.name}.apply"] = taken(forward_of(node).args, skips=1)
        elif not node.bases and not node.decorator_list:
            makers = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
            found[node.name] = taken(makers[0].args, skips=1) if makers else Taken((), frozenset(), frozenset())
    return found


def definitions_at_top(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Functions and classes of a module, also those that stand in a `try`."""
    for node in body:
        if isinstance(node, ast.Try):
            yield from definitions_at_top(node.body)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node


def misfits(tree: ast.Module) -> Iterator[str]:
    """Each call in a script that its function would refuse, with the reason."""
    found = takers(tree)
    hidden = set(local_names(tree))
    functions = {name.removesuffix(".apply") for name in found if name.endswith(".apply")}
    for node in walk(tree):
        if isinstance(node, ast.Call):
            name = called_name(node, functions)
            if name in found and name not in hidden and (reason := refused(node, found[name])):
                yield f"{ast.unparse(node)[:120]}: {reason}"


def refused(call: ast.Call, taker: Taken) -> str:
    """Why a function would refuse a call, or nothing."""
    named = [item.arg for item in call.keywords if item.arg]
    spread = any(isinstance(item, ast.Starred) for item in call.args) or len(named) < len(call.keywords)
    if len(call.args) > len(taker.positional) and not taker.more and not spread:
        return f"takes {len(taker.positional)} arguments by place"
    given = {*named} if spread else {*named, *taker.positional[: len(call.args)]}
    if (strange := {*named} - taker.named) and not taker.anything:
        return f"takes no {', '.join(sorted(strange))}"
    if not spread and len(given) < len(named) + min(len(call.args), len(taker.positional)):
        return "given twice"
    missing = () if spread else sorted(taker.needed - given)
    return f"lacks {', '.join(missing)}" if missing else ""


def unbound(text: str) -> list[str]:
    """Names that a script reads and neither binds nor finds among those built in."""
    top = symtable.symtable(text, "<script>", "exec")
    bound = {each.get_name() for each in top.get_symbols() if each.is_assigned() or each.is_imported()}
    bound |= {each.get_name() for each in top.get_children()} | {*dir(builtins)} | OF_MODULES
    return sorted(names_looked_up(top) - bound)


def make_sure_it_fits(text: str) -> None:
    """Raises `GolfError` where a script calls one of its functions wrongly or reads a name that nothing binds."""
    found = [*misfits(ast.parse(text)), *(f"{name}: nothing binds it" for name in unbound(text))]
    if found:
        raise GolfError(
            "the script does not fit together",
            evidence="; ".join(found[:3]),
            fix="this is an error of the bundler: please report it with the configuration",
        )

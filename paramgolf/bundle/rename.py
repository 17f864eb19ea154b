"""Short names for fields, methods and keyword arguments, which a minifier leaves alone: it cannot see their ends.

A renaming of one identifier everywhere changes nothing, unless others know it: libraries, strings, files. What they may
know keeps its name. So does everything that modules of torch hold, because parameters are called after it.
"""

import ast
import builtins
import importlib
import itertools
import keyword
import re
import string
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from paramgolf.bundle.guards import OTHERS, called

SPOKEN = frozenset({"Result", "WithinBudget"})
"""Classes whose fields are written to files."""


def with_short_names(tree: ast.Module) -> ast.Module:
    """`tree`, changed in place, with the shortest names for the identifiers of its own that are used most."""
    own = own_identifiers(tree) - known_to_others(tree)
    counts = Counter(identifiers(tree))
    free = (name for name in short_names() if name not in counts and name not in taken_words())
    chosen = dict(zip(sorted(own, key=lambda name: (-counts[name] * len(name), name)), free))
    for node in ast.walk(tree):
        for place in PLACES.get(type(node), ()):
            old = getattr(node, place)
            if isinstance(old, str):
                setattr(node, place, chosen.get(old, old))
    return tree


PLACES: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Name: ("id",),
    ast.Attribute: ("attr",),
    ast.keyword: ("arg",),
    ast.arg: ("arg",),
    ast.FunctionDef: ("name",),
    ast.ClassDef: ("name",),
    ast.ExceptHandler: ("name",),
}
"""Where identifiers stand in source, imports left out."""


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every use of an identifier."""
    for node in ast.walk(tree):
        for place in PLACES.get(type(node), ()):
            name = getattr(node, place)
            if isinstance(name, str):
                yield name


def own_identifiers(tree: ast.Module) -> set[str]:
    """Fields, methods, attributes and parameters that the program itself defines."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                found |= {inner.id for inner in targets_of(item)}
                found |= {item.name} if isinstance(item, ast.FunctionDef) else set()
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            found |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    return {name for name in found if not name.startswith("__") and len(name) > 2}


def targets_of(item: ast.stmt) -> list[ast.Name]:
    """The names that a statement in a class assigns."""
    targets = item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
    return [target for target in targets if isinstance(target, ast.Name)]


def known_to_others(tree: ast.Module) -> set[str]:
    """Identifiers that must stay: of libraries, in strings, passed to what is not ours, in modules, in files."""
    found = library_words(tree) | set(dir(builtins))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"\w+", node.value))
        elif isinstance(node, ast.Call) and (called(node) not in defined or called(node) in found):
            found |= {item.arg for item in node.keywords if item.arg}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {word for alias in node.names for word in (alias.asname or alias.name).split(".")}
        elif isinstance(node, ast.ClassDef) and node.name in SPOKEN:
            found |= {target.id for item in node.body for target in targets_of(item)}
    return found | module_attributes(tree)


def module_attributes(tree: ast.Module) -> set[str]:
    """Attributes that modules of torch assign to themselves."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def is_module(node: ast.ClassDef) -> bool:
        bases = [ast.unparse(base) for base in node.bases]
        return any("Module" in base or (base in classes and is_module(classes[base])) for base in bases)

    inside = [inner for node in classes.values() if is_module(node) for inner in ast.walk(node)]
    return {inner.attr for inner in inside if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store)}


def library_words(tree: ast.Module) -> set[str]:
    """Attributes of everything that is imported, and of the classes in it."""
    made = torch.optim.AdamW([torch.zeros(1)])  # it has attributes that its class does not tell of
    found = set(dir(made)) | set(made.defaults)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # looking at a deprecated name is no use of it
        for thing in (*OTHERS, *imported_things(tree)):
            found |= set(dir(thing))
            for value in list(vars(thing).values()) if hasattr(thing, "__dict__") else ():
                found |= set(dir(value)) if isinstance(value, type) else set()
    return found


def imported_things(tree: ast.Module) -> Iterator[Any]:
    """The modules that the script imports at its top."""
    for node in tree.body:
        names: Iterable[str] = ()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            yield importlib.import_module(name)


def short_names() -> Iterator[str]:
    """Identifiers of one letter, then two, and so on."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_letters, repeat=length):
            yield "".join(letters)


def taken_words() -> set[str]:
    """Words that cannot be chosen."""
    return {*keyword.kwlist, *keyword.softkwlist, *dir(builtins)}

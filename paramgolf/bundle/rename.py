"""Short names for everything that a script names itself: globals, locals, parameters, fields, methods.

One identifier gets one name wherever it stands, so that a compressor which has seen `tokens` once knows the letter for
it; identifiers that never stand in one function share letters, the most used first. A renaming of one identifier
everywhere changes nothing, unless others know it: libraries, strings, files. What they may know keeps its name.
"""

import ast
import builtins
import importlib
import itertools
import keyword
import re
import string
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from paramgolf.bundle.guards import OTHERS
from paramgolf.bundle.identifiers import Identifiers, Keywords, Word, own_fields, targets_of
from paramgolf.bundle.trees import walk

SPOKEN = frozenset({"Result", "WithinBudget"})
"""Classes whose fields are written to files."""


def with_short_names(tree: ast.Module) -> ast.Module:
    """`tree`, changed in place, with the shortest names for the identifiers that are used most."""
    keywords = Keywords(tree)
    others = known_to_others(tree) | keywords.unknown
    found = Identifiers(tree, frozenset(own_fields(tree) - others), keywords)
    chosen = chosen_names(found)
    for node, place, word in found.slots:
        if isinstance(node, ast.alias):
            node.asname = None if chosen[word] == node.name else chosen[word]
        else:
            setattr(node, place, chosen[word])
    return tree


def chosen_names(found: Identifiers) -> dict[Word, str]:
    """A name for each word, other than what else is named where the word stands."""
    counts = Counter(word for _, _, word in found.slots)
    spread = {word: len(spaces) for word, spaces in found.spaces.items()}
    taken = defaultdict(set, {space: set(names) for space, names in found.kept.items()})
    chosen: dict[Word, str] = {}
    for word in sorted(counts, key=lambda word: (-(counts[word] ** 2) * spread[word], word)):
        places = found.spaces[word]
        chosen[word] = next(name for name in short_names() if not any(name in taken[place] for place in places))
        for place in places:
            taken[place].add(chosen[word])
    return chosen


def known_to_others(tree: ast.Module) -> set[str]:
    """Identifiers that must stay wherever they name an attribute: of libraries, in strings, in files."""
    found = library_words(tree) | set(dir(builtins))
    inside: set[str] = set()
    for node in walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = re.findall(r"\w+", node.value)
            inside |= {*words}
            # Attributes are asked for by whole strings; the options of a parser become attributes.
            found |= {*words} if node.value.startswith("--") or node.value.isidentifier() else set()
        elif isinstance(node, ast.ClassDef) and node.name in SPOKEN:
            found |= {target.id for item in node.body for target in targets_of(item)}
        elif isinstance(node, ast.ClassDef):
            found |= {item.arg for item in node.keywords if item.arg}
    return found | (module_attributes(tree) & inside)


def module_attributes(tree: ast.Module) -> set[str]:
    """Attributes that modules of torch assign to themselves: parameters are called after them, as strings may tell."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def is_module(node: ast.ClassDef) -> bool:
        bases = [ast.unparse(base) for base in node.bases]
        return any("Module" in base or (base in classes and is_module(classes[base])) for base in bases)

    inside = [inner for node in classes.values() if is_module(node) for inner in walk(node)]
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
    taken = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins)}
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_letters, repeat=length):
            if (name := "".join(letters)) not in taken:
                yield name

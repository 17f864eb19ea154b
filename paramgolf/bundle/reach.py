"""Reachability: which definitions, and which methods of classes, a program can come to.

A method is reached when its class is and something reached mentions its name as an attribute or in a string, or when a
class of others that it inherits from may call it. That errs on the side of keeping.
"""

import ast
import builtins
import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

from paramgolf.bundle.known import live
from paramgolf.bundle.slim import KINDS, copied, global_names, slim
from paramgolf.bundle.trees import Transformer, walk
from paramgolf.bundle.units import OURS, Definition, Units, home_of
from paramgolf.errors import GolfError

Rewrite = Callable[[Definition], ast.stmt]
"""Gives a copy of the statement of a definition, simplified."""


class Reached(NamedTuple):
    """What a program needs."""

    definitions: tuple[Definition, ...]
    """With their simplified statements, classes without methods that nothing calls."""
    imports: frozenset[str]
    """Import statements."""


class Reach:
    """Follows names from an entry to what they mean."""

    def __init__(self, units: Units, rewrite: Rewrite, weak: frozenset[str]) -> None:
        self.units = units
        self.rewrite = rewrite
        self.weak = weak
        """Tables that list only what is reached without them."""
        self.kept: dict[tuple[str, str], Definition] = {}
        self.imports: set[tuple[str, str]] = set()
        self.mentioned: dict[str, set[type] | None] = {}
        """Attribute -> the types of what it is asked of; None: it may be anything."""
        self.called: dict[str, set[type] | None] = {}
        """The same of attributes that may be functions: no item of them is asked for."""
        self.waiting: list[tuple[str, str]] = []
        self.members: dict[tuple[str, str], dict[str, ast.stmt]] = {}
        """Of each class, the methods that are not reached yet."""

    def want(self, module: str, name: str) -> None:
        """Ask for what `name` means in `module`."""
        home = home_of(self.units, module, name)
        if home is None:
            if not hasattr(builtins, name) and name not in ("__file__", "__name__"):
                raise GolfError(f"the bundler does not know what {name} in {module} is")
            return
        for line in home.imports:
            self.take_import(name, line)
        if home.definition is not None:
            self.waiting.append((home.definition.module, name))

    def take_import(self, name: str, line: str) -> None:
        """Take an import of others along. Raises `GolfError` when two modules mean different things by `name`."""
        others = {other for (known, other) in self.imports if known == name} - {line}
        if any(not other.startswith("import ") or " as " in other for other in (*others, line) if others):
            raise GolfError(f"{name} is imported in two ways: `{line}`, `{others.pop()}`")
        self.imports.add((name, line))

    def run(self) -> Reached:
        """Everything that is reached from what was asked for."""
        while self.waiting or self.awakened():
            while self.waiting:
                module, name = self.waiting.pop()
                if (module, name) not in self.kept:
                    self.keep(self.units[module].definitions[name])
        self.refuse_double_names()
        for key, rest in self.members.items():
            node = cast(ast.ClassDef, self.kept[key].node)
            node.body = [item for item in node.body if item not in rest.values()] or [ast.Pass()]
        names = {name for _, name in self.kept}
        for key in [key for key in self.kept if key[1] in self.weak]:
            Prune(names).visit(self.kept[key].node)
        return Reached(tuple(self.kept.values()), frozenset(line for _, line in self.imports))

    def refuse_double_names(self) -> None:
        """Raise `GolfError` when two modules define one name: in one script there is room for one."""
        homes: dict[str, str] = {}
        for module, name in self.kept:
            if homes.setdefault(name, module) != module:
                raise GolfError(
                    f"{name} is defined in {homes[name]} and in {module}",
                    fix="give one of them another name: a bundle copies both into one script",
                )

    def keep(self, definition: Definition) -> None:
        """Take a definition along, and ask for what it names."""
        key = (definition.module, definition.name)
        node = self.rewrite(definition)
        self.waiting += [
            (definition.module, name) for name in self.units[definition.module].attached.get(definition.name, ())
        ]
        self.kept[key] = definition._replace(node=node)
        if definition.name in self.weak:
            return
        if isinstance(node, ast.ClassDef):
            rest = {
                item.name: item for item in node.body if isinstance(item, ast.FunctionDef) and self.optional(key, item)
            }
            self.members[key] = dict(rest)
            bare = copy.copy(node)
            bare.body = [item for item in node.body if item not in rest.values()] or [ast.Pass()]
            node = bare
        self.read(definition.module, node)

    def optional(self, key: tuple[str, str], method: ast.FunctionDef) -> bool:
        """Whether a method is needed only if something of ours calls it."""
        if method.name.startswith("__"):
            return False
        bases = getattr(live(*key), "__mro__", None)
        if bases is None:
            return False
        others = [
            base
            for base in bases
            if not base.__module__.startswith(OURS) and base.__name__ not in ("Protocol", "object")
        ]
        return not any(hasattr(base, method.name) for base in others)

    def read(self, module: str, node: ast.stmt) -> None:
        """Ask for every name in `node` and note what it mentions."""
        bare = slim(copied(node))
        for name, kinds in mentions(bare):
            noted(self.mentioned, name, kinds)
        for name, kinds in mentions(bare, of_functions=True):
            noted(self.called, name, kinds)
        for name in sorted(global_names(bare)):
            self.want(module, name)

    def awakened(self) -> bool:
        """Read the methods that have been mentioned since; whether there were any."""
        found = False
        for key, rest in self.members.items():
            for name in [name for name, node in rest.items() if self.is_mentioned(key, name, node)]:
                self.read(key[0], rest.pop(name))
                found = True
        return found

    def is_mentioned(self, key: tuple[str, str], name: str, node: ast.stmt) -> bool:
        """Whether something may ask an object of the class `key` for its method `name`."""
        plain = not getattr(node, "decorator_list", ())
        kinds = (self.called if plain else self.mentioned).get(name, set())
        own = live(*key)
        if kinds is None or own is None:
            return kinds is None or bool(kinds)
        return any(issubclass(own, kind) or issubclass(kind, own) for kind in kinds)


def noted(table: dict[str, set[type] | None], name: str, kinds: set[type] | None) -> None:
    """Add to what a table says of a name."""
    before = table.setdefault(name, set())
    table[name] = None if before is None or kinds is None else before | kinds


def mentions(node: ast.AST, *, of_functions: bool = False) -> Iterator[tuple[str, set[type] | None]]:
    """Names of attributes that `node` asks for, with the types that folding found; strings too, beside a `getattr`.

    `of_functions`: those alone that may be functions, as no item of them is asked for.
    """
    every = list(walk(node))
    others = {id(inner.value) for inner in every if isinstance(inner, ast.Subscript)} if of_functions else set()
    for inner in every:
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Load) and id(inner) not in others:
            yield inner.attr, getattr(inner, KINDS, None)
    for name in mentioned_strings(node):
        yield name, None


def mentioned_strings(node: ast.AST) -> Iterator[str]:
    """The strings in a definition that asks for attributes by name."""
    every = list(walk(node))
    if any(isinstance(inner, ast.Name) and inner.id == "getattr" for inner in every):
        yield from (inner.value for inner in every if isinstance(inner, ast.Constant) and isinstance(inner.value, str))


class Prune(Transformer):
    """Leaves out of tables what is not there."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        node.elts = [item for item in node.elts if not isinstance(item, ast.Name) or item.id in self.names]
        return node

"""Reachability: which definitions, and which methods of classes, a program can come to.

A method is reached when its class is and something reached mentions its name as an attribute or in a string, or when a
class of others that it inherits from may call it. That errs on the side of keeping.
"""

import ast
import builtins
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, cast

from paramgolf.bundle.known import live
from paramgolf.bundle.slim import global_names, slim
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

    def __init__(self, units: Units, rewrite: Rewrite, stand_ins: Mapping[str, tuple[str, str]], weak: frozenset[str]) -> None:
        self.units = units
        self.rewrite = rewrite
        self.stand_ins = stand_ins
        """Name -> the module and name of what takes its place."""
        self.weak = weak
        """Tables that list only what is reached without them."""
        self.kept: dict[tuple[str, str], Definition] = {}
        self.imports: set[tuple[str, str]] = set()
        self.mentioned: set[str] = set()
        self.waiting: list[tuple[str, str]] = []
        self.members: dict[tuple[str, str], dict[str, ast.stmt]] = {}
        """Of each class, the methods that are not reached yet."""

    def want(self, module: str, name: str) -> None:
        """Ask for what `name` means in `module`."""
        module, name = self.stand_ins.get(name, (module, name))
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
        for key, rest in self.members.items():
            node = cast(ast.ClassDef, self.kept[key].node)
            node.body = [item for item in node.body if item not in rest.values()] or [ast.Pass()]
        names = {name for _, name in self.kept}
        for key in [key for key in self.kept if key[1] in self.weak]:
            Prune(names).visit(self.kept[key].node)
        return Reached(tuple(self.kept.values()), frozenset(line for _, line in self.imports))

    def keep(self, definition: Definition) -> None:
        """Take a definition along, and ask for what it names."""
        key = (definition.module, definition.name)
        node = self.rewrite(definition)
        self.waiting += [(definition.module, name) for name in self.units[definition.module].attached.get(definition.name, ())]
        self.kept[key] = definition._replace(node=node)
        if definition.name in self.weak:
            return
        if isinstance(node, ast.ClassDef):
            rest = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef) and self.optional(key, item)}
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
        others = [base for base in bases if not base.__module__.startswith(OURS) and base.__name__ not in ("Protocol", "object")]
        return not any(hasattr(base, method.name) for base in others)

    def read(self, module: str, node: ast.stmt) -> None:
        """Ask for every name in `node` and note what it mentions."""
        bare = slim(copy.deepcopy(node))
        self.mentioned.update(mentions(bare))
        for name in sorted(global_names(bare)):
            self.want(module, name)

    def awakened(self) -> bool:
        """Read the methods that have been mentioned since; whether there were any."""
        found = False
        for (module, _), rest in self.members.items():
            for name in [name for name in rest if name in self.mentioned]:
                self.read(module, rest.pop(name))
                found = True
        return found


def mentions(node: ast.AST) -> Iterator[str]:
    """Names of attributes in `node`, and strings that could be one."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute):
            yield inner.attr
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str) and inner.value.isidentifier():
            yield inner.value


class Prune(ast.NodeTransformer):
    """Leaves out of tables what is not there."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        node.elts = [item for item in node.elts if not isinstance(item, ast.Name) or item.id in self.names]
        return node

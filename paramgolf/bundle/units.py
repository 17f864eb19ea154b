"""The package as text: what each module defines, and where the names it uses come from.

Two rules of the package make this a matter of reading: modules of ours are imported only as `from paramgolf.x import
name`, and importing a module runs nothing but definitions.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from paramgolf.bundle.trees import walk
from paramgolf.errors import GolfError

OURS = "paramgolf"


class Definition(NamedTuple):
    """One top-level statement that makes a name."""

    name: str
    module: str
    line: int
    node: ast.stmt


class Unit(NamedTuple):
    """One module."""

    module: str
    definitions: dict[str, Definition]
    ours: dict[str, str]
    """Name -> the module of ours that it is imported from, anywhere in the file."""
    theirs: dict[str, tuple[str, ...]]
    """Name -> the import statements at the top of the file that provide it."""
    before: tuple[str, ...]
    """Modules of ours that importing this one imports, in order."""
    attached: dict[str, list[str]]
    """Name -> functions that a decorator belonging to it registers, as `@operator.register_fake`."""


Units = Mapping[str, Unit]


def read_units(package: Path) -> dict[str, Unit]:
    """Every module below the folder `package`, by dotted name."""
    units = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        dotted = ".".join((OURS, *parts)).removesuffix(".__init__")
        units[dotted] = read_unit(dotted, ast.parse(path.read_text(encoding="utf-8"), path.name))
    return units


def read_unit(module: str, tree: ast.Module) -> Unit:
    """The module called `module` with the parsed source `tree`."""
    unit = Unit(module, {}, {}, {}, tuple(imported_above(tree)), {})
    for inner in walk(tree):
        if isinstance(inner, ast.ImportFrom) and is_our_import(inner):
            unit.ours.update({alias.name: inner.module or "" for alias in inner.names})
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and not is_our_import(node):
            for name, line in import_lines(node):
                unit.theirs[name] = (*unit.theirs.get(name, ()), line)
        for name in names_made(node):
            unit.definitions[name] = Definition(name, module, node.lineno, node)
        if isinstance(node, ast.FunctionDef):
            for owner in owners_of(node):
                unit.attached.setdefault(owner, []).append(node.name)
    return unit


def imported_above(tree: ast.Module) -> Iterator[str]:
    """Modules of ours that the top of a file imports from."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and is_our_import(node):
            yield node.module or ""


def owners_of(node: ast.FunctionDef) -> Iterator[str]:
    """The names whose methods decorate a function."""
    for decorator in node.decorator_list:
        place = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(place, ast.Attribute) and isinstance(place.value, ast.Name):
            yield place.value.id


def is_our_import(node: ast.AST) -> bool:
    """Whether `node` imports from the package."""
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == OURS


def import_lines(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """The names that an import of others binds, each with a statement that binds it alone."""
    for alias in node.names:
        above, _, last = alias.name.rpartition(".")
        one: ast.stmt = ast.Import([alias])
        if isinstance(node, ast.ImportFrom):
            one = ast.ImportFrom(node.module, [alias], 0)
        elif above and alias.asname:  # the same however it is written
            one = ast.ImportFrom(above, [ast.alias(last, alias.asname)], 0)
        yield alias.asname or alias.name.split(".")[0], ast.unparse(one)


def names_made(node: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement defines; imports left out."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (inner.id for target in targets for inner in walk(target) if isinstance(inner, ast.Name))


class Home(NamedTuple):
    """Where a name that a module uses is made: `definition` of ours, or `imports` from others."""

    definition: Definition | None
    imports: tuple[str, ...] = ()


def home_of(units: Units, module: str, name: str) -> Home | None:
    """What `name` means at the top level of `module`; None for a builtin or a name that nobody makes."""
    unit = units[module]
    if name in unit.definitions:
        return Home(unit.definitions[name])
    if name in unit.ours:
        source = unit.ours[name]
        if source not in units:
            raise GolfError(f"{module} imports {name} from {source}, which does not exist")
        return home_of(units, source, name)
    return Home(None, unit.theirs[name]) if name in unit.theirs else None


def import_order(units: Units) -> dict[str, int]:
    """Module -> its place when each comes after those that it imports."""
    begun: set[str] = set()
    order: list[str] = []

    def place(module: str) -> None:
        if module in units and module not in begun:
            begun.add(module)
            for needed in units[module].before:
                place(needed)
            order.append(module)

    for module in units:
        place(module)
    return {module: number for number, module in enumerate(order)}


def with_methods_replaced(units: Units, home: str, stand_ins: Mapping[tuple[str, str], str]) -> dict[str, Unit]:
    """The same with methods, by class and name, replaced by functions of the module `home`."""
    own, new = units[home], dict(units)
    for (kind, method), other in stand_ins.items():
        node = cast(ast.FunctionDef, own.definitions[other].node)
        arguments = {field: getattr(node, field) for field in node._fields} | {"name": method}
        moved = ast.copy_location(ast.FunctionDef(**arguments), node)
        for module, unit in new.items():
            item = unit.definitions.get(kind)
            if item is not None and isinstance(item.node, ast.ClassDef):
                parts = [moved if getattr(part, "name", "") == method else part for part in item.node.body]
                fields = {field: getattr(item.node, field) for field in item.node._fields} | {"body": parts}
                whole = ast.copy_location(ast.ClassDef(**fields), item.node)
                named = dict.fromkeys(own.definitions, home) | {
                    name: place for name, place in own.ours.items() if name not in unit.definitions
                }
                new[module] = unit._replace(
                    definitions={**unit.definitions, kind: item._replace(node=whole)},
                    ours={**named, **unit.ours},
                    theirs={**own.theirs, **unit.theirs},
                )
    return new


def transplanted(units: Units, home: str, stand_ins: Mapping[str, str]) -> dict[str, Unit]:
    """The same with each name in `stand_ins` meaning, wherever it is imported from, what `home` defines for it."""
    own = dict(units[home].definitions)
    new = {}
    for name, other in stand_ins.items():
        node = cast(ast.FunctionDef | ast.ClassDef, own.pop(other).node)
        arguments = {field: getattr(node, field) for field in node._fields} | {"name": name}
        new[name] = Definition(name, home, node.lineno, ast.copy_location(type(node)(**arguments), node))
    changed = {
        module: unit._replace(definitions={key: new.get(key, value) for key, value in unit.definitions.items()})
        for module, unit in units.items()
    }
    return {**changed, home: units[home]._replace(definitions={**own, **new})}

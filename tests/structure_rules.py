"""The rules of the package's structure, as functions of its parsed source that return what breaks them."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from name_matching import NameMatching

ROOT = "paramgolf"
STAGES = {"data", "model", "optim", "quant", "artifact", "evaluate"}
DESKS = {"presets", "lab", "bundle", "verify", "remote", "leaderboard", "council"}
RUN = {"run", "stages", "validation"}
TOP = {"cli", "__main__", "__init__"}
MAX_FILE, MAX_FUNCTION, MAX_ARGUMENTS = 400, 80, 7


class Source(NamedTuple):
    """One module of the package."""

    parts: tuple[str, ...]
    """Below the package: ("optim", "muon")."""
    text: str
    tree: ast.Module

    def at(self, node: ast.AST | int, message: str) -> str:
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{ROOT}/{'/'.join(self.parts)}.py:{line}: {message}"


Package = Mapping[tuple[str, ...], Source]
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Imported(NamedTuple):
    """One import of ours: `target` is a module of the package, below it."""

    target: tuple[str, ...]
    node: ast.ImportFrom


def parsed(files: Mapping[str, str]) -> Package:
    """A package from path below it ("optim/muon.py") -> text."""
    sources = [
        Source(tuple(path.removesuffix(".py").split("/")), text, ast.parse(text, path)) for path, text in files.items()
    ]
    return {source.parts: source for source in sources}


def package_on_disk(folder: Path) -> Package:
    return parsed({path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.py"))})


def our_imports(source: Source, package: Package) -> Iterator[Imported]:
    """Every `from paramgolf… import …`, wherever it stands, by the module that it reaches."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == ROOT:
            base = tuple((node.module or "").split(".")[1:])
            for alias in node.names:
                inner = (*base, alias.name)
                is_module = inner in package or (*inner, "__init__") in package
                yield Imported(inner if is_module else base, node)


# imports


def layer(parts: tuple[str, ...]) -> str:
    """The name by which the import table knows a module."""
    if parts == () or parts[0] in TOP:
        return "top"
    if parts[0] == "techniques":
        return f"techniques.{parts[1]}" if len(parts) > 1 and parts[1] != "__init__" else "techniques"
    if parts[0] in STAGES | DESKS | {"train"}:
        return parts[0]
    if parts[0] in RUN:
        return "run"
    return parts[0] if parts[0] in ("errors", "registry") else "root"


def allowed_layers(name: str) -> set[str]:
    """Where a module of layer `name` may import from, besides its own layer."""
    roots = {"errors", "registry", "root"}
    below = roots | STAGES | {"train"}
    catalogue = {f"techniques.{stage}" for stage in STAGES}
    table = {"errors": set(), "registry": {"errors"}, "root": roots, "techniques": catalogue}
    table |= dict.fromkeys(STAGES, roots) | {f"techniques.{stage}": roots | {stage} for stage in STAGES}
    table |= {"train": below, "run": below, "presets": below | catalogue | {"techniques", "run"}}
    table |= {desk: table["presets"] | {"presets"} for desk in DESKS - {"presets"}}
    table["verify"] |= {"bundle"}  # the judge reads claims, logs and statistics as the linter does
    return table[name] if name in table else set().union(*table.values(), table, DESKS)


def imports_point_down(package: Package) -> list[str]:
    found = []
    for source in package.values():
        here = layer(source.parts)
        for target, node in our_imports(source, package):
            there = layer(target)
            version = target == () and [alias.name for alias in node.names] == ["__version__"]
            if there not in allowed_layers(here) | {here} and not version:
                found.append(source.at(node, f"{here} must not import {there} ({ast.unparse(node)})"))
    return found


def ours_is_imported_by_name(package: Package) -> list[str]:
    found = []
    for source in package.values():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == ROOT for alias in node.names):
                found.append(source.at(node, f"`{ast.unparse(node)}`; write from {ROOT}.x import name"))
            if isinstance(node, ast.ImportFrom):
                ours = (node.module or "").split(".")[0] == ROOT
                renamed = any(alias.asname not in (None, alias.name) for alias in node.names)
                star = any(alias.name == "*" for alias in node.names)
                bare = node.module == ROOT and [alias.name for alias in node.names] != ["__version__"]
                if node.level or (ours and (renamed or star or bare)):
                    found.append(source.at(node, f"`{ast.unparse(node)}`; write from {ROOT}.x import name"))
    return found


def no_import_cycle(package: Package) -> list[str]:
    edges = {parts: set() for parts in package}
    for parts, source in package.items():
        for target, _ in our_imports(source, package):
            module = target if target in package else (*target, "__init__")
            if module != parts and module in package:
                edges[parts].add(module)
    done: set[tuple[str, ...]] = set()
    found: list[str] = []

    def visit(parts: tuple[str, ...], way: tuple[tuple[str, ...], ...]) -> None:
        if parts in way:
            cycle = (*way[way.index(parts) :], parts)
            found.append("import cycle: " + " -> ".join(".".join(step) for step in cycle))
        elif parts not in done:
            for target in sorted(edges[parts]):
                visit(target, (*way, parts))
            done.add(parts)

    for parts in package:
        visit(parts, ())
    return found


# what a module may hold


MAIN_GUARD = "__name__ == '__main__'"


def module_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that importing runs: those inside `if` and `try` too, but not what only a script runs."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == MAIN_GUARD:
            continue
        if isinstance(node, ast.If | ast.Try):
            yield from module_statements([*node.body, *node.orelse])
        if isinstance(node, ast.Try):
            yield from module_statements([*(s for h in node.handlers for s in h.body), *node.finalbody])


def defined_names(source: Source) -> dict[str, int]:
    """Top-level name -> line, imports left out."""
    names = {}
    for node in module_statements(source.tree.body):
        if isinstance(node, Function | ast.ClassDef):
            names[node.name] = node.lineno
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else targets
        for target in targets:
            names |= {inner.id: node.lineno for inner in ast.walk(target) if isinstance(inner, ast.Name)}
    return names


def no_name_is_defined_twice(package: Package) -> list[str]:
    places = defaultdict(list)
    for source in package.values():
        for name, line in defined_names(source).items():
            private = name.startswith("_") and source.parts[0] in ("cli", "presets")
            if not private and not (name.startswith("__") and name.endswith("__")):
                places[name].append(source.at(line, f"{name!r} is defined"))
    return [place + " more than once" for all_places in places.values() if len(all_places) > 1 for place in all_places]


PURE_CALLS = {
    *("bool", "bytes", "dict", "enumerate", "float", "frozenset", "int", "len", "list", "max", "min", "range", "repr"),
    *("reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip", "field", "replace", "compile", "dtype"),
    *("partial", "join", "split", "fromkeys", "items", "keys", "values", "encode", "namedtuple", "pack", "calcsize"),
    *("sha256", "hexdigest"),
}
"""Calls that a module-level value may make, besides constructors (capitalized names)."""


DEFINITIONS = (*Function.__args__, ast.ClassDef, ast.Import, ast.ImportFrom, ast.If, ast.Try, ast.Pass)


def module_level_only_defines(package: Package) -> list[str]:
    found = []
    for source in package.values():
        for node in imported_statements(source.tree.body):
            if isinstance(node, ast.Assign | ast.AnnAssign):
                odd = {
                    name for name in calls_now(node) if name not in PURE_CALLS and not name.lstrip("_")[:1].isupper()
                }
                if odd:
                    found.append(source.at(node, f"importing calls {', '.join(sorted(odd))}"))
            elif isinstance(node, ast.Expr):
                if not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str | type(...))):
                    found.append(source.at(node, f"importing runs `{ast.unparse(node)[:60]}`"))
            elif not isinstance(node, DEFINITIONS):
                found.append(source.at(node, f"importing runs `{ast.unparse(node)[:60]}`"))
            if isinstance(node, ast.If) and not is_static_condition(node.test, source):
                found.append(source.at(node, f"importing decides on `{ast.unparse(node.test)}`"))
    return found


def imported_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module and of its classes."""
    for node in module_statements(body):
        yield node
        if isinstance(node, ast.ClassDef):
            yield from imported_statements(node.body)


def calls_now(node: ast.AST) -> Iterator[str]:
    """Last names of the functions that evaluating an expression calls; a lambda's body waits."""
    if isinstance(node, ast.Call):
        yield ast.unparse(node.func).split(".")[-1]
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from calls_now(child)


def is_static_condition(test: ast.expr, source: Source) -> bool:
    text = ast.unparse(test)
    main = text == MAIN_GUARD and source.parts[0] in ("cli", "__main__")
    return main or text.split(".")[-1] == "TYPE_CHECKING" or text.startswith("sys.version_info")


def environment_is_read_at_the_edges(package: Package) -> list[str]:
    found = []
    for source in package.values():
        if source.parts[0] == "cli" or source.parts == ("train", "distributed"):
            continue
        for node in ast.walk(source.tree):
            read = isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv")
            taken = isinstance(node, ast.ImportFrom) and node.module == "os"
            if read or (taken and {alias.name for alias in node.names} & {"environ", "environb", "getenv"}):
                found.append(source.at(node, "reads the environment; only train/distributed.py and cli/ may"))
    return found


# roles, not names


def nothing_goes_by_parameter_names(package: Package) -> list[str]:
    found = {}
    for source in package.values():
        if source.parts[0] not in STAGES | {"techniques", "train", "run", "parts", "stored"}:
            continue
        for function in ast.walk(source.tree):
            if isinstance(function, Function):
                matching = NameMatching()
                matching.visit(function)
                for node in matching.found:
                    message = f"`{ast.unparse(node)[:60]}` decides on a name; ask the role"
                    found[source.at(node, message)] = None
    return list(found)


# size, documentation, safety


def sizes_stay_under_the_walls(package: Package) -> list[str]:
    found = []
    for source in package.values():
        lines = len(source.text.splitlines())
        if lines > MAX_FILE:
            found.append(source.at(1, f"{lines} lines, more than {MAX_FILE}"))
        for node in ast.walk(source.tree):
            if not isinstance(node, Function):
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                found.append(source.at(node, f"{node.name} has {length} lines, more than {MAX_FUNCTION}"))
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            kernel = source.parts[:2] == ("model", "kernels")  # operators too take tensors and sizes one by one
            if count > MAX_ARGUMENTS and source.parts[0] != "cli" and not kernel:
                found.append(source.at(node, f"{node.name} takes {count} arguments, more than {MAX_ARGUMENTS}"))
    return found


def everything_public_is_documented(package: Package) -> list[str]:
    found = []
    for source in package.values():
        if source.text.strip() and not ast.get_docstring(source.tree):
            found.append(source.at(1, "the module has no docstring"))
        classes = [node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
        functions = [node for node in module_statements(source.tree.body) if isinstance(node, Function)]
        for node in [*classes, *functions]:
            if not node.name.startswith("_") and not ast.get_docstring(node):
                found.append(source.at(node, f"{node.name} has no docstring"))
    return found


def no_error_is_swallowed(package: Package) -> list[str]:
    found = []
    for source in package.values():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler):
                caught = {ast.unparse(node.type).split(".")[-1]} if node.type else {"everything"}
                if isinstance(node.type, ast.Tuple):
                    caught = {ast.unparse(kind).split(".")[-1] for kind in node.type.elts}
                last = node.body[-1]
                reraised = isinstance(last, ast.Raise) and last.exc is None and caught == {"BaseException"}
                if caught & {"Exception", "BaseException", "everything"} and not reraised:
                    found.append(source.at(node, f"catches {', '.join(sorted(caught))}; name the error"))
            suppresses = isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress"
            if suppresses and {ast.unparse(argument) for argument in node.args} & {"Exception", "BaseException"}:
                found.append(source.at(node, "suppresses every error; name it"))
    return found


PICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def nothing_loads_code(package: Package) -> list[str]:
    found = []
    for source in package.values():
        for node in ast.walk(source.tree):
            imported = {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()
            if isinstance(node, ast.ImportFrom):
                imported = {(node.module or "").split(".")[0]}
                if node.module == "torch" and {alias.name for alias in node.names} & {"load", "save"}:
                    imported = {"pickle"}
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save", "eval", "exec"):
                found.append(source.at(node, f"calls {ast.unparse(node.func)}"))
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
                found.append(source.at(node.value, "allows pickle"))
            if imported & PICKLERS:
                found.append(source.at(node, f"imports {', '.join(imported & PICKLERS)}"))
    return found


SYSTEM_FOLDERS = ("home", "Users", "root", "mnt", "media", "opt", "srv", "tmp", "var", "work", "workspace", "scratch")
MACHINE_PATH = re.compile(r"(?<![\w.:/~}>])/(?:" + "|".join(SYSTEM_FOLDERS) + r")(?:/|\b)|(?<!\.)\.\./\w")


def no_path_of_a_machine(package: Package) -> list[str]:
    return [
        source.at(number, f"names a place outside the repository: {line.strip()[:60]}")
        for source in package.values()
        for number, line in enumerate(source.text.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]


def scored_is_made_in_one_place(package: Package) -> list[str]:
    if ("evaluate", "score") not in package:
        return []
    calls = [
        (source, node)
        for source in package.values()
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Scored")
        or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Scored._make"))
    ]
    home = [source for source, _ in calls if source.parts == ("evaluate", "score")]
    elsewhere = [source.at(node, "makes a Scored") for source, node in calls if source.parts != ("evaluate", "score")]
    return elsewhere + ([] if len(home) == 1 else [f"evaluate/score.py makes Scored in {len(home)} places, not in one"])


def techniques_are_frozen_and_at_home(package: Package) -> list[str]:
    found = []
    for source in package.values():
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ClassDef):
                continue
            marks = {ast.unparse(mark).split("(")[0]: mark for mark in node.decorator_list}
            if "technique" not in marks:
                continue
            settings = ast.unparse(marks["dataclass"]) if "dataclass" in marks else ""
            if "frozen=True" not in settings or "kw_only=True" not in settings:
                found.append(source.at(node, f"{node.name} is no dataclass(frozen=True, kw_only=True)"))
            stage = source.parts[1] if source.parts[0] == "techniques" else source.parts[0]
            fills = [ast.unparse(word.value) for word in marks["technique"].keywords if word.arg == "fills"]
            if not fills or not fills[0].strip("'").startswith(f"{stage}."):
                found.append(source.at(node, f"{node.name} fills {''.join(fills)} but lies in {stage}"))
    return found

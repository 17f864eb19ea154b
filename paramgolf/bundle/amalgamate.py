"""One script from a run: what is reachable under its configuration, in dependency order, imports of others first."""

import ast
import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from paramgolf.bundle.fold import folded
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.guards import errors_gone_on_from, unguarded, void_names, without_checks
from paramgolf.bundle.known import Fact, Facts, parts_of
from paramgolf.bundle.reach import Reach, Reached
from paramgolf.bundle.slim import slim
from paramgolf.bundle.stand_ins import STAND_INS
from paramgolf.bundle.tidy import simplified
from paramgolf.bundle.units import Definition, Units, import_order, is_our_import, read_units
from paramgolf.config import source
from paramgolf.run import Run

ENTRY_MODULE, ENTRY = "paramgolf.bundle.script", "main_script"
STAND_IN_MODULE = "paramgolf.bundle.stand_ins"
WEAK = frozenset({"TERMS", "TECHNIQUES"})
ROUNDS = 3
OPTIONAL = frozenset({"triton", "flash_attn", "flash_attn_interface"})
"""Libraries that a script does without where they are not installed; the package asks before it uses them."""
OWN_CHANGES = frozenset({"seed", "name"})
"""Fields of a run that its script changes."""


class Script(NamedTuple):
    """A bundle, not yet compressed."""

    readable: str
    lean: str
    """The same without documentation and annotations."""
    sizes: Mapping[str, int]
    """Module -> characters of `lean` that come from it."""


@cache
def own_units() -> Units:
    """The package that is running, read once."""
    return read_units(Path(__file__).resolve().parent.parent)


def amalgamate(run: Run) -> Script:
    """The script of `run`."""
    units = own_units()
    closed = frozenset(type(part).__name__ for part in parts_of(run))
    first, made = None, closed
    while made:
        first = reached(run, units, lambda item, kinds=closed: spelled_out(item, kinds))  # type: ignore[misc]
        made = constructed(first, closed)
        closed -= made
    assert first is not None
    facts = Facts(run, closed=closed, changed=replaced_fields(first) | OWN_CHANGES)
    caught = errors_gone_on_from((item.module, item.node) for item in first.definitions)
    void: frozenset[str] = frozenset()

    for _ in range(ROUNDS):
        gathered = Gathered()
        whole = reached(run, units, lambda item, seen=gathered: folded(spelled_out(item, closed), facts, units, item.module, seen))  # type: ignore[misc]
        facts = facts.sharpened(known_parameters(whole, gathered), gathered.attributes())

    def rewrite(definition: Definition) -> ast.stmt:
        node = simplified(folded(spelled_out(definition, closed), facts, units, definition.module, Gathered()))
        node = unguarded(node, definition.module, caught, void)
        return without_checks(simplified(node), closed)

    while True:
        whole = reached(run, units, rewrite)
        found = void_names(item.node for item in whole.definitions)
        if found <= void:
            return written(whole, run, units)
        void |= found


PLAIN_DECORATORS = {"cache", "contextmanager", "torch.no_grad()", "torch.compiler.assume_constant_result"}
"""Decorators that pass arguments on."""


def known_parameters(program: Reached, gathered: Gathered) -> dict[tuple[str, str], dict[str, Fact]]:
    """What is known of the parameters of each function and constructor."""
    found = {}
    for item in program.definitions:
        node, key = item.node, (item.module, item.name)
        makers = [inner for inner in getattr(node, "body", ()) if getattr(inner, "name", "") == "__init__"]
        function = node if isinstance(node, ast.FunctionDef) else makers[0] if makers else None
        if isinstance(function, ast.FunctionDef) and {*map(ast.unparse, function.decorator_list)} <= PLAIN_DECORATORS:
            found[key] = gathered.parameters(key, function.args, method=function is not node)
    return found


def reached(run: Run, units: Units, rewrite: object) -> Reached:
    """What the script of `run` needs."""
    stand_ins = {name: (STAND_IN_MODULE, other) for name, other in STAND_INS.items()}
    reach = Reach(units, rewrite, stand_ins, WEAK)  # type: ignore[arg-type]
    reach.want(ENTRY_MODULE, ENTRY)
    for part in parts_of(run):
        reach.want(type(part).__module__, type(part).__name__)
    return reach.run()


def spelled_out(definition: Definition, closed: frozenset[str]) -> ast.stmt:
    """A copy of a definition; classes of which the script spells every instance need no defaults."""
    node = copy.deepcopy(definition.node)
    if isinstance(node, ast.ClassDef) and node.name in closed:
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation):
                item.value = None
    return node


def constructed(program: Reached, kinds: frozenset[str]) -> frozenset[str]:
    """Which of `kinds` the program itself makes instances of."""
    calls = (node for item in program.definitions for node in ast.walk(slim(copy.deepcopy(item.node))))
    named = (node.func.id for node in calls if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return frozenset(named) & kinds


def replaced_fields(program: Reached) -> frozenset[str]:
    """Names of fields that the program gives other values by `replace`."""
    calls = (node for item in program.definitions for node in ast.walk(item.node) if isinstance(node, ast.Call))
    by_replace = (node for node in calls if ast.unparse(node.func).split(".")[-1] == "replace")
    return frozenset(keyword.arg for node in by_replace for keyword in node.keywords if keyword.arg)


def written(whole: Reached, run: Run, units: Units) -> Script:
    """The text."""
    order = import_order(units)
    always, perhaps = parted_imports(whole.imports)
    readable, lean, sizes = [*always], [*always], dict[str, int]()
    guarded: tuple[list[str], list[str]] = ([], [])
    for item in sorted(whole.definitions, key=lambda item: (order[item.module], item.line)):
        node = placed_name(filled(item, run))
        texts = ast.unparse(node), ast.unparse(slim(copy.deepcopy(node)))
        sizes[item.module] = sizes.get(item.module, 0) + len(texts[1])
        needs = {line for lines in units[item.module].theirs.values() for line in lines} & {*perhaps}
        for script, block, text in zip((readable, lean), guarded, texts, strict=True):
            (block if needs else script).append(text)
    for script, block in zip((readable, lean), guarded, strict=True):
        if block:
            tried = ast.parse("\n".join([*perhaps, *block])).body
            handler = ast.ExceptHandler(ast.Name("ImportError", ast.Load()), None, [ast.Pass()])
            script.append(ast.unparse(ast.fix_missing_locations(ast.Try(tried, [handler], [], []))))
        script.append(f"if __name__ == '__main__':\n    {ENTRY}({source(run)})\n")
    return Script("\n\n\n".join(readable), "\n".join(lean), sizes)


def parted_imports(lines: frozenset[str]) -> tuple[list[str], list[str]]:
    """Import statements in order: those of what is always there, and those of what only some machines have."""
    ordered = sorted(lines, key=lambda line: (not line.startswith("import"), line))
    perhaps = [line for line in ordered if line.split()[1].split(".")[0] in OPTIONAL]
    return [line for line in ordered if line not in perhaps], perhaps


def filled(item: Definition, run: Run) -> ast.stmt:
    """A copy of a definition, with the run's coder where a stand-in leaves it open."""
    if item.name == "SCRIPT_CODER":
        return ast.parse(f"SCRIPT_CODER = {source(run.artifact.coder)}").body[0]
    return copy.deepcopy(item.node)


STOOD_IN_FOR = {other: name for name, other in STAND_INS.items()}


def placed_name(node: ast.stmt) -> ast.stmt:
    """A definition, changed in place: a stand-in under the name of what it stands for, our own imports gone."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        node.name = STOOD_IN_FOR.get(node.name, node.name)
    return WithoutOurImports().visit(node)


class WithoutOurImports(ast.NodeTransformer):
    """Drops imports of ours inside functions."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        return None if is_our_import(node) else node

"""One script from a run: what is reachable under its configuration, in dependency order, imports of others first."""

import ast
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from paramgolf.bundle.absent import absent_members
from paramgolf.bundle.applied import freezes
from paramgolf.bundle.backends import unused_backends, without_backends
from paramgolf.bundle.direct import with_methods_apart
from paramgolf.bundle.fits import make_sure_it_fits
from paramgolf.bundle.fold import folded
from paramgolf.bundle.gather import Gathered
from paramgolf.bundle.guards import OTHERS, errors_gone_on_from, unguarded, void_names, without_checks
from paramgolf.bundle.heard import quieter, without_settings_repeated
from paramgolf.bundle.known import Fact, Facts, OneOf, config_parts, is_bare, live
from paramgolf.bundle.observed import STRUCTURAL, observed_attributes, outlined
from paramgolf.bundle.passed import (
    assumed_fields,
    known_fields,
    known_parameters,
    known_results,
    records_read_by_name,
)
from paramgolf.bundle.quiet import quiet_functions
from paramgolf.bundle.reach import Reach, Reached, Rewrite
from paramgolf.bundle.records import ByName
from paramgolf.bundle.slim import Unasserted, Unregistered, copied, slim
from paramgolf.bundle.stand_ins import ARTIFACT_STAND_INS, METHOD_STAND_INS, STAGE_STAND_INS, stand_ins_of
from paramgolf.bundle.tidy import simplified
from paramgolf.bundle.trees import walk
from paramgolf.bundle.units import (
    Definition,
    Units,
    import_order,
    read_units,
    transplanted,
    with_methods_replaced,
)
from paramgolf.bundle.unread import Dropped, spared, unasked_keys, unread_names, without_keys, without_unread
from paramgolf.bundle.unused import without_unused
from paramgolf.config import source
from paramgolf.model.gpt import GPT
from paramgolf.run import Run

ENTRY_MODULE, ENTRY = "paramgolf.bundle.script", "main_script"
STAND_IN_MODULE, ARTIFACT_MODULE = "paramgolf.bundle.stand_ins", "paramgolf.bundle.stand_in_artifact"
STAGE_MODULE = "paramgolf.bundle.stand_in_stages"
OPEN = "SCRIPT_CODER"
"""What a stand-in leaves for the bundler to write."""
WEAK = frozenset({"TERMS", "TECHNIQUES"})
ROUNDS = 8
"""What is known is gathered again this often at most; what the last round found is true already."""
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


@cache
def quiet_units() -> Units:
    """The same with nothing gathered that a script does not tell."""
    return quieter(without_settings_repeated(own_units()))


def without_checkpoints(run: Run) -> Run:
    """`run` as its script carries it out."""
    return replace(run, train=replace(run.train, checkpoint_seconds=0.0, checkpoint_steps=0))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without searches for cycles, of which syntax trees have none: a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@lru_cache(maxsize=4)
@undisturbed()
def amalgamate(whole_run: Run) -> Script:
    """The script of a run.

    What is reached decides what is known, and what is known decides what is reached: first everything that names lead
    to, then folded with what the configuration says, with what is passed to functions, and without guards.
    """
    run = without_checkpoints(whole_run)
    facts, units, first = found_out(run, whole_run.digest)
    caught = errors_gone_on_from((item.module, item.node) for item in first.definitions)
    known = RewriteFacts(facts, units, caught)
    void: frozenset[str] = frozenset()
    dropped: Dropped = frozenset()
    while True:
        whole = reached(run, units, partial(lightened, known=known, void=void, dropped=dropped), dropped)
        found, unread = void_names(item.node for item in whole.definitions), unread_names(whole.definitions, facts)
        if found <= void and unread <= dropped:
            break
        void, dropped = void | found, dropped | unread
    while True:
        before = ast_size(whole)
        facts.parts, facts.absent = tuple(config_parts(run, dropped)), absent_members(whole.definitions, run)
        left = without_unused(looked_at(whole, facts, units), facts.quiet)
        table = {(item.module, item.name): item.node for item in left}
        dropped |= unread_names(whole.definitions, facts)
        whole = reached(run, units, partial(tabled, table=table, dropped=dropped, facts=facts), dropped)
        if ast_size(whole) == before:
            return script_of(whole, partial(spelled_without, dropped=dropped), run, units)


def found_out(run: Run, digest: str) -> tuple[Facts, Units, Reached]:
    """What is known of the script of `run`, the package with stand-ins, and all of it that names lead to at first."""
    units = with_methods_replaced(quiet_units(), STAND_IN_MODULE, METHOD_STAND_INS)
    units = transplanted(units, STAND_IN_MODULE, stand_ins_of(run))
    units = transplanted(units, ARTIFACT_MODULE, ARTIFACT_STAND_INS)
    units = transplanted(units, STAGE_MODULE, STAGE_STAND_INS)
    closed, first = closed_classes(run, units)
    units = with_methods_apart(units, {type(part) for part in config_parts(run) if type(part).__name__ in closed})
    facts = Facts(run, closed=closed, changed=OWN_CHANGES)
    facts.fixed[Run, "digest"] = digest
    facts.globals = {OPEN: OneOf((run.artifact.coder,))}
    model = outlined(run)
    facts.observed = observed_attributes(model, first.definitions)
    facts.structure = {work.__name__: (work, model) for work in STRUCTURAL}
    facts = sharpest(facts, run, units, assumed_fields(first), model)
    facts.unused = unused_backends(run, facts, units)
    return all_that_follows(facts, run, units), units, first


def tabled(item: Definition, *, table: Mapping[tuple[str, str], ast.stmt], dropped: Dropped, facts: Facts) -> ast.stmt:
    """A copy of what the table has for a definition, without what nobody reads."""
    node = copied(table.get((item.module, item.name), item.node))
    node = without_keys(ByName(facts.named).visit(node), facts.unasked)
    return simplified(without_unread(node, item.module, dropped, facts), facts.quiet)


def looked_at(whole: Reached, facts: Facts, units: Units) -> list[Definition]:
    """The program folded again; notes what it reads of records now."""
    gathered = Gathered()
    again = [item._replace(node=folded(item.node, facts, units, item.module, gathered)) for item in whole.definitions]
    facts.named = records_read_by_name(whole, gathered)
    facts.altered = frozenset(gathered.overwritten | gathered.replaced.keys())
    facts.unasked = unasked_keys(whole.definitions)
    bare = {type(part).__name__ for part in facts.parts if is_bare((part,), facts.closed)}
    facts.quiet = quiet_functions((item.node for item in whole.definitions), (*OTHERS, torch.optim.Optimizer)) | bare
    return again


def ast_size(program: Reached) -> int:
    """How many nodes a program has."""
    return sum(1 for item in program.definitions for _ in walk(item.node))


def closed_classes(run: Run, units: Units) -> tuple[frozenset[str], Reached]:
    """Names of classes of which the configuration holds every instance, and everything that names lead to."""
    closed = frozenset(type(part).__name__ for part in config_parts(run))
    while True:
        first = reached(run, units, partial(spelled_out, closed=closed))
        made = constructed(first, closed)
        if not made:
            return closed, first
        closed -= made


def sharpest(facts: Facts, run: Run, units: Units, assumed: Mapping[tuple[type, str], Fact], model: GPT) -> Facts:
    """All that can be found out.

    First, what is `assumed` of fields: if every place that makes a record keeps to it while all others do, all do. What
    some place does not keep to is assumed no longer, and the rest looked at again. Likewise that no field of the
    configuration gets another value by `replace`, in what is left of the program in the end.
    """
    while True:
        found = sharper(facts.sharpened({}, assumed, {}), run, units)
        kept = {key: fact for key, fact in assumed.items() if found.attributes.get(key) == fact}
        if len(kept) == len(assumed):
            break
        assumed = kept
    # What is left of the program assigns less to the modules of the model.
    program = folded_program(found, run, units, Gathered()).definitions
    found.observed = observed_attributes(model, program)
    found.freezes = any(freezes(item.node) for item in program)
    found = all_that_follows(found, run, units)
    if found.replaced <= facts.changed:
        return found
    facts.changed |= found.replaced
    return sharpest(facts, run, units, assumed, model)


def all_that_follows(found: Facts, run: Run, units: Units) -> Facts:
    """All that follows from what is known; what was found out stays true where nothing asks for it any more."""
    for _ in range(ROUNDS):
        before, found = found, sharper(found, run, units)
        found.attributes = {**before.attributes, **found.attributes}
        found.parameters = {**before.parameters, **found.parameters}
        found.results = {**before.results, **found.results}
        told, then = ((one.parameters, one.attributes, one.results) for one in (found, before))
        if told == then:
            break
    return found


def sharper(facts: Facts, run: Run, units: Units) -> Facts:
    """`facts` with what the program folded by them passes to functions and keeps in attributes."""
    gathered = Gathered()
    whole = folded_program(facts, run, units, gathered)
    attributes = {**known_results(whole, gathered), **gathered.attributes(), **known_fields(whole, gathered)}
    found = facts.sharpened(known_parameters(whole, gathered), attributes, gathered.returned)
    found.named = records_read_by_name(whole, gathered)
    found.altered = frozenset(gathered.overwritten | gathered.replaced.keys())
    found.classes = classes_of(whole)
    found.replaced = replaced_fields(whole)
    return found


def classes_of(program: Reached) -> frozenset[type]:
    """The classes that a program defines."""
    kinds = (live(item.module, item.name) for item in program.definitions)
    return frozenset(kind for kind in kinds if isinstance(kind, type))


def folded_program(facts: Facts, run: Run, units: Units, gathered: Gathered) -> Reached:
    """The program folded by `facts`."""

    def rewrite(item: Definition) -> ast.stmt:
        item = item._replace(node=without_backends(item, facts.unused))
        return folded(spelled_out(item, facts.closed), facts, units, item.module, Gathered())

    whole = reached(run, units, rewrite)
    for item in whole.definitions:  # without the methods that nothing calls
        folded(item.node, facts, units, item.module, gathered)
    return whole


class RewriteFacts(NamedTuple):
    """What rewriting goes by."""

    facts: Facts
    units: Units
    caught: frozenset[type]
    """Errors that the program goes on from."""


def lightened(item: Definition, *, known: RewriteFacts, void: frozenset[str], dropped: Dropped) -> ast.stmt:
    """A definition without dead branches, guards and what only these needed."""
    if item.name == OPEN:
        coder = spared(source(known.facts.parts[0].artifact.coder), dropped)
        return ast.parse(f"{OPEN} = {coder}").body[0]
    item = item._replace(node=without_backends(item, known.facts.unused))
    item = item._replace(node=spelled_out(item, known.facts.closed))
    node = simplified(folded(item.node, known.facts, known.units, item.module, Gathered()))
    node = without_checks(simplified(unguarded(node, item.module, known.caught, void)), known.facts.closed)
    node = ByName(known.facts.named).visit(node)
    return simplified(without_unread(node, item.module, dropped, known.facts))


def reached(run: Run, units: Units, rewrite: Rewrite, dropped: Dropped = frozenset()) -> Reached:
    """What the script of `run` needs, fields in `dropped` left out."""
    reach = Reach(units, rewrite, WEAK)
    reach.want(ENTRY_MODULE, ENTRY)
    for part in config_parts(run, dropped):
        reach.want(type(part).__module__, type(part).__name__)
    return reach.run()


def spelled_out(definition: Definition, closed: frozenset[str]) -> ast.stmt:
    """A copy of a definition; classes of which the script spells every instance need no defaults."""
    node = copied(definition.node)
    Unasserted().visit(node)
    if isinstance(node, ast.ClassDef) and node.name in closed:
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation):
                item.value = None
    return node


def constructed(program: Reached, kinds: frozenset[str]) -> frozenset[str]:
    """Which of `kinds` the program itself makes instances of."""
    calls = (node for item in program.definitions for node in walk(slim(copied(item.node))))
    named = (node.func.id for node in calls if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return frozenset(named) & kinds


def replaced_fields(program: Reached) -> frozenset[str]:
    """Names of fields that the program gives other values by `replace`."""
    calls = (node for item in program.definitions for node in walk(item.node) if isinstance(node, ast.Call))
    by_replace = (node for node in calls if ast.unparse(node.func).split(".")[-1] == "replace")
    return frozenset(keyword.arg for node in by_replace for keyword in node.keywords if keyword.arg)


def script_of(whole: Reached, spelled: Callable[[Any], str], run: Run, units: Units) -> Script:
    """The text, parts of the configuration as they are `spelled`. Raises `GolfError` where it does not fit together."""
    order = import_order(units)
    always, perhaps = parted_imports(whole.imports)
    readable, lean, sizes = [*always], [*always], dict[str, int]()
    guarded: tuple[list[str], list[str]] = ([], [])
    for item in sorted(whole.definitions, key=lambda item: (item.name == OPEN, order[item.module], item.line)):
        node = Unregistered().visit(copied(item.node))
        texts = ast.unparse(node), ast.unparse(slim(copied(node)))
        sizes[item.module] = sizes.get(item.module, 0) + len(texts[1])
        needs = {line for lines in units[item.module].theirs.values() for line in lines} & {*perhaps}
        for script, block, text in zip((readable, lean), guarded, texts, strict=True):
            (block if needs else script).append(text)
    for script, block in zip((readable, lean), guarded, strict=True):
        if block:
            tried = ast.parse("\n".join([*perhaps, *block])).body
            handler = ast.ExceptHandler(ast.Name("ImportError", ast.Load()), None, [ast.Pass()])
            script.append(ast.unparse(ast.Try(tried, [handler], [], [])))
        script.append(f"if __name__ == '__main__':\n    {ENTRY}({spelled(run)})\n")
    make_sure_it_fits("\n".join(lean))
    return Script("\n\n\n".join(["from __future__ import annotations", *readable]), "\n".join(lean), sizes)


def spelled_without(part: Any, dropped: Dropped) -> str:
    """The source of a part of the configuration without the settings that nobody reads."""
    return spared(source(part), dropped)


def parted_imports(lines: frozenset[str]) -> tuple[list[str], list[str]]:
    """Import statements in order: those of what is always there, and those of what only some machines have."""
    ordered = sorted(lines, key=lambda line: (not line.startswith("import"), line))
    perhaps = [line for line in ordered if line.split()[1].split(".")[0] in OPTIONAL]
    return [line for line in ordered if line not in perhaps], perhaps

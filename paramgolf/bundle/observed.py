"""What the modules of a run's model hold: the model is built, without storage, and looked at.

The constructor of a model sees the configuration alone, so a script that builds it gets the same plain values, the same
parts of the configuration, and the same lists of parts that are empty. What anything assigns later is left out.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from paramgolf.bundle.known import Fact, Instance, Modules, OneOf, distinct, is_fixed
from paramgolf.bundle.trees import walk
from paramgolf.bundle.units import OURS, Definition
from paramgolf.model.gpt import GPT
from paramgolf.quant.calibrate import wanted_hessians
from paramgolf.run import Run

Observed = Mapping[tuple[type, str], Fact]
"""(class, attribute) -> what it is in every object of that class."""
UNSEEN = ...
CHANGES = frozenset({"append", "extend", "insert", "pop", "remove", "clear"})
"""Methods that change a list."""


STRUCTURAL: tuple[Callable[..., Any], ...] = (wanted_hessians,)
"""Functions whose result goes by the model's structure and the configuration alone, never by a weight."""


def outlined(run: Run) -> GPT:
    """The model of a run without storage."""
    with torch.device("meta"):
        return GPT(run.model)


def observed_attributes(model: GPT, program: Iterable[Definition]) -> Observed:
    """Attributes that the constructors of the model's modules set once and for all."""
    program, modules = list(program), list(model.modules())
    kinds = {kind for module in modules for kind in type(module).__mro__ if kind.__module__.startswith(f"{OURS}.")}
    later = set(attributes_set_later(program, {kind.__name__ for kind in kinds}))
    fixed = not any(map(sets_by_name, program))
    changed = {name for item in program for name in lists_changed(item.node)}
    found: dict[tuple[type, str], Fact] = {}
    for kind in kinds - {nn.Module}:
        objects = [module for module in modules if isinstance(module, kind)]
        for name in {name for module in objects for name in own_attributes(module)} - later:
            values = tuple(seen(module, name) for module in objects)
            if all(is_fixed(value) or (type(value) is dict and not value) for value in values):
                found[kind, name] = OneOf(distinct(values))
            elif fixed and name not in changed and (kinds_in := {of_list(value) for value in values}) != {()}:
                found[kind, name] = Modules(kinds_in.pop()) if len(kinds_in) == 1 else None
            elif fixed and len({type(value) for value in values}) == 1 and is_own_module(values[0]):
                found[kind, name] = Instance(type(values[0]))
    return found


def sets_by_name(item: Definition) -> bool:
    """Whether a definition may put another module in the place of one, as what hangs adapters aside does."""
    return any(isinstance(inner, ast.Name) and inner.id == "setattr" for inner in walk(item.node))


def is_own_module(value: Any) -> bool:
    """Whether an attribute is a module of one of our classes."""
    return isinstance(value, nn.Module) and type(value).__module__.startswith(f"{OURS}.")


def of_list(value: Any) -> tuple[type, ...]:
    """The classes in a list of modules of ours; nothing of anything else."""
    items = [*value] if isinstance(value, nn.ModuleList) else []
    return tuple(map(type, items)) if all(map(is_own_module, items)) else ()


def lists_changed(node: ast.AST) -> Iterator[str]:
    """Attributes of which a definition changes what they hold, as far as they are lists."""
    for inner in walk(node):
        place = inner.value if isinstance(inner, ast.Subscript) and not isinstance(inner.ctx, ast.Load) else None
        if isinstance(inner, ast.Attribute) and inner.attr in CHANGES:
            place = inner.value
        if isinstance(place, ast.Attribute):
            yield place.attr


def own_attributes(module: nn.Module) -> Iterator[str]:
    """Names of what a module's constructor assigned to it, parameters left out."""
    yield from (name for name in vars(module) if not name.startswith("_") and name != "training")
    yield from module._modules


def seen(module: nn.Module, name: str) -> Any:
    """A module's attribute; empty lists and tables of modules as a tuple and a dictionary."""
    value = getattr(module, name, UNSEEN)
    if isinstance(value, nn.ModuleList) and not value:
        return ()
    return {} if isinstance(value, nn.ModuleDict) and not value else value


def attributes_set_later(program: Iterable[Definition], kinds: set[str]) -> Iterator[str]:
    """Attributes that something other than a constructor assigns to objects of the model, whose classes are `kinds`."""
    for item in program:
        built = set()
        for method in getattr(item.node, "body", ()) if item.name in kinds else ():
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                built = {id(inner) for inner in walk(method)}
        for inner in walk(item.node):
            if isinstance(inner, ast.Attribute) and not isinstance(inner.ctx, ast.Load) and id(inner) not in built:
                of_another = isinstance(item.node, ast.ClassDef) and item.name not in kinds
                if not (of_another and isinstance(inner.value, ast.Name) and inner.value.id in ("self", "ctx")):
                    yield inner.attr

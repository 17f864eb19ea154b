"""What the reached program passes to its own functions, and what it keeps in attributes: facts for the next folding."""

import ast
import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import nn

from paramgolf.bundle.known import Fact, Instance, Modules, OneOf, distinct, live

Key = tuple[str, str]
"""A module and a top-level name in it; for the methods of whatever class, `METHOD` and their name."""
METHOD = "."
APPLIED, LAUNCHED = ".forward", "[]"
"""After the name of a function of autograd, what `apply` calls; after that of a kernel, the kernel itself."""


class Passed(NamedTuple):
    """The arguments of one call."""

    positional: tuple[Fact, ...]
    named: Mapping[str, Fact]
    more: bool = False
    """Whether others follow the positional ones, of which nothing is known."""


class Gathered:
    """Filled while definitions are folded."""

    def __init__(self) -> None:
        self.calls: dict[Key, list[Passed]] = {}
        self.escaped: set[Key] = set()
        """What is also used otherwise than by calling it: nothing is known of its arguments."""
        self.spread: set[Key] = set()
        """What some call gives `*arguments`: not every argument has a name."""
        self.kept: dict[tuple[Key, str], list[Fact]] = {}
        """(class, attribute) -> what its own methods assign to it."""
        self.replaced: dict[str, list[Fact]] = {}
        """Field -> what records of whatever class get for it by `replace`."""
        self.taken_apart: set[type] = set()
        """Classes of records of which something reads every field."""
        self.unpacked: set[tuple[str, ...]] = set()
        """The names that something is taken apart into of which the class is not known."""
        self.returned: dict[Key, Fact] = {}
        """What functions at the top of a module give."""
        self.sets_by_name = False
        """Whether something sets attributes by name: modules may be put in the place of others."""
        self.overwritten: set[str] = set()
        """Attributes assigned from outside of their object."""

    def parameters(self, key: Key, arguments: ast.arguments, *, method: bool) -> dict[str, Fact]:
        """What is known of the parameters of a function, or of the `__init__` of a class."""
        if key in self.escaped or arguments.vararg or arguments.kwarg or arguments.posonlyargs:
            return {}
        positional = [argument.arg for argument in arguments.args][int(method) :]
        defaults = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
        defaults |= {
            argument.arg: value
            for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if value
        }
        found = {}
        for name in (*positional, *(argument.arg for argument in arguments.kwonlyargs)):
            default = literal_fact(defaults.get(name))
            facts = [argument_of(call, name, positional, default) for call in self.calls.get(key, [])]
            found[name] = joined_facts(facts)
        return found

    def fields(self, key: Key, names: list[str], defaults: Mapping[str, ast.expr | None]) -> dict[str, Fact]:
        """What is known of the fields of a record, from the calls that make it."""
        if key in self.escaped:
            return {}
        calls = self.calls.get(key, [])
        fallback = {name: literal_fact(defaults.get(name)) for name in names}
        facts = {
            name: joined_facts(
                [*(argument_of(call, name, names, fallback[name]) for call in calls), *self.replaced.get(name, ())]
            )
            for name in names
        }
        kind = live(*key)
        still = isinstance(kind, type) and issubclass(kind, tuple)  # nothing can assign to a field of it
        lost = frozenset() if still else self.overwritten
        return {name: fact for name, fact in facts.items() if fact is not None and name not in lost}

    def attributes(self) -> dict[tuple[type, str], Fact]:
        """(class, attribute) -> what it is once and for all, where one place assigns it."""
        found: dict[tuple[type, str], Fact] = {}
        places: dict[str, list[type]] = {}
        for ((module, name), attribute), facts in self.kept.items():
            kind = live(module, name)
            if isinstance(kind, type):
                places.setdefault(attribute, []).extend([kind] * len(facts))
        for ((module, name), attribute), facts in self.kept.items():
            kind = live(module, name)
            if not isinstance(kind, type) or attribute in self.overwritten:
                continue
            if self.sets_by_name and any(
                isinstance(fact, Instance) and issubclass(fact.kind, nn.Module) for fact in facts
            ):
                continue
            if attribute in self.replaced and (issubclass(kind, tuple) or dataclasses.is_dataclass(kind)):
                continue
            related = [other for other in places[attribute] if issubclass(other, kind) or issubclass(kind, other)]
            if len(related) == 1 and facts[0] is not None and not hasattr(kind, attribute):
                found[kind, attribute] = facts[0]
        return found


def literal_fact(node: ast.expr | None) -> Fact:
    """What is known of a default."""
    if isinstance(node, ast.Constant):
        return OneOf((node.value,))
    return OneOf(((),)) if isinstance(node, ast.Tuple) and not node.elts else None


def argument_of(call: Passed, name: str, positional: list[str], default: Fact) -> Fact:
    """What one call passes for the parameter `name`."""
    if name in call.named:
        return call.named[name]
    if name in positional and call.more and positional.index(name) >= len(call.positional):
        return None
    place = positional.index(name) if name in positional else len(call.positional)
    return call.positional[place] if place < len(call.positional) else default


def joined_facts(facts: Iterable[Fact]) -> Fact:
    """What holds whichever of `facts` is the case."""
    every = list(facts)
    if every and all(isinstance(fact, OneOf) for fact in every):
        return OneOf(distinct(tuple(value for fact in every if isinstance(fact, OneOf) for value in fact.values)))
    if every and all(isinstance(fact, Instance | Modules) and fact == every[0] for fact in every):
        return every[0]
    return None

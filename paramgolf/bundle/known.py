"""What is known of the values in a program whose configuration is fixed.

A run's configuration is a tree of frozen dataclasses that nothing changes, so an attribute of a value whose static type
is one of them is one of few values, and the package is checked by `mypy --strict`: what an annotation says holds.
"""

import copy
import dataclasses
import importlib
import math
import sys
from collections.abc import Callable, Container, Generator, Iterator, Mapping
from functools import cache
from types import FunctionType, ModuleType, NoneType
from typing import Any, NamedTuple, get_args, get_origin

from paramgolf.bundle.units import OURS

PLAIN = (bool, int, float, str, NoneType)


class OneOf(NamedTuple):
    """An expression's value is one of `values`: parts of the configuration, or plain values."""

    values: tuple[Any, ...]

    @property
    def plain(self) -> bool:
        """Whether it is a single value that source can spell."""
        return len(self.values) == 1 and is_plain(self.values[0])


class Instance(NamedTuple):
    """An expression's value is an instance of a class of ours that is no configuration."""

    kind: type


class Modules(NamedTuple):
    """An expression's value is a list of modules of these classes, in this order."""

    kinds: tuple[type, ...]


Fact = OneOf | Instance | Modules | None
"""None: nothing is known."""


class Facts:
    """The configuration and what its classes imply."""

    def __init__(self, config: Any, *, closed: frozenset[str], changed: frozenset[str] = frozenset()) -> None:
        self.parts = tuple(config_parts(config))
        """Every dataclass in the tree, the whole one first."""
        self.closed = closed
        """Names of classes of which the configuration holds every instance."""
        self.changed = changed
        """Names of fields that the program gives other values."""
        self.fixed: dict[tuple[type, str], Any] = {}
        """(class, property) -> a value that is not worked out."""
        self.parameters: Mapping[tuple[str, str], Mapping[str, Fact]] = {}
        """(module, function or class) -> what is known of what it is called with."""
        self.attributes: Mapping[tuple[type, str], Fact] = {}
        """(class, attribute) -> what it is in every object."""
        self.observed: Mapping[tuple[type, str], Fact] = {}
        """The same of the modules of the model, as they were found."""
        self.results: Mapping[tuple[str, str], Fact] = {}
        """(module, function) -> what it gives."""
        self.freezes = True
        """Whether something may keep weights from learning; a gradient that nobody wants changes nothing."""
        self.unused: frozenset[str] = frozenset()
        """Attention backends that never run."""
        self.classes: frozenset[type] = frozenset({object})
        """The classes of the program; `object` among them as long as there may be more."""
        self.named: Mapping[str, tuple[str, ...]] = {}
        """Records of which fields are read by name only, with their fields."""
        self.altered: frozenset[str] = frozenset()
        """Names of fields that something assigns, or replaces, in a record that is made."""
        self.replaced: frozenset[str] = frozenset()
        """Names of fields that the program folded by these facts gives other values by `replace`."""
        self.absent: frozenset[tuple[str, str]] = frozenset()
        """Enumerations and members of them that nothing is."""
        self.quiet: frozenset[str] = frozenset()
        """Functions and methods of the program that change nothing."""
        self.unasked: frozenset[str] = frozenset()
        """Keys of a loader's state that nothing asks for."""
        self.globals: Mapping[str, Fact] = {}
        """What names at the top of a module mean."""
        self.structure: Mapping[str, tuple[Callable[..., Any], Any]] = {}
        """Functions of the model's structure and parts of the configuration, each with the model."""

    def sharpened(
        self,
        parameters: Mapping[tuple[str, str], Mapping[str, Fact]],
        attributes: Mapping[tuple[type, str], Fact],
        results: Mapping[tuple[str, str], Fact],
    ) -> "Facts":
        """The same with what is known of parameters, attributes and results."""
        other = copy.copy(self)
        other.parameters, other.attributes, other.results = parameters, attributes, results
        return other

    def of_class(self, kind: Any) -> Fact:
        """What an annotation by the class `kind` says."""
        if not isinstance(kind, type) or not kind.__module__.startswith(OURS):
            return None
        if getattr(kind, "_is_protocol", False):
            return None
        values = tuple(part for part in self.parts if isinstance(part, kind))
        if not values:
            return Instance(kind)
        return OneOf(distinct(values)) if {type(value).__name__ for value in values} <= self.closed else None

    def annotated(self, kind: Any) -> Fact:
        """What an annotation, already evaluated, says."""
        if get_args(kind) and type(None) in get_args(kind):
            inner = [item for item in get_args(kind) if item is not type(None)]
            fact = self.annotated(inner[0]) if len(inner) == 1 else None
            return OneOf((*fact.values, None)) if isinstance(fact, OneOf) else None
        return self.of_class(kind) if get_origin(kind) is None else None

    def items_of(self, kind: Any) -> Fact:
        """What an annotation of something that is gone over says of its items."""
        inside = [item for item in get_args(kind) if item is not ...]
        return self.annotated(inside[0]) if len(inside) == 1 or get_origin(kind) in (Generator,) else None

    def attribute(self, fact: Fact, name: str) -> Fact:
        """What is known of `value.name`."""
        if isinstance(fact, OneOf):
            return self.of_values(fact.values, name)
        if isinstance(fact, Instance):
            return self.of_instance(fact.kind, name)
        return None

    def of_values(self, values: tuple[Any, ...], name: str) -> Fact:
        """The attribute of parts of the configuration: fields and properties, both fixed."""
        if name in self.changed or not all(dataclasses.is_dataclass(value) for value in values):
            return None
        if not all(name in fields_of(value) or is_class_constant(type(value), name) for value in values):
            return None
        found = distinct(tuple(self.fixed.get((type(value), name)) or getattr(value, name) for value in values))
        if all(is_fixed(value) for value in found):
            return OneOf(found)
        made = {type(value) for value in found}
        return self.of_class(made.pop()) if len(made) == 1 else None

    def returned(self, function: Any) -> Fact:
        """What the annotation of a function, or of a class that is called, says of its result."""
        if isinstance(function, type):
            return self.of_class(function)
        return self.annotated(hints_of(function).get("return")) if isinstance(function, FunctionType) else None

    def of_instance(self, kind: type, name: str) -> Fact:
        """The attribute of an object of ours: by the annotation in its class or its property's."""
        if (kind, name) in self.observed:
            return self.observed[kind, name]
        for base in kind.__mro__:
            if (base, name) in self.attributes:
                return self.attributes[base, name]
            if isinstance(vars(base).get(name), property):
                return self.annotated(hints_of(vars(base)[name].fget).get("return"))
            if name in vars(base).get("__annotations__", {}):
                return self.annotated(hints_of(base).get(name))
        return None


def config_parts(value: Any, without: Container[tuple[str, str]] = ()) -> Iterator[Any]:
    """`value` and every dataclass below it, but for those in fields (class, name) of `without`."""
    if isinstance(value, tuple):
        for item in value:
            yield from config_parts(item, without)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for item in dataclasses.fields(value):
            if (type(value).__name__, item.name) not in without:
                yield from config_parts(getattr(value, item.name), without)


def is_bare(values: tuple[Any, ...], closed: Container[str]) -> bool:
    """Whether there is one part of the configuration and it has no settings: one is as good as another."""
    part = values[0] if len(values) == 1 else None
    if not dataclasses.is_dataclass(part) or isinstance(part, type) or type(part).__name__ not in closed:
        return False
    return not dataclasses.fields(part)


def is_class_constant(kind: type, name: str) -> bool:
    """Whether a class has a property or a plain value called `name`."""
    value = getattr(kind, name, ...)
    return isinstance(value, property) or is_plain(value)


def fields_of(value: Any) -> set[str]:
    """Names of the fields of a dataclass."""
    return {item.name for item in dataclasses.fields(value)}


def is_fixed(value: Any) -> bool:
    """Whether a value can never change: plain, a dataclass, or a tuple of such."""
    if isinstance(value, tuple):
        return type(value) is tuple and all(map(is_fixed, value))
    return type(value) in PLAIN or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def is_plain(value: Any) -> bool:
    """Whether `repr` spells `value`."""
    if type(value) is tuple:
        return all(map(is_plain, value))
    return type(value) in PLAIN and (type(value) is not float or math.isfinite(value))


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each value once; True and 1 are two."""
    found: list[Any] = []
    for value in values:
        if not any(type(other) is type(value) and other == value for other in found):
            found.append(value)
    return tuple(found)


def hints_of(thing: Any) -> Mapping[str, Any]:
    """The annotations of a class or function as objects; none where they name what only a type checker imports."""
    try:
        from typing import get_type_hints

        return get_type_hints(thing)
    except (NameError, TypeError, AttributeError):
        return {}


def live(module: str, name: str) -> Any:
    """What `module` binds `name` to; None when it binds nothing so called."""
    return names_in(module).get(name)


@cache
def names_in(module: str) -> dict[str, Any]:
    """The names that `module` binds, though a library that it needs be missing: then what this defines is a stub."""
    try:
        return vars(importlib.import_module(module))
    except ImportError:
        pass
    before = dict(sys.modules)
    try:
        sys.modules.update({name: Stub(name) for name in STUBBED if name not in before})
        return dict(vars(importlib.import_module(module)))
    except ImportError:
        return {}
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]


STUBBED = ("triton", "triton.language", "triton.tools", "triton.tools.tensor_descriptor")
"""Modules of libraries that a script does without; what a bundle holds is the same on a machine without them."""


class Stub(ModuleType):
    """Has every attribute; as a decorator it changes nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return given[0] if given else self

"""Frozen dataclass trees: override by dotted path, compare, identify, write and read back."""

import copy
import dataclasses
import hashlib
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import tomli_w

from paramgolf.errors import UsageError
from paramgolf.registry import TECHNIQUES, lookup, name_of, nearest

T = TypeVar("T")

TECHNIQUE_KEY = "technique"
"""The key that names a technique in TOML."""


def override(config: T, setting: str) -> T:
    """A copy of `config` with one setting changed, as `optim.matrix.lr=0.03`.

    A technique is set by its name (`model.mlp=swiglu`), a slot that takes several by a list
    (`model.on_heads=xsa,sparse_gate`), a field of one of those by its name (`model.on_heads.xsa.last=4`).
    Raises `UsageError` with the nearest word when the path or the value does not fit.
    """
    path, text = parted(setting)
    return changed(config, path, text, done=())


def parted(setting: str) -> tuple[tuple[str, ...], str]:
    """The path and the text of a setting."""
    path, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"{setting!r} is not of the form path=value", fix="--set optim.matrix.lr=0.03")
    return tuple(path.strip().split(".")), text.strip()


def changed(config: T, path: tuple[str, ...], text: str, *, done: tuple[str, ...]) -> T:
    """`config` with the field at `path` parsed from `text`; `done` is the path that led here."""
    value = changed_field(config, path, text, done=done)
    return replaced(config, {path[0]: value}, where=".".join((*done, path[0])))


def changed_field(config: Any, path: tuple[str, ...], text: str, *, done: tuple[str, ...]) -> Any:
    """What the field of `config` where `path` begins becomes."""
    head, rest = path[0], path[1:]
    known = field_types(type(config))
    if head not in known:
        raise UsageError(f"{'.'.join(done) or type(config).__name__} has no field {head!r}{nearest(head, known)}")
    here = (*done, head)
    old = getattr(config, head)
    return descend(old, rest, text, done=here) if rest else parse(text, known[head], where=".".join(here))


def descend(value: Any, path: tuple[str, ...], text: str, *, done: tuple[str, ...]) -> Any:
    """`value`, a config or a tuple of techniques, with the setting at `path` below it changed."""
    if dataclasses.is_dataclass(value):
        return changed(value, path, text, done=done)
    if isinstance(value, tuple):
        names = [name_of(item) or type(item).__name__ for item in value]
        if path[0] in names and not path[1:]:
            fields = list(field_types(type(value[names.index(path[0])])))
            raise UsageError(
                f"{'.'.join((*done, path[0]))} is a technique, not a value",
                evidence=f"its fields: {', '.join(fields) or 'none'}",
                fix=f"--set {'.'.join(done)}={','.join(map(str, names))} to choose, or set one of its fields",
            )
        if path[0] in names:
            place = names.index(path[0])
            item = changed(value[place], path[1:], text, done=(*done, path[0]))
            return (*value[:place], item, *value[place + 1 :])
        raise UsageError(f"{'.'.join(done)} holds {names or 'nothing'}, not {path[0]!r}{nearest(path[0], names)}")
    raise UsageError(f"{'.'.join(done)} is {value!r} and has no fields", fix=f"--set {'.'.join(done)}=NAME first")


def parse(text: str, kind: Any, *, where: str) -> Any:
    """`text` as a value of type `kind`; `where` is the dotted path, for messages and slots."""
    kind, optional = without_none(kind)
    if optional and text.lower() == "none":
        return None
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        words = [word.strip() for word in text.strip("()[]").split(",")]
        return tuple(parse(word, item, where=where) for word in words if word and word.lower() != "none")
    if kind in (int, float, bool, str):
        return scalar(text, kind, where=where)
    if typing.get_origin(kind) is typing.Literal:
        allowed = {str(value): value for value in typing.get_args(kind)}
        if text not in allowed:
            raise UsageError(f"{where}={text!r} is none of {', '.join(allowed)}{nearest(text, allowed)}")
        return allowed[text]
    return filler(text, where)


def scalar(text: str, kind: type, *, where: str) -> Any:
    """`text` as int, float, bool or str."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        value = kind(text.replace("_", "")) if kind in (int, float) else text
    except (KeyError, ValueError):
        raise UsageError(f"{where}={text!r} is not of type {kind.__name__}") from None
    return finite(value, where)


def finite(value: Any, where: str) -> Any:
    """`value`, unless it is NaN or infinite: no setting means anything by that, and no source can spell it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}={value} is not a finite number")
    return value


def filler(name: str, slot: str) -> Any:
    """The technique called `name` at its defaults, if it fills `slot`."""
    entry = lookup(name)
    if not fits(entry.fills, slot):
        able = sorted(other.name for other in TECHNIQUES.values() if fits(other.fills, slot))
        raise UsageError(f"{name!r} fills {entry.fills}, not {slot}", evidence=f"{slot} takes {', '.join(able)}")
    return entry.config()


def fits(fills: str, slot: str) -> bool:
    """Whether a technique for `fills`, a path or a pattern as `model.init*`, may go into `slot`.

    A star alone, as in `quant.*`, stands for the slots of a stage that no technique fills by their full path.
    """
    if fills == slot:
        return True
    wanted, there = fills.split("."), slot.split(".")
    if len(wanted) != len(there) or not all(map(fnmatchcase, there, wanted)):
        return False
    return wanted[-1] != "*" or all(entry.fills != slot for entry in TECHNIQUES.values())


def without_none(kind: Any) -> tuple[Any, bool]:
    """The type beside None in an optional type, and whether it was optional."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [item for item in typing.get_args(kind) if item is not type(None)]
        return kinds[0], len(kinds) < len(typing.get_args(kind))
    return kind, False


def field_types(config: Any) -> dict[str, Any]:
    """Field name -> resolved type of a dataclass."""
    hints = typing.get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


def replaced(config: Any, values: Mapping[str, Any], *, where: str) -> Any:
    """`dataclasses.replace`, a refusal by the config itself (`ValueError`) naming the setting."""
    try:
        return dataclasses.replace(config, **values)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def source(config: Any) -> str:
    """The Python expression that rebuilds `config`, every field spelled out; its canonical form.

    Equal configs have one form: a whole number in a field of type float is written as a float.
    """
    if dataclasses.is_dataclass(config):
        kinds = field_types(type(config))
        shown = (f"{name}={source(as_float(getattr(config, name), kind))}" for name, kind in kinds.items())
        return f"{type(config).__name__}({', '.join(shown)})"
    if isinstance(config, tuple):
        return "(" + "".join(f"{source(item)}, " for item in config) + ")"
    return repr(config)


def as_float(value: Any, kind: Any) -> Any:
    """`value`, as a float if it is a whole number in a field whose type `kind` is float."""
    return float(value) if type(value) is int and without_none(kind)[0] is float else value


def digest(config: Any) -> str:
    """12 hexadecimal characters that identify a resolved config."""
    return hashlib.sha256(source(config).encode()).hexdigest()[:12]


class Change(typing.NamedTuple):
    """What two configs have at one dotted path; None where one of them lacks it."""

    path: str
    old: Any
    new: Any


def differences(old: Any, new: Any, prefix: str = "") -> list[Change]:
    """Where two configs of one type differ, by dotted path."""
    found: list[Change] = []
    for field in dataclasses.fields(old):
        path = f"{prefix}{field.name}"
        found += compared(path, getattr(old, field.name), getattr(new, field.name))
    return found


def compared(path: str, old: Any, new: Any) -> list[Change]:
    """The changes between two values at `path`; techniques in a tuple are matched by name."""
    if dataclasses.is_dataclass(old) and type(old) is type(new):
        return differences(old, new, f"{path}.")
    if isinstance(old, tuple) and isinstance(new, tuple) and any(name_of(item) for item in old + new):
        before, after = ({name_of(item) or source(item): item for item in side} for side in (old, new))
        if len(before) < len(old) or len(after) < len(new):
            return [] if old == new else [Change(path, old, new)]
        names = list(dict.fromkeys([*before, *after]))
        found = [c for name in names for c in compared(f"{path}.{name}", before.get(name), after.get(name))]
        kept_before, kept_after = [n for n in before if n in after], [n for n in after if n in before]
        if kept_before != kept_after:
            found.append(Change(path, tuple(before), tuple(after)))
        return found
    return [] if old == new else [Change(path, old, new)]


def to_toml(config: Any) -> str:
    """`config` as TOML. Techniques carry their short name under `technique`; None is left out."""
    return tomli_w.dumps(plain_tree(config))


def plain_tree(value: Any) -> Any:
    """A config as dictionaries, lists and scalars."""
    if dataclasses.is_dataclass(value):
        name = name_of(value)
        tree: dict[str, Any] = {TECHNIQUE_KEY: name} if name else {}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if item is not None:
                tree[field.name] = plain_tree(item)
        return tree
    if isinstance(value, tuple):
        return [plain_tree(item) for item in value]
    return value


def from_toml(kind: type[T], text: str) -> T:
    """Read back what `to_toml` wrote. Raises `UsageError` for anything that does not fit."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not TOML: {error}") from None
    return built(kind, tree, where="")


def built(kind: Any, tree: Any, *, where: str) -> Any:
    """A value of type `kind` from a plain tree."""
    kind, optional = without_none(kind)
    if tree is None and optional:
        return None
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(tree, list):
            raise UsageError(f"{where} must be a list, not {tree!r}")
        return tuple(built(item, element, where=where) for element in tree)
    if isinstance(tree, dict):
        return built_config(kind, tree, where=where)
    if kind is float and isinstance(tree, int) and not isinstance(tree, bool):
        return float(tree)
    if typing.get_origin(kind) is typing.Literal:
        if tree not in typing.get_args(kind):
            raise UsageError(f"{where}={tree!r} is none of {', '.join(map(str, typing.get_args(kind)))}")
        return tree
    if kind not in (int, float, bool, str) or type(tree) is not kind:
        raise UsageError(f"{where}={tree!r} is not of type {getattr(kind, '__name__', kind)}")
    return finite(tree, where)


def built_config(kind: Any, tree: dict[str, Any], *, where: str) -> Any:
    """A dataclass from a table; the table's `technique`, if any, decides which."""
    name = tree.get(TECHNIQUE_KEY)
    if name is not None:
        entry = lookup(name)
        if not fits(entry.fills, where):
            raise UsageError(f"{name!r} fills {entry.fills}, not {where}")
        kind = entry.config
    if not dataclasses.is_dataclass(kind):
        raise UsageError(f"{where} does not say which technique it is", fix=f'{TECHNIQUE_KEY} = "NAME"')
    known = field_types(typing.cast(type, kind))
    values: dict[str, Any] = {}
    for key, element in tree.items():
        if key == TECHNIQUE_KEY:
            continue
        path = f"{where}.{key}" if where else key
        if key not in known:
            raise UsageError(f"{where or 'the configuration'} has no field {key!r}{nearest(key, known)}")
        values[key] = built(known[key], element, where=path)
    # A field that was None is absent from TOML; every other field must be there or have a default.
    absent = {key: None for key, item in known.items() if key not in values and without_none(item)[1]}
    try:
        return typing.cast(Any, kind)(**{**absent, **values})
    except TypeError as error:
        raise UsageError(f"{where or 'the configuration'}: {error}") from None
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def overridden(config: T, settings: Iterable[str]) -> T:
    """`config` after all `settings`, in order; of two for one path the later holds.

    A setting that is refused is tried again after the others, those that stay refused all at once: settings that fit
    only together may come in any order. Raises `UsageError` for the first one that does not fit even so.
    """
    waiting = list({setting.partition("=")[0].strip(): setting for setting in settings}.values())
    while waiting:
        refused: dict[str, UsageError] = {}
        for setting in waiting:
            try:
                config = override(config, setting)
            except UsageError as error:
                refused[setting] = error
        if len(refused) == len(waiting):
            whole: Any = together(config, waiting)
            try:
                return dataclasses.replace(whole)
            except ValueError:
                raise next(iter(refused.values())) from None
        waiting = list(refused)
    return config


def together(config: T, settings: Iterable[str]) -> T:
    """A copy of `config` after all `settings`, its parts checked and itself not yet."""
    loose = copy.copy(config)
    for setting in settings:
        path, text = parted(setting)
        object.__setattr__(loose, path[0], changed_field(loose, path, text, done=()))
    return loose

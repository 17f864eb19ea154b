"""Techniques and their fields as text, read from the source that defines them."""

import ast
import dataclasses
import inspect
import textwrap
from itertools import pairwise
from typing import Any, NamedTuple

from paramgolf.config import field_types, plain_tree
from paramgolf.registry import Entry


class FieldEntry(NamedTuple):
    """One setting of a technique."""

    name: str
    kind: str
    default: Any
    doc: str


def field_entries(config: type) -> list[FieldEntry]:
    """The settings of a dataclass, each with the docstring that stands under it."""
    docs, kinds = field_docs(config), field_types(config)
    return [
        FieldEntry(field.name, kind_name(kinds[field.name]), default_of(field), docs.get(field.name, ""))
        for field in dataclasses.fields(config)
    ]


def field_docs(config: type) -> dict[str, str]:
    """Field name -> the string literal under its definition, of a dataclass and those it derives from."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if dataclasses.is_dataclass(base):
            tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            found |= docs_in(tree.body) if isinstance(tree, ast.ClassDef) else {}
    return found


def docs_in(body: list[ast.stmt]) -> dict[str, str]:
    """The strings that follow annotated names in the body of a class."""
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def kind_name(kind: Any) -> str:
    """A type as people write it."""
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """The default of a field as a plain value; None where there is none."""
    if field.default is not dataclasses.MISSING:
        return plain_tree(field.default)
    return plain_tree(field.default_factory()) if field.default_factory is not dataclasses.MISSING else None


def summary_of(entry: Entry) -> str:
    """The first sentence about a technique."""
    return inspect.cleandoc(entry.config.__doc__ or "").splitlines()[0]


def entry_record(entry: Entry) -> dict[str, Any]:
    """What a list says of a technique."""
    return {
        "name": entry.name,
        "fills": entry.fills,
        "summary": summary_of(entry),
        "source": entry.source,
        "effect": entry.effect,
        "neutral": entry.neutral,
    }

"""What every registered technique must say of itself, and how presets, TOML and the command line reach it."""

import ast
import dataclasses
import inspect
import textwrap
from typing import Any

import pytest

import paramgolf.techniques  # noqa: F401  fills the registry
from paramgolf.config import digest, field_types, fits, from_toml, override, to_toml
from paramgolf.presets import preset
from paramgolf.registry import TECHNIQUES, Entry, lookup, name_of
from paramgolf.run import Run

every_technique = pytest.mark.parametrize("entry", TECHNIQUES.values(), ids=TECHNIQUES)
GLOSSARY = [entry for entry in TECHNIQUES.values() if ".techniques." in entry.config.__module__]


NESTED = ("quant.mlp.clip",)
"""Slots of techniques; `hosting` has those techniques."""


def slots_of(entry: Entry) -> list[str]:
    """The dotted paths of a run that take a technique."""
    return [path for path in (*all_slots(Run), *NESTED) if fits(entry.fills, path)]


def hosting() -> Run:
    """A run whose slots below techniques are there, and whose rows are long enough for packed ones."""
    return override(override(preset("baseline"), "model.context=65536"), "quant.mlp=gptq")


def all_slots(config: Any, prefix: str = "") -> list[str]:
    """The dotted paths of every field below a configuration that is no number or word; techniques are not entered."""
    found = []
    for name, kind in field_types(config).items():
        if kind not in (bool, int, float, str):
            found.append(f"{prefix}{name}")
        if dataclasses.is_dataclass(kind):
            found += all_slots(kind, f"{prefix}{name}.")
    return found


@every_technique
def test_it_is_a_frozen_dataclass_that_works_at_its_defaults(entry: Entry):
    assert dataclasses.is_dataclass(entry.config)
    assert entry.config.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(entry.config))
    made = entry.config()
    assert made == entry.config()
    assert hash(made) == hash(entry.config())
    assert lookup(entry.name) is entry
    assert name_of(made) == entry.name


@every_technique
def test_it_fills_a_slot_of_the_run(entry: Entry):
    assert slots_of(entry), f"{entry.fills} is no path of a run"


@every_technique
def test_every_setting_says_what_it_means(entry: Entry):
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(entry.config))).body
    assert isinstance(definition, ast.ClassDef)
    silent = [
        statement.target.id
        for statement, after in zip(definition.body, [*definition.body[1:], None], strict=True)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and "ClassVar" not in ast.unparse(statement.annotation)
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
    assert not silent, f"no docstring under {silent}"


@every_technique
def test_it_names_its_source(entry: Entry):
    assert len(entry.source) > 2
    assert entry.config.__doc__


@pytest.mark.parametrize("entry", GLOSSARY, ids=lambda entry: entry.name)
def test_its_file_is_a_glossary_entry(entry: Entry):
    """What, formula, source, and what is known of effect, cost and pitfalls."""
    module = inspect.getmodule(entry.config)
    assert module is not None
    assert entry.glossary == inspect.cleandoc(module.__doc__ or "")
    lines = entry.glossary.splitlines()
    assert len(lines) >= 4, "more than a title"
    assert lines[0].endswith((".", ":")), "begins with what it is"
    assert "Source:" in entry.glossary
    known = [word in entry.glossary for word in ("Effect", "Cost", "Pitfall")]
    assert all(known) if entry.fills.startswith(("model.", "optim.", "train.")) else any(known)
    assert entry.effect or not entry.fills.startswith(("model.", "optim.", "train."))
    others = [other for other in TECHNIQUES.values() if other.config.__module__ == entry.config.__module__]
    assert others == [entry], "one technique, one file"


@every_technique
def test_it_is_set_by_name_and_survives_toml(entry: Entry):
    for path in slots_of(entry):
        run = override(hosting(), f"{path}={entry.name}")
        read = from_toml(Run, to_toml(run))
        assert read == run
        assert read.digest == run.digest
        assert digest(read) == digest(run)
        for field in dataclasses.fields(entry.config):
            value = getattr(entry.config(), field.name)
            if value is not None and not isinstance(value, tuple) and not dataclasses.is_dataclass(value):
                below = f"{path}.{entry.name}" if is_tuple_slot(run, path) else path
                assert override(run, f"{below}.{field.name}={value}") == run


def is_tuple_slot(run: Run, path: str) -> bool:
    value: Any = run
    for name in path.split("."):
        value = getattr(value, name)
    return isinstance(value, tuple)


def test_every_stage_of_the_catalogue_is_registered():
    """Importing `paramgolf.techniques` alone must fill the registry: artifacts and TOML are read by name."""
    assert {"rope", "warmdown", "int8_rows", "brotli", "sliding", "sequential"} <= TECHNIQUES.keys()

"""`presets`, `diff` and `techniques`: what there is to run and to combine."""

import inspect
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from paramgolf.cli.options import Json
from paramgolf.cli.output import print_json, print_rows, print_text
from paramgolf.errors import UsageError

if TYPE_CHECKING:
    from paramgolf.registry import Entry
    from paramgolf.run import Run


def presets_command(name: str | None = None, /, *, json: Json = False) -> int:
    """List the presets, or show one: its parameters and its whole configuration as TOML.

    Parameters
    ----------
    name
        Name of a preset.
    json
        Print as JSON.
    """
    from paramgolf.config import plain_tree, source, to_toml
    from paramgolf.lab.estimate import role_counts
    from paramgolf.lab.launch import asked_run
    from paramgolf.presets import PRESETS

    if name is None:
        listed = [
            {"name": each, "params": role_counts(asked_run(each)).total(), "summary": first_line(make.__doc__)}
            for each, make in PRESETS.items()
        ]
        if json:
            print_json(listed)
        else:
            rows = [(row["name"], f"{row['params']:,}", row["summary"]) for row in listed]
            print_rows(("preset", "parameters", ""), rows, right=(1,))
        return 0
    run = asked_run(name)
    params = role_counts(run).total()
    about = inspect.cleandoc(PRESETS[name.partition("@")[0]].__doc__ or "")
    if json:
        config, code = plain_tree(run), source(run)
        print_json(
            {"name": name, "params": params, "digest": run.digest, "about": about, "config": config, "source": code}
        )
        return 0
    print_text(textwrap.indent(f"{name}: {about}\n{params:,} parameters, digest {run.digest}", "# ", lambda line: True))
    print_text(f"\n{to_toml(run).rstrip()}")
    return 0


def first_line(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().splitlines()[0] if text else ""


def diff_command(old: str, new: str, /, *, json: Json = False) -> int:
    """Show what one configuration changes in another, by dotted path.

    Parameters
    ----------
    old
        A preset, the folder of a run, or a TOML file.
    new
        The same.
    json
        Print as JSON.
    """
    from paramgolf.config import differences, plain_tree
    from paramgolf.lab.launch import shown_value

    changes = differences(meant(old), meant(new))
    if json:
        print_json([{"path": c.path, "old": plain_tree(c.old), "new": plain_tree(c.new)} for c in changes])
    elif changes:
        print_rows(("", old, new), [(c.path, shown_value(c.old), shown_value(c.new)) for c in changes])
    else:
        print_text("no difference")
    return 0


def meant(word: str) -> "Run":
    """The configuration that `word` names. Raises `UsageError` when there is none."""
    from paramgolf.config import from_toml
    from paramgolf.folder import opened
    from paramgolf.lab.launch import asked_run, load_techniques, run_of
    from paramgolf.run import Run

    path = Path(word)
    if path.is_dir():
        return run_of(opened(path))
    if path.is_file():
        load_techniques()
        return from_toml(Run, path.read_text(encoding="utf-8"))
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise UsageError(f"there is no {word}", fix="paramgolf runs list")
    return asked_run(word)


def techniques_command(name: str | None = None, /, *, json: Json = False) -> int:
    """List the techniques by the slot they fill, or show one: its glossary entry and settings.

    Parameters
    ----------
    name
        Name of a technique.
    json
        Print as JSON.
    """
    from paramgolf.cli.glossary import entry_record, field_entries, summary_of
    from paramgolf.lab.launch import load_techniques
    from paramgolf.registry import TECHNIQUES, lookup

    load_techniques()
    if name is not None:
        entry = lookup(name)
        if json:
            fields = [field._asdict() for field in field_entries(entry.config)]
            print_json({**entry_record(entry), "glossary": entry.glossary, "fields": fields})
        else:
            print_technique(entry)
        return 0
    entries = sorted(TECHNIQUES.values(), key=lambda entry: (entry.fills, entry.name))
    if json:
        print_json([entry_record(entry) for entry in entries])
        return 0
    slots = dict.fromkeys(entry.fills for entry in entries)
    for slot in slots:
        rows = [(f"  {entry.name}", summary_of(entry), entry.source) for entry in entries if entry.fills == slot]
        print_rows((slot, "", ""), rows)
    return 0


def print_technique(entry: "Entry") -> None:
    """One technique at length."""
    from paramgolf.cli.glossary import field_entries

    print_text(f"{entry.name}, fills {entry.fills}")
    print_text(f"source: {entry.source}" + (f"; effect: {entry.effect} bpb" if entry.effect else ""))
    print_text(f"\n{entry.glossary}\n")
    rows = [(field.name, field.kind, field.default, field.doc) for field in field_entries(entry.config)]
    if rows:
        print_rows(("setting", "type", "default", ""), rows)

"""Random techniques of all stages together on every preset: refused before a run begins, or run to the score."""

import dataclasses
import math
import random
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tiny import finished_run, tiny_dataset

import paramgolf.techniques  # noqa: F401  fills the registry
from paramgolf.bundle.reduce import reduced_run
from paramgolf.config import field_types, fits, from_toml, to_toml
from paramgolf.errors import UsageError
from paramgolf.model.gpt import GPT
from paramgolf.presets import PRESETS, preset
from paramgolf.quant.calibrate import require_inputs
from paramgolf.registry import TECHNIQUES, Entry
from paramgolf.run import Run

ELSEWHERE = {"lrzip"}
"""Techniques that need a program which a machine may lack."""
ALWAYS = {1, 2, 6}
"""Draws whose runs take a second or two."""


class Placed(NamedTuple):
    """A technique and the field of `Run` it is put into."""

    entry: Entry
    path: str

    def __str__(self) -> str:
        return f"{self.path}={self.entry.name}"


def paths_of(value: Any, above: str = "") -> Iterator[str]:
    """Dotted path of every field below `value`."""
    for name in field_types(type(value)):
        yield f"{above}{name}"
        inner = getattr(value, name)
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            yield from paths_of(inner, f"{above}{name}.")


def with_placed(config: Any, placed: Placed) -> Any:
    """`config` with the technique at its defaults in its field, added where several may stand."""
    head, _, rest = placed.path.partition(".")
    old = getattr(config, head)
    if rest:
        return dataclasses.replace(config, **{head: with_placed(old, placed._replace(path=rest))})
    new = placed.entry.config()
    if typing.get_origin(field_types(type(config))[head]) is tuple:
        new = (*(other for other in old if type(other) is not type(new)), new)
    return dataclasses.replace(config, **{head: new})


def drawn(chosen: random.Random) -> tuple[str, list[Placed]]:
    """A preset and two to four techniques, each in a place that takes it."""
    name = chosen.choice(list(PRESETS))
    open_paths = list(paths_of(preset(name)))
    able = [
        places
        for entry in TECHNIQUES.values()
        if entry.name not in ELSEWHERE
        and (places := [Placed(entry, path) for path in open_paths if fits(entry.fills, path)])
    ]
    return name, [chosen.choice(places) for places in chosen.sample(able, chosen.randint(2, 4))]


def configured(name: str, techniques: list[Placed]) -> Run | None:
    """The run as the command line would begin it; None where it is refused with a reason."""
    try:
        run: Run = preset(name)
        for placed in techniques:
            run = with_placed(run, placed)
        with torch.device("meta"):
            require_inputs(GPT(run.model), run.quant)
    except (ValueError, UsageError):
        return None
    return run


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n in ALWAYS else pytest.mark.nightly) for n in range(60)]
)
def test_what_is_not_refused_runs_to_its_score(number: int, tmp_path: Path):
    """Trained for three steps, exported, read back and scored, narrow and on bytes."""
    chosen = random.Random(number)
    run = None
    while run is None:
        name, techniques = drawn(chosen)
        run = configured(name, techniques)
    told = f"{name} with {', '.join(map(str, techniques))}"
    assert from_toml(Run, to_toml(run)) == run, told
    result = finished_run(reduced_run(run, steps=3), tiny_dataset(tmp_path), tmp_path / "run")
    assert math.isfinite(result.val_bpb), told
    assert result.val_bpb < 12, told

"""Targeted residuals: where a second, finer term pays for its bytes (quantization catalogue Q16, seed 004).

A tensor's residual w - ŵ is kept once more in codes of few bits with a scale a row. Each candidate is measured alone,
every other weight as it was trained; the best in bits per byte won for a byte are taken until the budget is full, and
the outcome is measured as a whole.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from paramgolf.lab.analysis.points import Point
from paramgolf.lab.analysis.sensitivity import alone_trial, quantized_groups
from paramgolf.lab.analysis.workbench import Trial, Workbench, in_place
from paramgolf.quant.rounding import nearest_codes
from paramgolf.stored import Grid, Stored, rows_and_columns


class Residual(NamedTuple):
    """What a second term of one tensor would win."""

    name: str
    role: str
    bytes: int
    """More than without it."""
    won: float
    """Bits per byte."""
    rate: float
    """Bits per byte for 100,000 bytes."""
    taken: bool


class Residuals(NamedTuple):
    """The candidates, best first, and the exports without and with those taken."""

    rows: list[Residual]
    before: Point
    after: Point


def residual_allocation(bench: Workbench, *, budget: int, bits: int = 2, only: Sequence[str] = ()) -> Residuals:
    """Measure a residual of `bits` bits for each tensor and spend what the run's export leaves of `budget` bytes.

    `only` limits the candidates to these roles.
    """
    roles = bench.roles()
    names = [name for name in quantized_groups(bench, "tensor") if not only or roles[name] in only]
    plain = bench.run("residuals", [alone_trial(bench, name, [name]) for name in names])
    finer = bench.run("residuals", [residual_trial(bench, name, [name], [name], bits) for name in names])
    found = [candidate(name, roles[name], *pair) for name, *pair in zip(names, plain, finer, strict=True)]
    found.sort(key=lambda item: item.rate, reverse=True)
    whole = list(bench.expected)
    (before,) = bench.run("residuals", [residual_trial(bench, "export", whole, [], bits)])
    taken = affordable(found, budget - before.bytes)
    # Together they weigh a little more or less than one by one: the last to fit may have to go.
    while taken and weighed(bench, residual_trial(bench, "weight", whole, taken, bits)) > budget:
        taken.pop()
    (after,) = bench.run(
        "residuals", [residual_trial(bench, f"export with {len(taken)} residuals", whole, taken, bits)]
    )
    return Residuals([item._replace(taken=item.name in taken) for item in found], before, after)


def weighed(bench: Workbench, trial: Trial) -> int:
    """Bytes of `trial`, not scored."""
    (point,) = bench.run("weight", [replace(trial, identity=f"weight of {trial.identity}", scored=False)])
    return point.bytes


def candidate(name: str, role: str, plain: Point, finer: Point) -> Residual:
    """The row of a tensor measured without and with a residual."""
    more, won = finer.bytes - plain.bytes, (plain.lost or 0.0) - (finer.lost or 0.0)
    return Residual(name, role, more, won, 100_000 * won / max(more, 1), taken=False)


def affordable(candidates: Iterable[Residual], room: int) -> list[str]:
    """The first of `candidates` that win something and fit into `room` bytes together, in order."""
    taken: list[str] = []
    for item in candidates:
        if item.won > 0 and item.bytes <= room:
            taken.append(item.name)
            room -= item.bytes
    return taken


def residual_trial(bench: Workbench, label: str, names: Sequence[str], refined: Sequence[str], bits: int) -> Trial:
    """The trial of the tensors `names` under the run's export, those of `refined` with a residual."""
    run = bench.subject.run
    quant, coder = in_place(run.quant), run.artifact.coder

    def build() -> dict[str, Stored]:
        stored = {name: bench.export(quant, coder)[name] for name in names}
        return stored | {name: with_residual(bench.subject.weights[name], stored[name], bits) for name in refined}

    identity = f"residual of {bits} bits for {' '.join(refined)} in {' '.join(names)} of {bench.spelled(quant, coder)}"
    return Trial(label=label, identity=identity, build=build, coder=coder)


def with_residual(weight: torch.Tensor, stored: Stored, bits: int) -> Stored:
    """`stored` and a further term: what is missing to `weight`, in `bits` bits with a scale a row."""
    missing = (weight - stored.dense()).reshape(rows_and_columns(stored.shape))
    limit = 2 ** (bits - 1) - 1
    # The residual of rounding is uniform over a step: the best steps of 2 limit + 1 codes share it out evenly.
    scale = (missing.abs().amax(1) / (limit + 0.5)).half()
    codes = nearest_codes(missing, scale, bits=bits)
    return Stored(stored.shape, (*stored.terms, Grid(codes=codes, scale=scale, bits=bits)))

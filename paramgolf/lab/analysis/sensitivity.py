"""Which tensors and roles the score is sensitive to: each quantized alone, every other weight as it was trained.

Method: quantization catalogue Q16, seed 004. The slope follows from rate-distortion theory: the loss falls by 4 with a
bit more a weight, so that d(lost)/d(bytes) = -16 ln 2 · lost / weights. Bytes are spent best where slopes are equal.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from paramgolf.lab.analysis.points import Point
from paramgolf.lab.analysis.workbench import Trial, Workbench, in_place
from paramgolf.quant.slots import Quantizer

SLOPE_BYTES = 100_000
"""The slope is told for so many bytes."""


class Sensitivity(NamedTuple):
    """What one group of tensors costs."""

    name: str
    role: str
    weights: int
    bytes: int
    """Of an artifact of these tensors alone."""
    lost: float
    """Bits per byte lost when only these tensors are quantized."""
    bits: float
    """Bits a weight."""
    slope: float
    """Bits per byte that `SLOPE_BYTES` more would win here, by theory."""


def sensitivity(bench: Workbench, *, by: str) -> list[Sensitivity]:
    """A row for each tensor (`by="tensor"`) or role (`by="role"`) under the run's own export, steepest slope first.

    What is kept exactly anyway, as fp32, is left out.
    """
    groups = quantized_groups(bench, by)
    points = bench.run("sensitivity", [alone_trial(bench, label, names) for label, names in groups.items()])
    rows = [
        sensitivity_row(bench, label, names, point)
        for (label, names), point in zip(groups.items(), points, strict=True)
    ]
    return sorted(rows, key=lambda item: item.slope, reverse=True)


def quantized_groups(bench: Workbench, by: str) -> dict[str, list[str]]:
    """Names of the parameters that lose something, by group."""
    roles, groups = bench.roles(), dict[str, list[str]]()
    for name, quantizer in bench.parameters(bench.subject.run.quant):
        if not is_exact(quantizer):
            groups.setdefault(roles[name] if by == "role" else name, []).append(name)
    return groups


def is_exact(quantizer: Quantizer) -> bool:
    """Whether `quantizer` keeps every fp32 weight as it is."""
    return getattr(quantizer, "bits", 0) == 32


def alone_trial(bench: Workbench, label: str, names: Iterable[str]) -> Trial:
    """The trial with the tensors `names` quantized as the run would, and no others."""
    run, chosen = bench.subject.run, list(names)
    quant, coder = in_place(run.quant), run.artifact.coder
    return Trial(
        label=label,
        identity=f"alone {' '.join(chosen)} of {bench.spelled(quant, coder)}",
        build=lambda: {name: bench.export(quant, coder)[name] for name in chosen},
        coder=coder,
    )


def sensitivity_row(bench: Workbench, label: str, names: Iterable[str], point: Point) -> Sensitivity:
    """The row of one measured group."""
    chosen = list(names)
    weights = sum(bench.subject.weights[name].numel() for name in chosen)
    lost = point.lost or 0.0
    roles = sorted({bench.roles()[name] for name in chosen})
    slope = SLOPE_BYTES * 16 * math.log(2) * lost / weights
    return Sensitivity(label, ", ".join(roles), weights, point.bytes, lost, 8 * point.bytes / weights, slope)

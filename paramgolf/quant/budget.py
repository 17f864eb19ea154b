"""Filling a budget of bytes: all steps of an export times one factor, so that the artifact comes to it from below.

One factor for all leaves the steps of tensors in the proportions that the configuration gives them; where those are
the best ones, so is the outcome (equal slopes, catalogue Q16). Bytes fall by log2(e)/8 a weight and e-fold of steps.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from paramgolf.errors import OverBytes, UsageError
from paramgolf.parts import kept_parameters
from paramgolf.quant.plan import QuantConfig, quantize
from paramgolf.quant.slots import ArtifactSize
from paramgolf.quant.step_width import QUANTIZER_SLOTS, has_widths, steps_scaled
from paramgolf.stored import Stored

NEAR_BYTES = 2_000
"""So far below a budget it counts as filled."""
MOST_TRIES = 16
"""Exports at most."""
ALLOCATOR_TRIES = 4
"""Budgets given to a technique that keeps to one."""
MOST_STRIDE = 1.0
"""Natural logarithm of the largest change of the steps between two tries."""


class Try(NamedTuple):
    """One export on the way."""

    log_factor: float
    """Natural logarithm of what steps were multiplied by."""
    bytes: int


def quantize_to_budget(
    model: nn.Module,
    config: QuantConfig,
    hessians: Mapping[str, Tensor] | None,
    *,
    budget_bytes: int,
    size: ArtifactSize,
) -> dict[str, Stored]:
    """What is kept of `model` when the artifact, as `size` measures it, has `budget_bytes` or up to `NEAR_BYTES` less.

    The configuration as it is comes first: a technique of `quant.allocate` or `quant.refine` that keeps to a budget
    itself has the say. Nearer than the finest steps allow it cannot come; then those are kept. Raises `UsageError`
    when no step can be set, `OverBytes` when the widest tried do not fit.
    """
    shared_out = allocated_to_budget(model, config, hessians, budget_bytes=budget_bytes, size=size)
    if shared_out is not None:
        return shared_out

    def export(log_factor: float) -> dict[str, Stored]:
        scaled = config if log_factor == 0 else steps_scaled(config, math.exp(log_factor))
        return quantize(model, scaled, hessians, budget_bytes=budget_bytes, size=size)

    weights = sum(parameter.numel() for _, parameter, _ in kept_parameters(model))
    movable = has_widths(config)
    found = fill(export, size, budget_bytes, slope=weights * math.log2(math.e) / 8, tries=MOST_TRIES if movable else 1)
    if found.best is not None:
        if not movable and budget_bytes - found.tries[0].bytes > NEAR_BYTES:
            raise no_width(config, found.tries[0].bytes, budget_bytes)
        return found.best
    if not movable:
        raise no_width(config, found.tries[0].bytes, budget_bytes)
    least = min(found.tries, key=lambda item: item.bytes)
    raise OverBytes(
        f"the weights do not fit {budget_bytes:,} bytes",
        evidence=f"{least.bytes:,} bytes with steps {math.exp(least.log_factor):.3g} times those of the configuration",
        fix="a smaller model, fewer bits for what is kept as plain values, or a larger budget",
    )


def allocated_to_budget(
    model: nn.Module,
    config: QuantConfig,
    hessians: Mapping[str, Tensor] | None,
    *,
    budget_bytes: int,
    size: ArtifactSize,
) -> dict[str, Stored] | None:
    """The export of a technique of `quant.allocate` that keeps to a budget; None without one.

    What is added after it, as low-rank corrections, is made room for by a budget that is smaller by as much.
    """
    if config.allocate is None:
        return None
    given, before = budget_bytes, -1
    for _ in range(ALLOCATOR_TRIES):
        stored = quantize(model, config, hessians, budget_bytes=given, size=size)
        bytes_now = size(stored)
        if budget_bytes - NEAR_BYTES <= bytes_now <= budget_bytes:
            return stored
        if bytes_now == before:
            break
        before = bytes_now
        given += budget_bytes - NEAR_BYTES // 4 - bytes_now
    return None


def no_width(config: QuantConfig, size: int, budget_bytes: int) -> UsageError:
    """The error for an export whose size nothing can change."""
    kinds = sorted({type(getattr(config, slot)).__name__ for slot in QUANTIZER_SLOTS})
    return UsageError(
        f"the export has {size:,} bytes where {budget_bytes:,} are asked for, and no quantizer has a step to change",
        evidence=", ".join(kinds),
        fix="--set quant.mlp=row_grid --set quant.mlp.clip=sd_clip; the same for quant.attention and quant.embed",
    )


class Filled(NamedTuple):
    """The outcome of a search."""

    best: dict[str, Stored] | None
    """The largest export within the budget, if any fits."""
    tries: list[Try]


def fill(
    export: Callable[[float], dict[str, Stored]], size: ArtifactSize, budget: int, *, slope: float, tries: int
) -> Filled:
    """Search the factor whose export fills `budget`; `slope` are bytes by e-fold of the factor, to begin with."""
    found: list[Try] = []
    best: tuple[int, dict[str, Stored]] | None = None
    place: float | None = 0.0
    while place is not None and len(found) < tries:
        stored = export(place)
        bytes_now = size(stored)
        found.append(Try(place, bytes_now))
        if bytes_now <= budget and (best is None or bytes_now > best[0]):
            best = bytes_now, stored
        place = next_place(found, budget, slope)
    return Filled(best[1] if best else None, found)


def next_place(tries: list[Try], budget: int, slope: float) -> float | None:
    """Where to try next; None when the last try filled the budget or nothing more can be won.

    Between a try below and one above the budget: where the line between them meets it, kept off both ends so that
    the bracket shrinks. On one side only: along the slope of the last two tries.
    """
    last, goal = tries[-1], budget - NEAR_BYTES / 2
    if budget - NEAR_BYTES <= last.bytes <= budget:
        return None
    over = [item for item in tries if item.bytes > budget]
    under = [item for item in tries if item.bytes <= budget]
    if over and under:
        fine, coarse = max(over), min(under)
        if coarse.log_factor <= fine.log_factor:
            # Sizes that do not fall with the step have no crossing to be found.
            return None
        width = coarse.log_factor - fine.log_factor
        share = (fine.bytes - goal) / (fine.bytes - coarse.bytes)
        return fine.log_factor + width * min(max(share, 0.05), 0.95) if width > 1e-6 else None
    if len(tries) > 1:
        before = tries[-2]
        measured = (before.bytes - last.bytes) / (last.log_factor - before.log_factor)
        if measured <= slope / 1000:
            return None
        slope = measured
    return last.log_factor + min(max((last.bytes - goal) / slope, -MOST_STRIDE), MOST_STRIDE)

"""Equal slope: one exchange rate of loss for bytes over the whole model, found so that the artifact fills its budget.

    minimize  Σ_t n_t bits_t(slope)  so that  d loss / d bits = slope  in every matrix, row and column

A calibration with a backward pass measures what an error in each row of each matrix costs (`curvature.py`); every
quantizer `rate_distortion` is then run at the same slope, and the slope is searched until the bytes of the written
artifact lie in the budget by at most `within`. Other quantizers keep what they keep.
Source: quantization catalogue Q16, H18, H19; Shoham and Gersho 1988.
Measured: docs/rate_distortion.md.
Cost: forward and backward pass of the calibration text; three to six codings of the whole model, 12 matrices at once.
Pitfalls: calibrate on the weights that are exported, with many more tokens than the vocabulary has. Where matrices were
not reached by a token, their quantizer's own `bits` hold. An artifact that cannot fill the budget with codes of a byte
stays below it.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeVar

import torch

from paramgolf.errors import OverBytes
from paramgolf.quant.budget import fill
from paramgolf.quant.host_memory import give_back_memory
from paramgolf.quant.rate_distortion import PreparedMatrix, slope_of_bits
from paramgolf.quant.slots import ArtifactSize, QuantItem
from paramgolf.registry import technique
from paramgolf.stored import Stored
from paramgolf.techniques.quant.rate_distortion import RateDistortion

MOST_THREADS = 12
"""Matrices that are worked on at once: each takes some memory."""
ThreadInput = TypeVar("ThreadInput")
ThreadOutput = TypeVar("ThreadOutput")


@technique("equal_slope", fills="quant.allocate", source="Shoham and Gersho 1988; quantization catalogue Q16")
@dataclass(frozen=True, kw_only=True)
class EqualSlope:
    """All matrices at one slope of loss by bytes."""

    needs_hessian: ClassVar[bool] = True
    needs_curvature: ClassVar[bool] = True

    tries: int = 12
    """Codings of the whole model at most."""

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"nothing is found in {self.tries} tries")

    def __call__(self, items: Sequence[QuantItem], budget_bytes: int | None, size: ArtifactSize) -> dict[str, Stored]:
        """What is kept of `items`, filling `budget_bytes`; without a budget each spends its own bits.

        Raises `OverBytes` when even the coarsest codes tried do not fit.
        """
        part = [item for item in items if isinstance(item.quantizer, RateDistortion) and item.rows is not None]
        if budget_bytes is None or not part:
            return {item.name: item.alone() for item in items}
        taking_part = {item.name for item in part}
        others = {item.name: item.alone() for item in items if item.name not in taking_part}
        matrices = in_threads(prepared_item, part)
        give_back_memory()
        weights = sum(matrix.weight.numel() for matrix in matrices)
        left = budget_bytes - sum(
            array.nbytes for stored in others.values() for term in stored.terms for array in term.arrays()
        )
        first = slope_of_bits(matrices, min(max(8 * left / weights, 0.2), 7.0))

        def export(log_factor: float) -> dict[str, Stored]:
            slope = first * math.exp(2 * log_factor)
            coded = in_threads(lambda matrix: matrix.at(slope).term, matrices)
            stored = {
                item.name: Stored(tuple(item.weight.shape), (term,)) for item, term in zip(part, coded, strict=True)
            }
            return {item.name: (others | stored)[item.name] for item in items}

        found = fill(export, size, budget_bytes, slope=weights * math.log2(math.e) / 8, tries=self.tries)
        if found.best is None:
            raise OverBytes(
                f"the weights do not fit {budget_bytes:,} bytes at any slope tried",
                evidence=f"{min(found.tries, key=lambda item: item.bytes).bytes:,} bytes at the coarsest",
                fix="a smaller model, or fewer bytes for what is kept as plain values",
            )
        return found.best


def prepared_item(item: QuantItem) -> PreparedMatrix:
    """`item` ready to be coded at any slope."""
    assert isinstance(item.quantizer, RateDistortion), "only such quantizers have a slope"
    return item.quantizer.prepared(item.weight, item.hessian, item.rows)


def in_threads(do: Callable[[ThreadInput], ThreadOutput], things: Sequence[ThreadInput]) -> list[ThreadOutput]:
    """`do` of each of `things`, as many at once as there are processors.

    Compiled loops and torch let others run. Within a thread torch keeps to one: else each would start as many again,
    and sums would depend on how many there are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            min(processors_here(), MOST_THREADS), initializer=partial(torch.set_num_threads, 1)
        ) as pool:
            return list(pool.map(do, things))
    finally:
        torch.set_num_threads(before)


def processors_here() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

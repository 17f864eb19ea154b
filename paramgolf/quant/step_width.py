"""The setting of each quantizer that its steps are proportional to: what makes any export smaller or finer."""

from dataclasses import dataclass, fields, is_dataclass, replace
from math import log2
from typing import Any

from torch import Tensor

from paramgolf.quant.plan import QuantConfig
from paramgolf.quant.slots import ClipRule, Quantizer

QUANTIZER_SLOTS = ("attention", "mlp", "embed", "projection", "gate", "scale")
"""Fields of `QuantConfig` that hold quantizers."""
STEP_FIELDS = ("step", "floor")
"""Fields of quantizers that their steps are proportional to."""
LEAST_SIGMAS = 6.0
"""Standard deviations that a clip keeps at least: codes get another bit before the tails are cut."""
LEAST_SPENT = 0.05
"""Bits a weight that a quantizer which is told what to spend is told at least."""
MOST_BYTE_BITS = 8
"""Of a code of one byte."""


@dataclass(frozen=True, kw_only=True)
class ScaledClip:
    """The steps of another clip rule times a factor; made on the way to a budget, not to be configured."""

    clip: ClipRule
    factor: float

    @property
    def by_row(self) -> bool:
        """As the rule within."""
        return self.clip.by_row

    def __call__(self, matrix: Tensor, importance: Tensor | None, limit: int) -> Tensor:
        """(alternatives, rows) steps."""
        return self.clip(matrix, importance, limit) * self.factor


def widened(quantizer: Quantizer, factor: float) -> Quantizer | None:
    """`quantizer` with its steps times `factor`; None where it has no setting for that.

    Where the bits to spend are what is set, twice the step is a bit less. Narrower steps take more codes: where they
    would cut the tails, codes get a bit more, which changes neither step nor size (catalogue Q4: the step alone sets
    the size).
    """
    view: Any = quantizer
    known = {field.name for field in fields(view)} if is_dataclass(quantizer) else set[str]()
    if {"clip", "bits"} <= known:
        return with_wider_clip(view, factor)
    if isinstance(getattr(view, "bits", None), float):
        return replace(view, bits=max(view.bits - log2(factor), LEAST_SPENT))
    own = next((name for name in STEP_FIELDS if name in known and getattr(view, name)), None)
    return None if own is None else replace(view, **{own: getattr(view, own) * factor})


def with_wider_clip(quantizer: Any, factor: float) -> Quantizer:
    """A quantizer of integer codes with the steps of its clip rule times `factor`."""
    rule: Any = quantizer.clip
    counted = any(field.name == "sigmas" for field in fields(rule))
    least = min(LEAST_SIGMAS, rule.sigmas) if counted else 1.0
    value, bits = rule.sigmas * factor if counted else factor, quantizer.bits
    while value < least and bits < MOST_BYTE_BITS:
        value *= (2**bits - 1) / (2 ** (bits - 1) - 1)
        bits += 1
    clip = replace(rule, sigmas=value) if counted else ScaledClip(clip=rule, factor=value)
    return replace(quantizer, bits=bits, clip=clip)


def steps_scaled(quant: QuantConfig, factor: float) -> QuantConfig:
    """`quant` with the steps of every quantizer that has a width times `factor`."""
    wider: dict[str, Any] = {name: widened(getattr(quant, name), factor) for name in QUANTIZER_SLOTS}
    return replace(quant, **{name: quantizer for name, quantizer in wider.items() if quantizer is not None})


def has_widths(quant: QuantConfig) -> bool:
    """Whether the steps of any quantizer of `quant` can be scaled."""
    return steps_scaled(quant, 2.0) != quant

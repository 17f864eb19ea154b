"""The setting of each quantizer that widens or narrows its steps: what makes any export smaller or finer."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

from paramgolf.quant.plan import QuantConfig
from paramgolf.quant.slots import Quantizer

WIDTH_FIELDS = ("sigmas", "clip_sigmas", "floor")
"""Fields of quantizers that their step is proportional to; of several the first counts."""


class WidthSetting(NamedTuple):
    """A setting that steps are proportional to."""

    slot: str
    """Field of `QuantConfig`."""
    field: str
    value: float


def width_field(quantizer: Any) -> str | None:
    """The field of `quantizer` that its steps are proportional to, if it has one above zero."""
    if not is_dataclass(quantizer):
        return None
    named = {field.name for field in fields(quantizer)}
    return next((name for name in WIDTH_FIELDS if name in named and getattr(quantizer, name)), None)


def width_paths(quant: QuantConfig) -> list[WidthSetting]:
    """Every slot of `quant` whose steps can be set."""
    found = []
    for slot in fields(quant):
        quantizer = getattr(quant, slot.name)
        field = width_field(quantizer)
        if field:
            found.append(WidthSetting(slot.name, field, float(getattr(quantizer, field))))
    return found


def steps_scaled(quant: QuantConfig, factor: float) -> QuantConfig:
    """`quant` with every step that can be set times `factor`."""
    changed = {
        item.slot: replace(getattr(quant, item.slot), **{item.field: item.value * factor})
        for item in width_paths(quant)
    }
    return replace(quant, **changed)


def widened(quantizer: Quantizer, factor: float) -> Quantizer | None:
    """`quantizer` with its step times `factor`; None where that cannot be set."""
    field = width_field(quantizer)
    if field is None:
        return None
    return replace(quantizer, **{field: getattr(quantizer, field) * factor})  # type: ignore[type-var]

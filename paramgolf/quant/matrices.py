"""The matrices of a model that calibration watches: its projections and the one that makes the logits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from torch import Tensor, nn

from paramgolf.errors import GolfError
from paramgolf.parts import Linear, declared
from paramgolf.quant.slots import CalibratedModel


def projections(model: nn.Module) -> dict[str, Linear]:
    """The projections of `model` that have a weight of their own, by its name."""
    named = [(prefix, module) for prefix, module in model.named_modules() if isinstance(module, Linear)]
    return {f"{prefix}.weight".lstrip("."): module for prefix, module in named if "weight" in module.specs}


def head_name(model: nn.Module) -> str:
    """The name of the matrix that makes the logits."""
    weight = cast(CalibratedModel, model).embedding.head_weight()
    return next(name for name, parameter, _ in declared(model) if parameter is weight)


@contextmanager
def hung(linears: Mapping[str, Linear], watches: Mapping[str, nn.Module]) -> Iterator[None]:
    """`watches` as the adapters of `linears` meanwhile: no longer than a pass, as making text may take passes too."""
    before = {name: linear.delta for name, linear in linears.items()}
    try:
        for name, linear in linears.items():
            linear.delta = watches[name]
        yield
    finally:
        for name, linear in linears.items():
            linear.delta = before[name]


def finite_total(name: str, total: Tensor) -> Tensor:
    """`total`, unless it is not finite: then `GolfError` naming the parameter."""
    if not total.isfinite().all():
        raise GolfError(
            f"the inputs of parameter {name} are not finite on the text of the calibration",
            evidence=f"{int((~total.isfinite()).sum()):,} of {total.numel():,} sums of products",
            fix="look for activations that overflow; a run by the clock keeps its last good checkpoint",
        )
    return total

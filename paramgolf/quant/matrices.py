"""The matrices of a model that calibration watches: its projections and the one that makes the logits."""

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


def finite_total(name: str, total: Tensor) -> Tensor:
    """`total`, unless it is not finite: then `GolfError` naming the parameter."""
    if not total.isfinite().all():
        raise GolfError(
            f"the inputs of parameter {name} are not finite on the text of the calibration",
            evidence=f"{int((~total.isfinite()).sum()):,} of {total.numel():,} sums of products",
            fix="look for activations that overflow; a run by the clock keeps its last good checkpoint",
        )
    return total

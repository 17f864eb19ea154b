"""Role -> quantizer: turn a trained model into stored weights and put stored weights back into a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paramgolf.errors import ArtifactError, GolfError
from paramgolf.parts import Declared, Role, kept_parameters
from paramgolf.quant.curvature import rows_key
from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.slots import Allocator, ArtifactSize, Calibration, QuantItem, Quantizer, Refinement
from paramgolf.quant.training_batches import TrainingBatches
from paramgolf.quant.unit_order import in_unit_order
from paramgolf.stored import Stored


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """How the weights of each group of roles are kept. By default nothing is quantized."""

    attention: Quantizer = PlainValues()
    """Query, key, value and output projections."""
    mlp: Quantizer = PlainValues()
    """Feed-forward projections."""
    embed: Quantizer = PlainValues()
    """Token embedding, head and side embeddings."""
    projection: Quantizer = PlainValues()
    """Small matrices beside the blocks."""
    gate: Quantizer = PlainValues()
    """Small matrices that drive gates."""
    scale: Quantizer = PlainValues(bits=32)
    """Vectors and scalars."""
    calibration: Calibration = TrainingBatches()
    """The text that Hessians are collected on, where a quantizer needs them."""
    allocate: Allocator | None = None
    """Decides over the whole model how its weights are kept; none: every quantizer for itself."""
    refine: tuple[Refinement, ...] = ()
    """Rework, one after another, what has been kept of the whole model."""
    order_units: bool = False
    """Put hidden units in the order that makes their steps cheap: what is stored is another model of the same
    function."""
    fill: bool = False
    """Scale all steps so that the artifact comes to its budget of bytes, from below."""

    def quantizer(self, role: Role) -> Quantizer:
        """The quantizer of parameters of `role`."""
        return {
            Role.EMBED: self.embed,
            Role.HEAD: self.embed,
            Role.TABLE: self.embed,
            Role.ATTENTION: self.attention,
            Role.MLP: self.mlp,
            Role.PROJECTION: self.projection,
            Role.GATE: self.gate,
            Role.SCALE: self.scale,
        }[role]


class Planned(NamedTuple):
    """One parameter with what will quantize it."""

    declared: Declared
    quantizer: Quantizer


def planned(model: nn.Module, config: QuantConfig) -> Iterator[Planned]:
    """Every parameter of `model` that is kept with its quantizer, in order of declaration.

    Calibration asks this which parameters need a Hessian.
    """
    for item in kept_parameters(model):
        yield Planned(item, config.quantizer(item.role))


def unmeasured(stored: Mapping[str, Stored]) -> int:
    """The size where nobody can measure one. Raises `GolfError`."""
    raise GolfError(
        "a technique of quant.allocate or quant.refine asks for the bytes of the artifact, which nothing here measures",
        fix="export a run, or pass `size` to quantize",
    )


@torch.no_grad()
def quantize(
    model: nn.Module,
    config: QuantConfig,
    hessians: Mapping[str, Tensor] | None = None,
    *,
    budget_bytes: int | None = None,
    size: ArtifactSize = unmeasured,
) -> dict[str, Stored]:
    """What is kept of each parameter of `model`, by name, in order of declaration.

    `budget_bytes` and `size` are for techniques that decide over the whole model. Raises `GolfError` naming the
    parameter when it holds NaN or infinity, lacks a Hessian that its quantizer needs, or is too large for the numbers
    it would be stored in.
    """
    items = items_of(model, config, hessians)
    if config.order_units:
        items = in_unit_order(model, items)
    if config.allocate is None:
        stored = {item.name: item.alone() for item in items}
    else:
        stored = config.allocate(items, budget_bytes, size)
    for refinement in config.refine:
        stored = refinement(items, stored, budget_bytes, size)
    refuse_overflow(items, stored)
    return stored


def items_of(model: nn.Module, config: QuantConfig, hessians: Mapping[str, Tensor] | None) -> list[QuantItem]:
    """Every parameter of `model` as a quantizer gets it. Raises `GolfError` for one that it cannot take."""
    items = []
    for (name, parameter, role), quantizer in planned(model, config):
        hessian = hessians.get(name) if hessians else None
        refuse_unfit(name, parameter, hessian, quantizer)
        rows = hessians.get(rows_key(name)) if hessians else None
        items.append(QuantItem(name, role, parameter.detach().float(), hessian, quantizer, rows))
    return items


def refuse_overflow(items: Sequence[QuantItem], stored: Mapping[str, Stored]) -> None:
    """Raise `GolfError` naming the first of `items` whose stored form is not finite."""
    for name, role, weight, _, quantizer, _ in items:
        if not stored[name].dense().isfinite().all():
            raise GolfError(
                f"parameter {name} does not fit the numbers that {type(quantizer).__name__} stores it in",
                evidence=f"largest magnitude {weight.abs().max():.6g}; fp16 ends at 65504",
                fix=f"keep {role.value} parameters as fp32: plain_values with bits=32",
            )


def refuse_unfit(name: str, parameter: Tensor, hessian: Tensor | None, quantizer: Quantizer) -> None:
    """Raise `GolfError` unless `quantizer` can take the parameter called `name`."""
    bad = int((~parameter.isfinite()).sum())
    if bad:
        raise GolfError(
            f"parameter {name} holds NaN or infinity and cannot be exported",
            evidence=f"{bad:,} of {parameter.numel():,} elements",
            fix="look for the step where training diverged: paramgolf monitor RUN",
        )
    if hessian is None and quantizer.needs_hessian:
        raise GolfError(
            f"{type(quantizer).__name__} needs the Hessian of parameter {name}, which calibration did not collect",
            fix=f"calibrate {name}, or choose a quantizer without Hessian, such as int8_rows",
        )


@torch.no_grad()
def restore(model: nn.Module, stored: Mapping[str, Stored]) -> None:
    """Copy the dense form of every stored weight into `model`.

    Raises `ArtifactError` when names or shapes differ; then `model` is unchanged.
    """
    parameters = {name: parameter for name, parameter, _ in kept_parameters(model)}
    strangers = sorted(parameters.keys() ^ stored.keys())
    if strangers:
        raise ArtifactError(
            "the stored weights are not those of this model",
            evidence=f"{len(strangers)} names on one side only, as {', '.join(strangers[:3])}",
        )
    for name, parameter in parameters.items():
        if stored[name].shape != tuple(parameter.shape):
            raise ArtifactError(
                f"stored weight {name} has another shape than the model's",
                evidence=f"stored {stored[name].shape}, model {tuple(parameter.shape)}",
            )
    for name, parameter in parameters.items():
        parameter.copy_(stored[name].dense())

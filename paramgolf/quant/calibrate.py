"""Calibration: what inputs every weight is multiplied with, as Hessians Σ x xᵀ (catalogue Q5).

The model's own forward pass runs; every projection carries for that time a `delta` that adds nothing and sees all
that the projection sees, once a pass where depth recurs.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.errors import GolfError, UsageError
from paramgolf.parts import Role, declared
from paramgolf.quant.curvature import collect_curvature, pass_tokens, rows_key, smaller
from paramgolf.quant.host_memory import give_back_memory
from paramgolf.quant.matrices import finite_total, head_name, hung, projections
from paramgolf.quant.plan import QuantConfig, planned
from paramgolf.quant.slots import CalibratedModel
from paramgolf.registry import name_of

LOOKED_UP = frozenset({Role.EMBED, Role.HEAD, Role.TABLE})
"""Roles of tables whose rows are read by number, unless they are the head."""


def wanted_hessians(model: nn.Module, config: QuantConfig) -> set[str]:
    """Names of the parameters that `config` needs a Hessian of.

    A technique that decides over the whole model gets those of every projection and of the head.
    """
    wanted = {item.declared.name for item in planned(model, config) if item.quantizer.needs_hessian}
    deciders = [technique for technique in (config.allocate, *config.refine) if technique is not None]
    if any(technique.needs_hessian for technique in deciders):
        wanted |= set(projections(model)) | {head_name(model)}
    return wanted | ({rows_key(name) for name in wanted} if wants_curvature(config) else set())


def require_inputs(model: nn.Module, config: QuantConfig) -> None:
    """Raise `UsageError` naming the first parameter whose quantizer needs a Hessian that no calibration can collect.

    Needs shapes only: a model on the meta device will do.
    """
    able = {*projections(model), head_name(model)}
    for (name, parameter, role), quantizer in planned(model, config):
        if quantizer.needs_hessian and name not in able and role not in LOOKED_UP:
            field = role.value
            raise UsageError(
                f"quant.{field}={name_of(quantizer)} needs the inputs that {name} is multiplied with, and it has none",
                evidence=f"{name} of shape {tuple(parameter.shape)} is no projection",
                fix=f"--set quant.{field}=int8_rows, or another quantizer without Hessian",
            )


def wants_curvature(config: QuantConfig) -> bool:
    """Whether a backward pass has to tell what errors in the rows of each matrix cost."""
    return config.allocate is not None and config.allocate.needs_curvature


@torch.no_grad()
def collect_hessians(model: nn.Module, batches: Iterable[Batch], config: QuantConfig) -> dict[str, Tensor]:
    """(columns, columns) fp32 Σ x xᵀ by parameter name, on the CPU, for all that `wanted_hessians` names.

    The sum runs over every token of `batches`, which are on the model's device. A table whose rows are only looked up
    has the identity: nothing tells its columns apart. Raises `GolfError` naming a parameter whose inputs are not
    finite, or a projection that no token reached.
    """
    wanted = wanted_hessians(model, config)
    if not wanted:
        return {}
    try:
        return sums_of(model, batches, config, wanted)
    finally:
        give_back_memory()


def sums_of(
    model: nn.Module, batches: Iterable[Batch], config: QuantConfig, wanted: Collection[str]
) -> dict[str, Tensor]:
    """The Hessians of `wanted`."""
    if wants_curvature(config):
        totals, tokens = collect_curvature(model, batches), 1
    else:
        totals, tokens = input_totals(model, batches, wanted)
    hessians = {name: total for name, total in totals.items() if name in wanted}
    unseen = sorted((set(wanted) - totals.keys()) & projections(model).keys())
    if unseen:
        raise GolfError(
            f"calibration saw no input of {unseen[0]}",
            evidence=f"{len(unseen)} projections without any, of {tokens:,} tokens read",
            fix="give text, and leave quantizers with Hessians to projections that run",
        )
    for name, parameter, role in declared(model):
        if name in wanted and name not in totals and role in LOOKED_UP:
            hessians[name] = max(tokens, 1) * torch.eye(parameter.shape[-1])
    return hessians


def input_totals(model: nn.Module, batches: Iterable[Batch], wanted: Collection[str]) -> tuple[dict[str, Tensor], int]:
    """Σ x xᵀ by name, of those of `wanted` that a token reached, and the number of tokens."""
    view = cast(CalibratedModel, model)
    grams = Grams()
    watched = {name: linear for name, linear in projections(model).items() if name in wanted}
    watches = {name: InputWatch(grams, linear.delta) for name, linear in watched.items()}
    head, tokens = InputWatch(grams, None), 0
    for batch in in_memory(batches):
        with hung(watched, watches):
            last = view.hidden(batch)
            read = view.embedding.before_head(last)  # runs what stands before the head, which may be watched itself
        if head_name(model) in wanted:
            head(read)
        tokens += batch.ids.numel()
    totals = {name: watch.total for name, watch in watches.items()} | {head_name(model): head.total}
    return {name: finite_total(name, total.cpu()) for name, total in totals.items() if total is not None}, tokens


def in_memory(batches: Iterable[Batch]) -> Iterator[Batch]:
    """`batches`, on a CPU a few rows at a time: training reads hundreds at once."""
    for batch in batches:
        if batch.ids.device.type == "cpu":
            yield from smaller(batch, pass_tokens(batch))
        else:
            yield batch


class Grams:
    """xᵀ x of inputs; projections that read one tensor have it computed once."""

    def __init__(self) -> None:
        self.last: Tensor | None = None
        self.gram: Tensor | None = None

    def of(self, x: Tensor) -> Tensor:
        """(..., columns) -> (columns, columns) fp32."""
        if self.gram is None or x is not self.last:
            # Products of bf16 numbers are exact in TF32, which a GPU may use here; sums are fp32.
            flat = x.detach().reshape(-1, x.shape[-1]).float()
            self.last, self.gram = x, flat.mT @ flat
        return self.gram


class InputWatch(nn.Module):
    """A `delta` that adds nothing and sums what it sees."""

    def __init__(self, grams: Grams, before: nn.Module | None) -> None:
        super().__init__()
        self.grams = grams
        self.before = before
        self.total: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> zero, or what the adapter before it adds."""
        gram = self.grams.of(x)
        self.total = gram.clone() if self.total is None else self.total.add_(gram)
        return x.new_zeros(()) if self.before is None else self.before(x)

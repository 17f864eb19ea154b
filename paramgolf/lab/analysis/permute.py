"""Orders of the hidden units of a feed-forward: any is the same function, some are easier to code (catalogue Q15).

Rows of `up` and columns of `down` change places together, before quantization, and their Hessians with them; nothing is
stored of it. The activation must work on each unit for itself.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paramgolf.artifact.container import pack
from paramgolf.errors import UsageError
from paramgolf.lab.analysis.points import Point
from paramgolf.lab.analysis.workbench import Trial, Workbench, asks_for_bytes, in_place
from paramgolf.model.mlp import FeedForwardModule
from paramgolf.parts import declared
from paramgolf.quant.budget import quantize_to_budget
from paramgolf.quant.curvature import rows_key
from paramgolf.quant.plan import quantize
from paramgolf.stored import Stored


class HiddenPair(NamedTuple):
    """The names of the two matrices around the hidden units of one feed-forward."""

    up: str
    """(hidden, columns)."""
    down: str
    """(rows, hidden)."""


UnitOrder = Callable[[Tensor, Tensor], Tensor]
"""From `up` (hidden, columns) and `down` (rows, hidden) the order of the units, (hidden,) int64."""


def as_trained(up: Tensor, down: Tensor) -> Tensor:
    """The order that training left."""
    return torch.arange(len(up))


def by_incoming(up: Tensor, down: Tensor) -> Tensor:
    """By the size of the weights that lead to a unit."""
    return up.square().sum(1).argsort(stable=True)


def by_outgoing(up: Tensor, down: Tensor) -> Tensor:
    """By the size of the weights that lead from it."""
    return down.square().sum(0).argsort(stable=True)


def by_component(up: Tensor, down: Tensor) -> Tensor:
    """By the first principal component of the incoming weights."""
    left = torch.linalg.svd(up.double() - up.double().mean(0), full_matrices=False).U[:, 0]
    # The sign of a component is open; which way the order runs does not matter to any coder we know.
    return left.argsort(stable=True)


def by_likeness(up: Tensor, down: Tensor) -> Tensor:
    """Each unit after the one whose incoming weights are nearest (least sum of differences), as #1855 sorted rows."""
    free = torch.ones(len(up), dtype=torch.bool)
    order, last = torch.zeros(len(up), dtype=torch.int64), 0
    for place in range(len(up)):
        order[place] = last
        free[last] = False
        distances = (up - up[last]).abs().sum(1).masked_fill(~free, torch.inf)
        last = int(distances.argmin())
    return order


UNIT_ORDERS: dict[str, UnitOrder] = {
    "as trained": as_trained,
    "incoming size": by_incoming,
    "outgoing size": by_outgoing,
    "principal component": by_component,
    "likeness": by_likeness,
}


def hidden_pairs(model: nn.Module) -> list[HiddenPair]:
    """The feed-forwards of `model` whose hidden units may change places."""
    names = {id(parameter): name for name, parameter, _ in declared(model)}
    modules = [module for module in model.modules() if type(module) is FeedForwardModule]
    return [HiddenPair(names[id(module.up.weight)], names[id(module.down.weight)]) for module in modules]


def permuted(tensors: Mapping[str, Tensor], pairs: list[HiddenPair], orders: list[Tensor]) -> dict[str, Tensor]:
    """`tensors`, weights by name, with the hidden units of each pair in its order."""
    changed = dict(tensors)
    for (up, down), order in zip(pairs, orders, strict=True):
        changed[up] = tensors[up][order]
        changed[down] = tensors[down][:, order]
    return changed


def permuted_hessians(
    hessians: Mapping[str, Tensor], pairs: list[HiddenPair], orders: list[Tensor]
) -> dict[str, Tensor]:
    """`hessians` of the weights that `permuted` gives: those of `down`, and the curvature of the rows of `up`."""
    changed = dict(hessians)
    for (up, down), order in zip(pairs, orders, strict=True):
        if down in hessians:
            changed[down] = hessians[down][order][:, order]
        if rows_key(up) in hessians:
            changed[rows_key(up)] = hessians[rows_key(up)][order]
    return changed


def permutation_survey(bench: Workbench) -> list[Point]:
    """The run's export with the hidden units of every feed-forward in each order.

    Raises `UsageError` when the model has no such feed-forward.
    """
    pairs = hidden_pairs(bench.subject.model)
    if not pairs:
        raise UsageError("the model has no plain feed-forward whose hidden units may change places")
    return bench.run("permute", [permuted_trial(bench, name, pairs, order) for name, order in UNIT_ORDERS.items()])


def permuted_trial(bench: Workbench, name: str, pairs: list[HiddenPair], order: UnitOrder) -> Trial:
    """The trial of the run's export with units in `order`."""
    run = bench.subject.run
    quant, coder = in_place(run.quant), run.artifact.coder

    def build() -> dict[str, Stored]:
        weights = bench.subject.weights
        orders = [order(weights[pair.up], weights[pair.down]) for pair in pairs]
        hessians = permuted_hessians(bench.hessians(quant), pairs, orders)
        model = bench.subject.load_trained()
        changed = permuted(weights, pairs, orders)
        with torch.no_grad():
            for parameter_name, parameter, _ in declared(model):
                parameter.copy_(changed[parameter_name])

        def size(stored: Mapping[str, Stored]) -> int:
            return len(pack(stored, bench.expected, coder=coder, digest=run.digest))

        export = quantize_to_budget if quant.fill else quantize
        return export(model, quant, hessians, budget_bytes=bench.budget if asks_for_bytes(quant) else 0, size=size)

    return Trial(label=name, identity=f"units by {name} of {bench.spelled(quant, coder)}", build=build, coder=coder)

"""Orders that a model does not notice: hidden units, value channels and heads may be permuted for nothing.

A feed-forward without biases whose activation works on each unit alone is the same function for any order of its hidden
units; so are attention heads of one key head, and the channels of a value head, if what reads them is permuted alike.
An artifact need not say the order, so that it may be chosen to help what follows, as a coder that learns the scale of
columns one after another, or a quantizer that shares scales among neighbours.
Source: quantization catalogue Q15, compression catalogue C5; the record of PR #1855 stores such orders, 73 KB.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class FreeOrder(NamedTuple):
    """Units of a model that may change places together, as the parameters' names have them."""

    rows: tuple[str, ...]
    """Matrices (outputs, inputs) whose outputs are the units: they make them."""
    columns: tuple[str, ...]
    """Matrices whose inputs are the units: they read them."""
    groups: int = 1
    """Units stand in so many equal groups one after another, and each keeps its own units."""
    span: int = 1
    """Neighbouring rows or columns that make one unit, as the channels of a head do."""
    copies: int = 1
    """How often in a row a reader has each group, as query heads that share a value head do."""


def feed_forward_order(makers: tuple[str, ...], reader: str) -> FreeOrder:
    """Hidden units of a feed-forward: `makers` are its first projections, gate included, `reader` its last."""
    return FreeOrder(makers, (reader,))


def value_channel_order(value: str, out: str, *, heads: int, kv_heads: int) -> FreeOrder:
    """Channels inside each value head, which `heads` / `kv_heads` query heads read. Only where nothing rotates them."""
    assert heads % kv_heads == 0, (heads, kv_heads)
    return FreeOrder((value,), (out,), groups=kv_heads, copies=heads // kv_heads)


def query_head_order(query: str, out: str, *, heads: int, kv_heads: int, width: int) -> FreeOrder:
    """Query heads of `width` channels, of which `heads` / `kv_heads` share a key head.

    Free where nothing else has a parameter a head.
    """
    assert heads % kv_heads == 0, (heads, kv_heads)
    return FreeOrder((query,), (out,), groups=kv_heads, span=width)


def unit_sizes(weights: Mapping[str, Tensor], order: FreeOrder) -> Tensor:
    """(units,) fp64 root mean square of all weights that make or read a unit, each matrix by its own mean square."""
    total = torch.zeros(units_of(weights, order), dtype=torch.float64)
    for name, axis in members(order):
        squares = weights[name].double().square().mean(1 - axis)
        copies = order.copies if axis else 1
        squares = squares.view(order.groups, copies, -1, order.span).mean((1, 3)).flatten()
        total += squares / squares.mean().clamp_min(1e-30)
    return total.sqrt()


def by_size(weights: Mapping[str, Tensor], order: FreeOrder) -> Tensor:
    """(units,) the permutation that sorts the units of every group from small to large; equal ones stay in order."""
    sizes = unit_sizes(weights, order).view(order.groups, -1)
    inside = sizes.argsort(dim=1, stable=True)
    return (inside + torch.arange(order.groups).unsqueeze(1) * sizes.shape[1]).flatten()


def reordered(weights: Mapping[str, Tensor], order: FreeOrder, permutation: Tensor) -> dict[str, Tensor]:
    """`weights` with the matrices of `order` permuted: unit n is what was unit `permutation[n]`.

    Values are moved, never changed: codes and whatever else has a row or a column a unit may be given in their place.
    Raises `ValueError` when `permutation` is none or takes a unit to another group.
    """
    units = units_of(weights, order)
    if not torch.equal(permutation.sort().values, torch.arange(units)):
        raise ValueError(f"not a permutation of {units} units")
    size = units // order.groups
    if not torch.equal(permutation // size, torch.arange(units) // size):
        raise ValueError(f"units change between their {order.groups} groups")
    inside = (permutation % size).view(order.groups, 1, size, 1) * order.span + torch.arange(order.span)
    moved = {}
    for name, axis in members(order):
        copies = order.copies if axis else 1
        starts = torch.arange(order.groups * copies).view(order.groups, copies, 1, 1) * size * order.span
        moved[name] = weights[name].index_select(axis, (inside + starts).flatten())
    return {**weights, **moved}


def members(order: FreeOrder) -> list[tuple[str, int]]:
    """Every matrix of `order` with the axis along which it has the units."""
    return [*((name, 0) for name in order.rows), *((name, 1) for name in order.columns)]


def units_of(weights: Mapping[str, Tensor], order: FreeOrder) -> int:
    """How many units there are. Raises `ValueError` when the matrices do not agree."""
    lengths = {name: weights[name].shape[axis] // (order.copies if axis else 1) for name, axis in members(order)}
    length = next(iter(lengths.values()))
    if set(lengths.values()) != {length} or length % (order.groups * order.span):
        raise ValueError(f"{lengths} are not {order.groups} groups of units of {order.span} alike")
    return length // order.span

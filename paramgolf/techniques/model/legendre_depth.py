"""Legendre depth: the matrices of a run of layers are values of one polynomial of depth.

    W_l = Σ_k C_k · P_k(t_l),  t_l from −1 to 1 over the layers of a group,  P_k the Legendre polynomials
    C_k starts as 0.5^k · (the start that W declares)

The first and the last layer may stay independent; the rest is cut into `groups` runs with coefficients of their own.
Source: PR #1337: degree 5 for attention and 2 for the feed-forward, 2 groups of 11 layers and 2 independent ones,
factorized embedding. Effect: 1.2079 bpb, 1.2266 quantized, after 60,000 steps on one 5090 (27 h); width is worth
more than degree, 2 groups more than 1, a higher degree more than LoRA for each layer.
Cost: degree + 1 matrices a group instead of one a layer; one weighted sum of matrices a layer and step.
Pitfalls: orders 0 and 1 need 8 bits, higher ones 7. #1337 gave order k a learning rate of 0.025·1.1^k and C_k a start
of std 0.5^k/sqrt(fan_in); here they share a rate, and start as the model's other matrices do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from paramgolf.model.block import Block
from paramgolf.model.config import GPTConfig
from paramgolf.model.projections import projections_of, refuse_other_makers
from paramgolf.parts import Init, Linear, Part, Role, Spec
from paramgolf.registry import technique


@technique("legendre_depth", fills="model.on_blocks", source="PR #1337", effect="1.2079 after 60,000 steps")
@dataclass(frozen=True, kw_only=True)
class LegendreDepth:
    """Matrices that are polynomials of depth."""

    attention_degree: int = 5
    """Highest order for attention's projections."""
    mlp_degree: int = 2
    """Highest order for the feed-forward's projections."""
    groups: int = 1
    """Runs of layers with coefficients of their own."""
    ends: bool = True
    """Keep the first and the last layer independent."""

    def __post_init__(self) -> None:
        if min(self.attention_degree, self.mlp_degree) < 0 or self.groups < 1:
            raise ValueError("degrees are 0 or more, groups 1 or more")

    def check(self, model: GPTConfig) -> None:
        """Raise `ValueError` when layers do not fill the groups or differ, or others make the projections."""
        if model.layers - 2 * self.ends < self.groups:
            raise ValueError(f"{model.layers} layers do not fill {self.groups} groups beside the independent ends")
        refuse_other_makers(model, "legendre_depth")
        with torch.device("meta"):  # shapes alone
            self.rework([Block(model, layer) for layer in range(model.layers)])

    def rework(self, blocks: Sequence[nn.Module]) -> None:
        """Replace the projections of every group by polynomials."""
        inner = list(blocks)[1:-1] if self.ends else list(blocks)
        edges = [round(len(inner) * place / self.groups) for place in range(self.groups + 1)]
        for start, end in pairwise(edges):
            self.tie(inner[start:end])

    def tie(self, blocks: Sequence[nn.Module]) -> None:
        """Make the projections of `blocks` values of polynomials."""
        degrees = {Role.ATTENTION: self.attention_degree, Role.MLP: self.mlp_degree}
        depths = [2 * place / (len(blocks) - 1) - 1 for place in range(len(blocks))] if len(blocks) > 1 else [0.0]
        alike = [dict(projections_of(block, frozenset(degrees))) for block in blocks]
        for name, first in alike[0].items():
            shapes = {tuple(linears[name].weight.shape) if name in linears else None for linears in alike}
            if len(shapes) > 1:
                raise ValueError(f"legendre_depth ties {name} over layers, which come in {len(shapes)} shapes of it")
            spec = first.specs["weight"]
            coefficients = Coefficients(tuple(first.weight.shape), degrees[spec.role], spec)
            for block, depth in zip(blocks, depths, strict=True):
                block.set_submodule(name, PolynomialLinear(coefficients, depth))


class Coefficients(Part):
    """Matrices C_0 … C_degree."""

    def __init__(self, shape: tuple[int, ...], degree: int, spec: Spec) -> None:
        super().__init__()
        for order in range(degree + 1):
            self.param(f"order_{order}", *shape, role=spec.role, init=shrunk(spec.init, 0.5**order))

    def at_depth(self, values: Sequence[float]) -> Tensor:
        """(out, in) fp32: Σ_k C_k · values[k]."""
        matrices = [getattr(self, name) for name in self.specs]
        total: Tensor = matrices[0] * values[0]
        for matrix, value in zip(matrices[1:], values[1:], strict=True):
            total = total + matrix * value
        return total


def shrunk(init: Init, factor: float) -> Init:
    """Initializer: what `init` gives, times `factor`."""

    def fill(tensor: Tensor) -> None:
        init(tensor)
        tensor.mul_(factor)

    return fill


def legendre(t: float, degree: int) -> list[float]:
    """P_0(t) … P_degree(t), by Bonnet's recursion."""
    values = [1.0, t]
    for k in range(1, degree):
        values.append(((2 * k + 1) * t * values[k] - k * values[k - 1]) / (k + 1))
    return values[: degree + 1]


class PolynomialLinear(Linear):
    """A projection whose matrix is the value of a polynomial that other layers share."""

    def __init__(self, coefficients: Coefficients, depth: float) -> None:
        Part.__init__(self)  # a weight of its own it has not
        self.coefficients = coefficients
        self.values = legendre(depth, len(coefficients.specs) - 1)
        self.delta = None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in) fp32, computed."""
        return self.coefficients.at_depth(self.values)

    def used(self) -> Tensor:
        """(out, in) fp32: the value at this depth."""
        return self.weight

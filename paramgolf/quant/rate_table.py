"""What a code is expected to cost: bits by the ratio of a weight's deviation to its step (catalogue H20)."""

import torch
from torch import Tensor

LEAST_RATIO, RATIOS, RATIO_PARTS = -6, 64, 4
"""Binary logarithm of the least ratio, how many there are, and how many to an octave."""
MOST_CODE = 127
TAILS = ((0.75, 0.25), (1.0, 0.5), (1.35, 0.25))
"""Deviations and shares of the Gaussians whose mixture a weight is taken to be: its own is known only about."""


def code_bits(*, trellis: bool) -> Tensor:
    """(RATIOS, 2, MOST_CODE + 1) fp64 bits of a code ±k, its sign included, on the even and on the odd grid.

    Without a trellis both are the grid of whole steps. The ratio of an entry is 2^(LEAST_RATIO + place / RATIO_PARTS).
    """
    places = torch.arange(RATIOS, dtype=torch.float64)
    ratio = torch.exp2(LEAST_RATIO + places / RATIO_PARTS).view(-1, 1, 1)
    low, high = code_cells(trellis=trellis)
    mass = sum(
        share * (gaussian_below(high / (ratio * wide)) - gaussian_below(low / (ratio * wide))) for wide, share in TAILS
    )
    assert isinstance(mass, Tensor)
    # A floor of 2^-40 far out, where the difference of two tails is rounding: it must not read as certainty.
    return -(mass + 2.0**-40).log2()


def code_cells(*, trellis: bool) -> tuple[Tensor, Tensor]:
    """(2, MOST_CODE + 1) least and greatest value that lies nearest to code k >= 0, in steps."""
    codes = torch.arange(MOST_CODE + 1, dtype=torch.float64)
    if not trellis:
        edges = codes - 0.5
        return edges.expand(2, -1), (edges + 1).expand(2, -1)
    points = torch.stack((2 * codes, (2 * codes - 1).clamp_min(0)))
    middle = (points[:, 1:] + points[:, :-1]) / 2
    low = torch.cat((-middle[:, :1], middle), 1)
    return low, torch.cat((middle, points[:, -1:] + 1), 1)


def gaussian_below(value: Tensor) -> Tensor:
    """Probability that a standard Gaussian lies below `value`."""
    return torch.special.ndtr(value)


def mean_bits(table: Tensor) -> Tensor:
    """(RATIOS,) mean bits of a code at each ratio under `code_bits`, both grids counted alike."""
    weight = torch.exp2(-table)
    sides = torch.full((MOST_CODE + 1,), 2.0, dtype=torch.float64)
    sides[0] = 1.0
    weight = weight * sides
    return (weight * table).sum(-1).mean(-1) / weight.sum(-1).mean(-1)

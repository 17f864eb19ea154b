"""Selective ±1 pruning: codes of one are made zero, the cheapest first, until the artifact fits.

    a code ±1 of row r costs s_r² of squared error when it becomes 0;  cheapest first, as many as the budget asks for

Source: PRs #609, #1019. Effect: none published; it is what a run that came out too large did.
Cost: one whole encoding for each try, about six; sizes fall almost in proportion to the codes that become zero, so
that the search goes by the line through its last two tries.
Pitfall: the original's target was in MiB, above the limit (15.9 · 1024² > 16,000,000); this one is the contest's own
bytes. Codes that error feedback has set are made zero without feedback.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from paramgolf.quant.slots import ArtifactSize, QuantItem
from paramgolf.registry import technique
from paramgolf.stored import Grid, Stored


@technique("selective_pruning", fills="quant.refine", source="PRs #609 #1019")
@dataclass(frozen=True, kw_only=True)
class SelectivePruning:
    """Zero the cheapest codes of ±1 to fit the bytes."""

    needs_hessian: ClassVar[bool] = False

    within: int = 2_000
    """Bytes below the budget that are near enough."""
    tries: int = 8
    """Encodings at most, besides the first."""

    def __post_init__(self) -> None:
        if self.within < 0 or self.tries < 1:
            raise ValueError(f"within={self.within} bytes and tries={self.tries} are counts")

    def __call__(
        self,
        items: Sequence[QuantItem],
        stored: Mapping[str, Stored],
        budget_bytes: int | None,
        size: ArtifactSize,
    ) -> dict[str, Stored]:
        """`stored` with as few codes zeroed as fit `budget_bytes`; with all of them, if even that does not fit."""
        whole = dict(stored)
        if budget_bytes is None or (above := size(whole)) <= budget_bytes:
            return whole
        costs = torch.cat([pruning_costs(weight) for weight in stored.values()]).sort().values
        least, most = 0, len(costs)
        if not most:
            return whole
        pruned = pruned_below(stored, costs, most)
        below = size(pruned)
        for _ in range(self.tries):
            if below > budget_bytes or budget_bytes - below <= self.within or most - least <= 1:
                break
            share = (above - (budget_bytes - self.within / 2)) / max(above - below, 1)
            count = min(max(least + round(share * (most - least)), least + 1), most - 1)
            tried = pruned_below(stored, costs, count)
            bytes_tried = size(tried)
            if bytes_tried <= budget_bytes:
                most, below, pruned = count, bytes_tried, tried
            else:
                least, above = count, bytes_tried
        return pruned


def grid_of_codes(weight: Stored) -> Grid | None:
    """The first term of `weight`, if it is one of integer codes."""
    return weight.terms[0] if weight.terms and isinstance(weight.terms[0], Grid) else None


def pruning_costs(weight: Stored) -> Tensor:
    """s² of every code of ±1."""
    grid = grid_of_codes(weight)
    if grid is None:
        return torch.zeros(0)
    ones = (grid.codes.abs() == 1).sum(1)
    return grid.scale.float().square().repeat_interleave(ones)


def pruned_below(stored: Mapping[str, Stored], costs: Tensor, count: int) -> dict[str, Stored]:
    """`stored` with about the `count` cheapest codes zeroed: all that cost at most as much as the last of them."""
    most = costs[count - 1]
    return {name: pruned_weight(weight, most) for name, weight in stored.items()}


def pruned_weight(weight: Stored, most: Tensor) -> Stored:
    """`weight` without the codes of ±1 in rows whose squared step is at most `most`."""
    grid = grid_of_codes(weight)
    if grid is None:
        return weight
    cheap = (grid.scale.float().square() <= most).unsqueeze(1) & (grid.codes.abs() == 1)
    kept = replace(grid, codes=grid.codes.masked_fill(cheap, 0))
    return weight._replace(terms=(kept, *weight.terms[1:]))

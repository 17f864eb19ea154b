"""What attention saw of the tokens before a row, kept so that they need not be read again.

Shapes: C calls of attention in a forward pass, R rows, T tokens of a row, S tokens kept, H query and K key heads of E.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.evaluate.slots import LanguageModel

KeysValues = tuple[Tensor, Tensor]
"""(R, tokens, K, E) each."""


class PastPlan(NamedTuple):
    """Stands for the model's plan of attention: every call also sees what was kept of the same call before.

    The calls of a forward pass come in the same order each time, which is how each finds its own.
    """

    kept: Sequence[KeysValues]
    """(R, S, K, E) of each call; empty: nothing is kept."""
    back: Tensor
    """(R, T, S + T) how many tokens before a query a key stands, kept ones first; negative where it sees none."""
    places: Tensor
    """(R, T) position of each token in its document."""
    fresh: list[KeysValues]
    """(R, T, K, E): what each call was given; grows with each."""
    window: int = 0
    """How many tokens a query sees, itself included; 0: all of `back`."""

    def within(self, window: int) -> "PastPlan":
        """The plan for a layer whose queries see `window` tokens."""
        return self._replace(window=window)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(R, T, H, E), (R, T, K, E), (R, T, K, E) -> (R, T, H, E)."""
        call = len(self.fresh)
        self.fresh.append((k.detach(), v.detach()))
        if self.kept:
            k, v = (torch.cat((kept.to(now.dtype), now), 1) for kept, now in zip(self.kept[call], (k, v), strict=True))
        seen = (self.back >= 0) & (self.back < self.window) if self.window else self.back >= 0
        groups = q.shape[2] // k.shape[2]
        # Queries that share a key head stand one after another: no key is copied, and any kernel of SDPA may serve.
        grouped = q.unflatten(2, (-1, groups)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        mask = seen[:, None].repeat(1, 1, groups, 1)
        y = F.scaled_dot_product_attention(grouped, k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)
        return y.unflatten(2, (groups, -1)).permute(0, 3, 1, 2, 4).flatten(2, 3)


def tokens_back(begin: Tensor, first: Tensor, tokens: int, kept: int) -> Tensor:
    """(R, T, S + T) of `PastPlan.back` for rows that begin at position `begin` (R,) of their documents.

    Positions before `first` (R,) are kept, position p in place p mod S; those of the row before `first` are there for
    the sake of what looks one token back in the layers, and no query sees their keys twice.
    """
    query = begin[:, None] + torch.arange(tokens, device=begin.device)
    place = torch.arange(kept, device=begin.device)
    last = first[:, None] - 1
    old = last - torch.remainder(last - place, max(kept, 1))
    missing = torch.full((), -1, device=begin.device)
    before = torch.where(old[:, None] >= 0, query[:, :, None] - old[:, None], missing)
    before = torch.where(before < kept, before, missing)
    inside = torch.where(query[:, None] >= first[:, None, None], query[:, :, None] - query[:, None], missing)
    return torch.cat((before, inside), 2)


def empty_past(model: LanguageModel, rows: int, kept: int, device: torch.device) -> list[KeysValues]:
    """Room for what the calls of attention in a forward pass of `rows` rows keep, found by running `model` once."""
    ids = torch.ones(rows, 2, dtype=torch.int64, device=device)
    zero = torch.zeros(rows, dtype=torch.int64, device=device)
    plan = PastPlan([], tokens_back(zero, zero, 2, 0), torch.zeros_like(ids), [])
    with torch.no_grad():
        model.hidden(Batch(ids, ids, plan=plan))
    return [(k.new_zeros(rows, kept, *k.shape[2:]), v.new_zeros(rows, kept, *v.shape[2:])) for k, v in plan.fresh]


@torch.no_grad()
def keep(kept: Sequence[KeysValues], fresh: Sequence[KeysValues], where: Tensor) -> None:
    """Write `fresh` (R, K, ...) of every call into places `where` (R, K) of what is `kept`."""
    row = torch.arange(len(where), device=where.device)[:, None]
    for old, new in zip(kept, fresh, strict=True):
        for into, given in zip(old, new, strict=True):
            into[row, where] = given

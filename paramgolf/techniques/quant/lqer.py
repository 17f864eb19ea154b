"""LQER: what quantization lost of a few matrices comes back as a product of two thin factors of few bits.

    E = W − Ŵ ≈ A B,  A = U_r S_r: codes −2 … 1, one step;  B = V_rᵀ: codes −8 … 7, a step for `group` numbers
    symmetric: codes ±(2^(bits−1) − 1) with a step a row, in both;  only the `top` matrices of largest ‖E‖

`weighted`: the product is the best for the layer's outputs, least tr (E − AB) H (E − AB)ᵀ (H24); the choice of matrices
stays, because outputs of different matrices are not worth the same. A product that loses more than it mends, after its
own rounding, is left out.
Source: PR #1797 (asymmetric); #1855 rank 4, top 3, group 64; weighted: the catalogue's own remark.
Effect: about −0.001 with smear gate (#1797); top 1 instead of 3 better by 0.00044 and 50 KB smaller (#1948); rank 6,
top 4: −0.00088 for 40 to 50 KB. Cost: (rows + columns) · rank codes a matrix; a second an eigenproblem.
Pitfall: after error feedback E is nearly white, so that a plain product finds little: 4 of 512 directions hold about
2 % of it. If `group` does not divide the factor, it is coded symmetrically.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from paramgolf.lowrank import MOST_RANK, WHOLE, LowRank
from paramgolf.quant.correction import best_factors, even_codes, uneven_codes, weighed_loss
from paramgolf.quant.slots import ArtifactSize, QuantItem
from paramgolf.registry import technique
from paramgolf.stored import Stored, rows_and_columns


@technique("lqer", fills="quant.refine", source="PR #1797", effect="about -0.001 with smear gate")
@dataclass(frozen=True, kw_only=True)
class LQER:
    """A low-rank correction of the worst matrices."""

    rank: int = 4
    """Of the product."""
    top: int = 3
    """Matrices that get one."""
    symmetric: bool = False
    """Code both factors with a step a row, without the asymmetric ranges."""
    bits: int = 4
    """Of the right factor's codes, and of both when symmetric."""
    left_bits: int = 2
    """Of the left factor's codes when not symmetric."""
    group: int = 64
    """Numbers of the right factor that share a step."""
    weighted: bool = False
    """Weigh errors by the inputs that they meet."""

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8 or not 2 <= self.left_bits <= 8:
            raise ValueError(f"bits={self.bits} and left_bits={self.left_bits} lie within 2 and 8")
        if not 1 <= self.rank <= MOST_RANK or self.top < 0 or self.group < 1:
            raise ValueError(
                f"rank={self.rank} lies within 1 and {MOST_RANK}, top={self.top}, group={self.group}: counts"
            )

    @property
    def needs_hessian(self) -> bool:
        """Only where errors are weighed."""
        return self.weighted

    def __call__(
        self,
        items: Sequence[QuantItem],
        stored: Mapping[str, Stored],
        budget_bytes: int | None,
        size: ArtifactSize,
    ) -> dict[str, Stored]:
        """`stored` with a term more for the worst matrices; budget and size are not looked at."""
        losses = {}
        for item in items:
            if item.weight.ndim == 2 and min(item.weight.shape) > self.rank:
                losses[item.name] = weighed_loss(lost_of(item, stored[item.name]), None)
        worst = sorted(losses, key=lambda name: -losses[name])[: self.top]
        mended = {item.name: self.mended(item, stored[item.name]) for item in items if item.name in worst}
        return {**stored, **mended}

    def hessian(self, item: QuantItem) -> Tensor | None:
        """What errors of `item` are weighed with."""
        return item.hessian.cpu() if self.weighted and item.hessian is not None else None

    def mended(self, item: QuantItem, before: Stored) -> Stored:
        """`before` with the correction, if that helps."""
        lost, hessian = lost_of(item, before), self.hessian(item)
        term = self.correction(lost, hessian)
        gained = weighed_loss(lost, hessian) - weighed_loss(lost - term.dense(), hessian)
        return before._replace(terms=(*before.terms, term)) if gained > 0 else before

    def correction(self, lost: Tensor, hessian: Tensor | None) -> LowRank:
        """The coded product for (rows, columns) `lost`."""
        left, right = best_factors(lost, hessian, self.rank)
        if self.symmetric or right.numel() % self.group:
            return LowRank(left=even_codes(left, self.bits), right=even_codes(right, self.bits))
        return LowRank(left=uneven_codes(left, self.left_bits, WHOLE), right=uneven_codes(right, self.bits, self.group))


def lost_of(item: QuantItem, kept: Stored) -> Tensor:
    """(rows, columns) what `kept` lost of the weight."""
    shape = rows_and_columns(tuple(item.weight.shape))
    return item.weight.cpu().reshape(shape) - kept.dense().reshape(shape)

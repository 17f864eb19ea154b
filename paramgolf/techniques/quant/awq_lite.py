"""AWQ-lite: the columns that meet the strongest inputs get a finer grid, inside one and the same error feedback.

    saliency of column j = rms(x_j) · mean_r |W_rj|;  of all spans of `width` neighbouring columns of the matrices that
    GPTQ quantizes, the `top` most salient are coded with 8 bits at the same clip, that is with a finer step

Source: PR #1908. Effect: tax −0.0002, after test-time training −0.00027, for 87 KB. Cost: one more error feedback for
each span; two bits a weight of it and a step a row. It is one step towards steps by column (H17).
Pitfall: spans compete over the whole model by the sums of their inputs' squares, so that a layer that runs thrice
counts thrice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from paramgolf.columnspan import ColumnSpan
from paramgolf.quant.correction import window_sums
from paramgolf.quant.gptq import gptq_codes
from paramgolf.quant.scales import stored_scale
from paramgolf.quant.slots import ArtifactSize, QuantItem
from paramgolf.registry import technique
from paramgolf.stored import Grid, Stored
from paramgolf.techniques.quant.gptq import GPTQ


class SalientSpan(NamedTuple):
    """A span of columns worth more bits."""

    saliency: float
    name: str
    start: int


@technique("awq_lite", fills="quant.refine", source="PR #1908", effect="-0.0002 for 87 KB")
@dataclass(frozen=True, kw_only=True)
class AWQLite:
    """Eight bits for the most salient columns."""

    needs_hessian: ClassVar[bool] = False

    width: int = 64
    """Columns of a span."""
    top: int = 1
    """Spans over the whole model, at most one a matrix."""
    bits: int = 8
    """Of their codes."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.top < 0 or not 3 <= self.bits <= 8:
            raise ValueError(f"width={self.width} and top={self.top} are counts, bits={self.bits} lies within 3 and 8")

    def __call__(
        self,
        items: Sequence[QuantItem],
        stored: Mapping[str, Stored],
        budget_bytes: int | None,
        size: ArtifactSize,
    ) -> dict[str, Stored]:
        """`stored` with the most salient matrices quantized anew; budget and size are not looked at."""
        spans = sorted((span for item in items if (span := self.best_span(item))), reverse=True)[: self.top]
        starts = {span.name: span.start for span in spans}
        return {**stored, **{item.name: self.requantized(item, starts) for item in items if item.name in starts}}

    def best_span(self, item: QuantItem) -> SalientSpan | None:
        """The most salient span of a matrix that GPTQ quantizes with fewer bits."""
        weight, hessian, quantizer = item.weight, item.hessian, item.quantizer
        if not isinstance(quantizer, GPTQ) or hessian is None or weight.ndim != 2:
            return None
        if quantizer.bits >= self.bits or weight.shape[1] <= self.width:
            return None
        sums = window_sums(salient_columns(weight, hessian), self.width)
        return SalientSpan(float(sums.max()), item.name, int(sums.argmax()))

    def requantized(self, item: QuantItem, starts: Mapping[str, int]) -> Stored:
        """The matrix of `item` with its span on a finer grid."""
        quantizer, start = item.quantizer, starts[item.name]
        assert isinstance(quantizer, GPTQ), "only GPTQ has spans"
        assert item.hessian is not None, "a span is chosen by its inputs"
        matrix, hessian = item.weight.detach().float().cpu(), item.hessian.cpu()
        coarse = quantizer.grid(matrix, hessian).scale
        most = 2 ** (self.bits - 1) - 1
        fine = stored_scale(coarse.float() * (quantizer.limit / most), quantizer.mantissa)
        inside = torch.zeros(matrix.shape[1], dtype=torch.bool)
        inside[start : start + self.width] = True
        codes = gptq_codes(
            matrix,
            hessian,
            torch.where(inside, fine.float().unsqueeze(1), coarse.float().unsqueeze(1)),
            limit=torch.where(inside, most, quantizer.limit),
            damping=quantizer.damping,
            act_order=quantizer.act_order,
            block=quantizer.block,
        ).to(torch.int8)
        rest = Grid(codes=torch.where(inside, 0, codes).to(torch.int8), scale=coarse, bits=quantizer.bits)
        span = ColumnSpan(codes=codes[:, inside], scale=fine, start=start, columns=matrix.shape[1])
        return Stored(tuple(item.weight.shape), (rest, span))


def salient_columns(weight: Tensor, hessian: Tensor) -> Tensor:
    """(columns,) rms of the input times mean magnitude of the weights, up to one factor."""
    return hessian.diagonal().sqrt().cpu() * weight.abs().mean(0).cpu()

"""Zero output projections: at the start every block writes nothing, and the model is its embedding.

    W_out ← 0                              attention's output and the feed-forward's second projection

Source: the baseline; Fixup, arXiv 1901.09321. Effect: not measured alone. Cost: none.
Pitfall: it hides every technique inside a block from a test at initialization; test on shaken weights.
"""

from dataclasses import dataclass

from torch import Tensor

from paramgolf.registry import technique


@technique("zero_out", fills="model.init_out", source="baseline; arXiv 1901.09321", effect="not measured alone")
@dataclass(frozen=True, kw_only=True)
class ZeroOut:
    """Zeros."""

    def __call__(self, tensor: Tensor) -> object:
        return tensor.zero_()

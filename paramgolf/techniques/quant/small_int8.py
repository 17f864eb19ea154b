"""Small tensors as int8: control vectors with one step each, small matrices with one a row.

    s = max |w| / 127,  q = round(w / s)         where the tensor has `least` to `most` elements; else plain values

Source: quantization catalogue Q8: `attn_gate_w` from #1736 on (32 to 8,192 elements); control vectors in #1716, "path
A v3". Effect: saves 15 to 40 KB for a dense gate, about 40 KB for all control tensors, no measurable loss. Cost: none.
Pitfall: a vector whose largest value stands alone loses the others' digits.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.rounding import nearest_codes
from paramgolf.registry import technique
from paramgolf.stored import Grid, Stored, rows_and_columns


@technique("small_int8", fills="quant.*", source="PRs #1716 #1736", effect="-15 to -40 KB at no loss")
@dataclass(frozen=True, kw_only=True)
class SmallInt8:
    """Eight-bit codes for tensors of middling size."""

    needs_hessian: ClassVar[bool] = False

    least: int = 32
    """Tensors of fewer elements are kept as plain values: their step would cost more than it saves."""
    most: int = 8192
    """Tensors of more elements are kept as plain values."""
    others: Literal[16, 32] = 16
    """Bits of a plain value."""

    def __post_init__(self) -> None:
        if self.others not in (16, 32):
            raise ValueError(f"plain values have 16 or 32 bits, not {self.others}")

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """Codes or values of `weight`; `hessian` is not looked at."""
        shape = tuple(weight.shape)
        if not self.least <= weight.numel() <= self.most or not weight.numel():
            return PlainValues(bits=self.others)(weight, None)
        matrix = weight.detach().float().reshape(rows_and_columns(shape))
        scale = (matrix.abs().amax(1) / 127).half()
        return Stored(shape, (Grid(codes=nearest_codes(matrix, scale, bits=8).cpu(), scale=scale.cpu(), bits=8),))

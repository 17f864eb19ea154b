"""QK gain (`q_gain`): a learned multiplier on each query head, the temperature of its attention.

    q ← gain[h] · q                        gain: (H) a layer

With normalized q and k the largest possible logit is gain·sqrt(E).
Source: the baseline (1.5); later records start at 4, 5 and 5.25 (PRs #1125, #1217, #1493).
Effect: 1.5 → 4: −0.0039 bpb (#1125, one 5090); 4 → 5: −0.0005 to −0.001 (#1413).
Cost: H parameters a layer, inside the pass over queries.
Pitfalls: measured at 64 channels a head; the best start of ternary models is 2.25. Without `qk_norm` nothing bounds
what it multiplies.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from paramgolf.model.slots import Dims, Pass
from paramgolf.parts import Part, Role, constant
from paramgolf.registry import technique


@technique("qk_gain", fills="model.on_qk", source="baseline; PRs #1125 #1217 #1493", effect="-0.0039 (1.5 to 4)")
@dataclass(frozen=True, kw_only=True)
class QKGain:
    """A temperature for each query head."""

    start: float = 1.5
    """Initial gain."""

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The gains of one layer."""
        return QueryGain(dims.heads, self.start)


class QueryGain(Part):
    """One number a head."""

    kernel_kind: ClassVar[str] = "gain"

    gain: nn.Parameter

    def __init__(self, heads: int, start: float) -> None:
        super().__init__()
        self.param("gain", heads, role=Role.SCALE, init=constant(start))

    def forward(self, q: Tensor, k: Tensor, now: Pass) -> tuple[Tensor, Tensor]:
        """(B, T, H, E), (B, T, K, E) -> the same."""
        return q * self.gain.to(q.dtype)[:, None], k

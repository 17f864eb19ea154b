"""Poly-5 softcap: logits pass through a polynomial that imitates tanh near zero and is cut at its ends.

    z = clamp(l / s, ±2);   out = s · clamp(z · (1 − z²/3 + z⁴/15), ±1)

Source: the ternary record (s = 10, with `z_loss`). Effect: not measured alone. Cost: no transcendental function.
Pitfall: the polynomial passes 1 at z ≈ 1.69 and has no gradient beyond; z⁴/15 is not tanh's series (2z⁴/15).
"""

from dataclasses import dataclass

from torch import Tensor

from paramgolf.bounds import require_positive
from paramgolf.registry import technique


@technique("poly_softcap", fills="model.softcap", source="ternary record", effect="not measured alone")
@dataclass(frozen=True, kw_only=True)
class PolySoftcap:
    """A polynomial bound on logits."""

    cap: float = 10.0
    """Largest absolute logit."""

    def __post_init__(self) -> None:
        require_positive(self, "cap")

    def __call__(self, logits: Tensor) -> Tensor:
        z = (logits / self.cap).clamp(-2, 2)
        square = z.square()
        return self.cap * (z * (1 - square / 3 + square.square() / 15)).clamp(-1, 1)

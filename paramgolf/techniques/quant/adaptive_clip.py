"""Adaptive Hessian-sensitivity clip: every matrix gets its own SDClip, a finer one where errors cost more.

    sens_t = mean(diag H_t) · mean_r var(W_r),   k_t = clamp(exp(−exponent · ln sens_t + offset), least, most)
    offset: so that the mean of ln k_t, weighted by parameters, is ln `around` + `shift`, which keeps the coded size

Source: PR #1689 (around 12.85, shift 0.012) and #1962 (around 0: the mean of the clips that the presets set by hand).
Effect: 1.0822 in #1689; 1.06310 on the #1855 stack, +0.0020. Cost: nothing beside GPTQ's own Hessians.
Outcome, for instance: 8.46 for the first MLP's way back, 14.05 and 19.02 for others.
Pitfalls: its README says that sensitive matrices get a wider clip; the formula, which is what ran, gives them a finer
step. Theory has exponent 0.5 for one common slope (Q16), which 0.15 damps. Sums over recurring passes count as more
sensitive. Only matrices whose quantizer clips by `sd_clip` take part, the embedding only if asked to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import ClassVar

from paramgolf.parts import Role
from paramgolf.quant.slots import ArtifactSize, QuantItem
from paramgolf.registry import technique
from paramgolf.stored import Stored
from paramgolf.techniques.quant.gptq import GPTQ
from paramgolf.techniques.quant.row_grid import RowGridCodes
from paramgolf.techniques.quant.sd_clip import SDClip


@technique("adaptive_clip", fills="quant.allocate", source="PRs #1689 #1962", effect="+0.0020 on #1855")
@dataclass(frozen=True, kw_only=True)
class AdaptiveClip:
    """A clip a matrix, from its own sensitivity."""

    needs_hessian: ClassVar[bool] = True
    needs_curvature: ClassVar[bool] = False

    exponent: float = 0.15
    """How much the sensitivity changes the clip."""
    around: float = 0.0
    """The clip whose logarithm is the mean; 0: that of the clips in the configuration."""
    shift: float = 0.0
    """Added to the mean of the logarithms; 0.012 in #1689."""
    least: float = 6.0
    """The finest clip, standard deviations."""
    most: float = 24.0
    """The widest."""
    embed: bool = False
    """Whether the embedding takes part."""

    def __post_init__(self) -> None:
        if not 0 < self.least < self.most or self.around < 0:
            raise ValueError(f"clips lie within 0 < least={self.least} < most={self.most}, around={self.around}")

    def __call__(self, items: Sequence[QuantItem], budget_bytes: int | None, size: ArtifactSize) -> dict[str, Stored]:
        """Every item under its quantizer, with its own clip; budget and size are not looked at."""
        part = [item for item in items if self.takes_part(item)]
        clips = dict(zip((item.name for item in part), self.clips(part), strict=True))
        return {item.name: with_clip(item, clips[item.name]) if item.name in clips else item.alone() for item in items}

    def takes_part(self, item: QuantItem) -> bool:
        """Whether `item` has an SDClip and a Hessian."""
        clipped = isinstance(item.quantizer, GPTQ | RowGridCodes) and isinstance(item.quantizer.clip, SDClip)
        wanted = self.embed or item.role not in (Role.EMBED, Role.HEAD)
        return clipped and wanted and item.hessian is not None and item.weight.ndim == 2 and item.weight.numel() > 0

    def clips(self, items: Sequence[QuantItem]) -> list[float]:
        """k of each of `items`."""
        if not items:
            return []
        logs = [log(max(clip_sensitivity(item), 1e-30)) for item in items]
        shares = [item.weight.numel() for item in items]
        own = [log(self.around or own_clip(item)) for item in items]
        wanted = weighted_mean(own, shares) + self.shift

        def at(offset: float) -> list[float]:
            return [min(max(offset - self.exponent * value, log(self.least)), log(self.most)) for value in logs]

        low = log(self.least) + self.exponent * min(logs)
        high = log(self.most) + self.exponent * max(logs)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if weighted_mean(at(middle), shares) < wanted else (low, middle)
        return [exp(value) for value in at((low + high) / 2)]


def clip_sensitivity(item: QuantItem) -> float:
    """mean(diag H) · mean over rows of var(W_r)."""
    assert item.hessian is not None, "only items with a Hessian take part"
    return float(item.hessian.diagonal().mean()) * float(item.weight.var(1, correction=0).mean())


def own_clip(item: QuantItem) -> float:
    """Standard deviations that the item's quantizer clips at."""
    assert isinstance(item.quantizer, GPTQ | RowGridCodes), "only such quantizers have a clip"
    assert isinstance(item.quantizer.clip, SDClip), "only that clip counts standard deviations"
    return item.quantizer.clip.sigmas


def with_clip(item: QuantItem, sigmas: float) -> Stored:
    """What the item's quantizer keeps with a clip at `sigmas`."""
    assert isinstance(item.quantizer, GPTQ | RowGridCodes), "only such quantizers have a clip"
    return replace(item.quantizer, clip=SDClip(sigmas=sigmas))(item.weight, item.hessian)


def weighted_mean(values: Sequence[float], weights: Sequence[int]) -> float:
    """Σ w v / Σ w."""
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)

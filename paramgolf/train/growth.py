"""Rows and batches that grow as training goes on, each stage until a share of training is done.

Longer context and larger batches pay late: early gradients are coherent enough to be estimated from few tokens.
`seq_growth` changes the length at which rows end or packed documents are cut, never the tokens of a step; after each
change the learning rate rises again from nearly 0 over some steps. `batch_growth` changes how many micro-batches make
a step, so stages are multiples of what all devices hold at once (make `train.device_tokens` smaller for finer ones).
Source: PR #2014 (1024 until 0.1, 2048 until 0.7, then 3072; re-warmed over 32 steps); batches: modded-nanogpt
(131k, 262k, 393k in equal thirds, rates ×1, 1.52, 1.73); training catalogue §2.5, §2.6.
Effect: #2014's share from training, apart from its longer evaluation, is estimated at −0.001 to −0.002; batches
134.0 to 132.2 s there, untested in the challenge. Cost: a compiled graph for each length. Pitfalls: by the clock, the
step at which a stage ends depends on the machine; rates were tuned for the last batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from paramgolf.bounds import require_not_negative
from paramgolf.registry import technique


@technique("seq_growth", fills="train.seq_growth", source="PR #2014", effect="-0.001 to -0.002, estimated")
@dataclass(frozen=True, kw_only=True)
class SeqGrowth:
    """Shorter rows, or documents cut shorter, before `train.seq_len`."""

    earlier: tuple[int, ...] = ()
    """Lengths of the stages before the last, tokens."""
    until: tuple[float, ...] = ()
    """Share of training at which each of them ends, 0..1; none: all stages take the same share."""
    rewarm: int = 32
    """Steps over which the learning rate rises again after a change."""

    def __post_init__(self) -> None:
        require_stages(self.earlier, self.until)
        require_not_negative(self, "rewarm")

    @property
    def ends(self) -> tuple[float, ...]:
        """Share of training at which each earlier stage ends."""
        return self.until or equal_shares(self.earlier)


@technique("batch_growth", fills="train.batch_growth", source="modded-nanogpt", effect="untested in the challenge")
@dataclass(frozen=True, kw_only=True)
class BatchGrowth:
    """Smaller batches before `train.batch_tokens`."""

    earlier: tuple[int, ...] = ()
    """Tokens of a step in the stages before the last."""
    until: tuple[float, ...] = ()
    """Share of training at which each of them ends, 0..1; none: all stages take the same share."""
    power: float = 0.5
    """Learning rates are multiplied by (tokens / last tokens)^power."""

    def __post_init__(self) -> None:
        require_stages(self.earlier, self.until)

    @property
    def ends(self) -> tuple[float, ...]:
        """Share of training at which each earlier stage ends."""
        return self.until or equal_shares(self.earlier)


def equal_shares(earlier: Sequence[int]) -> tuple[float, ...]:
    """Ends of the `earlier` stages when each of them and the last take the same share of training."""
    stages = len(earlier) + 1
    return tuple(stage / stages for stage in range(1, stages))


def require_stages(earlier: Sequence[int], until: Sequence[float]) -> None:
    """Raise `ValueError` unless there are no ends or as many, rising within 0..1, as positive values."""
    if until and len(earlier) != len(until):
        raise ValueError(f"earlier={earlier} and until={until} are not of one length")
    if not all(value > 0 for value in earlier):
        raise ValueError(f"earlier={earlier} are not all positive")
    if sorted(set(until)) != list(until) or not all(0.0 < end < 1.0 for end in until):
        raise ValueError(f"until={until} do not rise between 0 and 1")


def staged(growth: SeqGrowth | BatchGrowth | None, last: int, fraction: float) -> int:
    """The value of the stage that training is in once `fraction` of it is done; `last` is the last stage's."""
    if growth is None:
        return last
    return next((value for value, end in zip(growth.earlier, growth.ends, strict=True) if fraction < end), last)


class Grown(NamedTuple):
    """How far rows have grown; a checkpoint keeps it."""

    seq_len: int
    since: int
    """Finished steps at the last change of `seq_len`."""


def rewarmed(step: int, since: int, rewarm: int) -> float:
    """Factor on the learning rate of the step after `step` finished ones, the rows having changed after `since`.

    (k + 1) / rewarm for the k-th step from the change on, then 1; the first stage of a run (since = 0) is no change.
    """
    if since == 0 or step - since >= rewarm:
        return 1.0
    return (step - since + 1) / rewarm

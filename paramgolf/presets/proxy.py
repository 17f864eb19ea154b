"""The proxy contest: how a record preset runs on one GPU for 300 seconds.

`paramgolf run pr1855@h100` takes the preset and changes what counts steps or devices, nothing else. The batch was
chosen by measurement; the rest follows from how many fewer steps that leaves. Of the average this was measured: at half
and at twice the horizon `pr1855` is worse; and of the momentum's warm-up: without one `pr1855` and `baseline` are
worse, twice as long is level (docs/BENCHMARKS.md). Where a step is faster than the record's a run comes to more steps
than that: the ratio is at the record's speed, so that no number depends on the machine.
"""

from dataclasses import dataclass, replace
from typing import Any

from paramgolf.contest import ONE_H100, Contest
from paramgolf.run import Run
from paramgolf.techniques.data import Coprime
from paramgolf.techniques.optim import EMA, SWA, TailBlend, WarmdownSteps


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A smaller contest that stands for the published one. 0 in a number: by the ratio of steps."""

    contest: Contest = ONE_H100
    """Its budgets."""
    batch_tokens: int = 196_608
    """Tokens of a step."""
    step_ratio: float = 0.0
    """Steps of the proxy over steps of the published run; 0: by seconds, devices and batch, at the same speed."""
    momentum_steps: int = 0
    """Steps of Muon's momentum warm-up."""
    ema_horizon: float = 0.0
    """Steps over which EMA forgets: 1/(1 − decay)."""

    def ratio(self, run: Run) -> float:
        """Steps of the proxy over steps of `run`."""
        seconds = self.contest.train_seconds / run.contest.train_seconds
        devices = self.contest.devices / run.contest.devices
        return self.step_ratio or seconds * devices * run.train.batch_tokens / self.batch_tokens

    def device_tokens(self, run: Run) -> int:
        """What a device holds at once: the batch in as few equal parts as `run` allows, of whole rows."""
        row, most = run.train.seq_len, run.train.device_tokens
        parts = -(-self.batch_tokens // most)
        while self.batch_tokens % (parts * row) and parts * row < self.batch_tokens:
            parts += 1
        return self.batch_tokens // parts

    def __call__(self, run: Run) -> Run:
        """`run` in this contest. Raises `ValueError` when the batch does not hold whole rows."""
        ratio, matrix, train = self.ratio(run), run.optim.matrix, run.train
        growth = train.seq_growth
        return replace(
            run,
            contest=self.contest,
            data=replace(run.data, loader=shortened(run.data.loader, ratio)),
            optim=replace(
                run.optim,
                matrix=replace(matrix, momentum_steps=self.momentum_steps or round(matrix.momentum_steps * ratio)),
                schedule=shortened(run.optim.schedule, ratio),
                average=self.average(run.optim.average, ratio),
            ),
            train=replace(
                train,
                batch_tokens=self.batch_tokens,
                device_tokens=self.device_tokens(run),
                seq_growth=growth and replace(growth, rewarm=round(growth.rewarm * ratio)),
            ),
        )

    def average(self, average: Any, ratio: float) -> Any:
        """`average` with a horizon for fewer steps."""
        if isinstance(average, EMA):
            horizon = self.ema_horizon or max(ratio / (1.0 - average.decay), 2.0)
            return replace(average, decay=round(1.0 - 1.0 / horizon, 9))
        return shortened(average, ratio)


def shortened(technique: Any, ratio: float) -> Any:
    """`technique` with what it counts in steps multiplied by `ratio`; one that counts none as it is."""
    if isinstance(technique, WarmdownSteps):
        return replace(technique, iterations=max(1, round(technique.iterations * ratio)))
    if isinstance(technique, SWA):
        return replace(technique, every=max(1, round(technique.every * ratio)))
    if isinstance(technique, TailBlend):
        return replace(technique, horizon=max(1.0, technique.horizon * ratio))
    if isinstance(technique, Coprime):
        return replace(technique, ramp=round(technique.ramp * ratio))
    return technique

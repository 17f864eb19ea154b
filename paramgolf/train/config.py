"""Settings of training that belong to no stage: batch, budget, compile, logging."""

from dataclasses import dataclass
from typing import Literal

from paramgolf.bounds import require_not_negative, require_positive
from paramgolf.errors import UsageError
from paramgolf.train.growth import BatchGrowth, SeqGrowth, staged


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, in what portions, and what is said meanwhile."""

    batch_tokens: int = 524_288
    """Tokens of one optimizer step, over all devices."""
    device_tokens: int = 65_536
    """Tokens a device holds at once; gradient accumulation makes up the rest of a batch."""
    seq_len: int = 1024
    """Tokens a row, or of the longest piece of a packed document; while rows grow, at the end."""
    seq_growth: SeqGrowth | None = None
    """Shorter rows before; none: rows of one length."""
    batch_growth: BatchGrowth | None = None
    """Smaller batches before; none: batches of one size."""
    by: Literal["clock", "steps"] = "clock"
    """What ends training and drives the schedules: the contest's wall clock, or `steps`."""
    steps: int = 20_000
    """Most steps of a run by the clock; exactly the steps of a run by steps."""
    reserve_seconds: float = 0.0
    """Kept of the contest's training seconds for work after the last step (calibration)."""
    warmup: int = 20
    """Steps on real data before the clock, undone afterwards: they compile and autotune. Only on a GPU."""
    compile: bool = True
    """Compile model and optimizer step on a GPU (the CPU runs eagerly: a small model gains nothing)."""
    record: bool = False
    """Record forward and backward as a CUDA graph on a GPU, when compiling: 2 % of a step (docs/SPEED.md)."""
    log_every: int = 200
    """Steps between two lines of the log, after the first ten."""
    val_every: int = 0
    """Steps between two validations (outside the clock); 0: none before the end."""
    checkpoint_seconds: float = 60.0
    """Wall seconds between two checkpoints; saving stops the clock. 0: only at the end."""
    checkpoint_steps: int = 0
    """Steps between two checkpoints, beside those by time; 0: none."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_tokens", "device_tokens", "seq_len", "steps", "log_every")
        require_not_negative(self, "warmup", "val_every", "reserve_seconds", "checkpoint_seconds", "checkpoint_steps")
        if self.batch_tokens % self.seq_len or self.device_tokens % self.seq_len:
            raise ValueError(f"batch_tokens and device_tokens must be multiples of seq_len={self.seq_len}")
        for length in self.seq_growth.earlier if self.seq_growth else ():
            if length > self.seq_len or self.batch_tokens % length or self.device_tokens % length:
                raise ValueError(
                    f"seq_growth: rows of {length} do not divide batch_tokens={self.batch_tokens} and "
                    f"device_tokens={self.device_tokens}, or are longer than seq_len={self.seq_len}"
                )
        for tokens in self.batch_growth.earlier if self.batch_growth else ():
            if tokens > self.batch_tokens or tokens % self.seq_len:
                raise ValueError(
                    f"batch_growth: {tokens} tokens are no multiple of seq_len={self.seq_len}, "
                    f"or more than batch_tokens={self.batch_tokens}"
                )

    def accumulation(self, world: int) -> int:
        """Micro-batches a device runs for one step. Raises `UsageError` when the batch does not divide."""
        share = self.batch_tokens // world
        micro = min(self.device_tokens, share)
        if self.batch_tokens % world or share % micro or micro % self.seq_len:
            whole = world * self.device_tokens
            raise UsageError(
                f"batch_tokens={self.batch_tokens} does not divide into {world} devices of rows of {self.seq_len} "
                f"and at most {self.device_tokens} tokens at once",
                fix=f"--set train.batch_tokens={-(-self.batch_tokens // whole) * whole}",
            )
        for tokens in self.batch_growth.earlier if self.batch_growth else ():
            if tokens % (world * micro):
                raise UsageError(
                    f"a stage of {tokens} tokens is no multiple of the {world * micro} that {world} devices hold",
                    fix="change train.batch_growth.earlier, or make train.device_tokens smaller",
                )
        return share // micro

    def accumulation_at(self, fraction: float, world: int) -> int:
        """The same in the stage of `batch_growth` that training is in once `fraction` of it is done."""
        whole = self.accumulation(world)
        return whole * staged(self.batch_growth, self.batch_tokens, fraction) // self.batch_tokens

"""The one training loop: by the clock or by steps, on any number of ranks, resumable at every step."""

import math
import time
from collections.abc import Callable
from signal import Signals
from typing import Any, NamedTuple

import torch

from paramgolf.batch import Batch
from paramgolf.data.slots import Loader
from paramgolf.errors import DataError, GolfError, Interrupted
from paramgolf.events import Events
from paramgolf.model.gpt import GPT
from paramgolf.optim.groups import Optimizer
from paramgolf.optim.schedule import Progress
from paramgolf.train.checkpoint import Checkpoint
from paramgolf.train.clock import Clock
from paramgolf.train.config import TrainConfig
from paramgolf.train.distributed import Place, average_over_ranks
from paramgolf.train.growth import Grown, rewarmed, staged
from paramgolf.train.microstep import Loss, MicroStep, PlainMicroStep, RecordedMicroStep
from paramgolf.train.precision import allow_graphs
from paramgolf.train.signals import StopRequest


class Outcome(NamedTuple):
    """What training leaves besides the weights."""

    steps: int
    seconds: float
    step_ms: float
    """Median time of a step, milliseconds."""
    loss: float
    """Training loss of the last step, nats a token."""
    warmup_seconds: float = 0.0
    """Wall seconds of compiling and of the warm-up steps, before the clock; 0 where nothing is compiled."""


class Trainer:
    """Everything a training run holds between two steps."""

    def __init__(
        self, config: TrainConfig, model: GPT, optimizer: Optimizer, loader: Loader, clock: Clock, place: Place
    ) -> None:
        self.config = config
        self.model = model
        self.optimizer = optimizer
        self.loader = loader
        self.clock = clock
        self.place = place
        self.step = 0
        self.warmup_seconds = 0.0
        self.accumulation = config.accumulation(place.world)
        self.tokens_seen = 0
        """Training tokens of all steps so far."""
        self.grown = Grown(config.seq_len, 0)
        if config.seq_growth:
            self.resize(staged(config.seq_growth, config.seq_len, 0.0))
        on_gpu = place.device.type == "cuda"
        compiled: Loss = model.loss
        if on_gpu and config.compile:
            allow_graphs()
            compiled = torch.compile(model.loss, dynamic=False)
        records = on_gpu and config.compile and config.record
        self.micro_step: MicroStep = (
            RecordedMicroStep(compiled, list(model.parameters())) if records else PlainMicroStep(compiled)
        )
        # The loss of a step is read one step later, from pinned memory, so that the device never waits for the host.
        self.mailbox = torch.zeros(2, pin_memory=on_gpu)
        self.marks: list[Any] = [torch.cuda.Event(), torch.cuda.Event()] if on_gpu else []

    def advance(self) -> None:
        """One optimizer step. On a GPU it returns before the device is done."""
        fraction, _, left = self.place.agree(self.clock.progress(self.step))
        self.take_step(Progress(fraction=fraction, step=self.step, left=left))

    def take_step(self, progress: Progress) -> None:
        """One optimizer step at `progress`."""
        self.model.at(progress.fraction)
        factor = self.grow(progress.fraction)
        self.optimizer.look(progress)
        phase = (self.model.order, sum(at <= progress.fraction for at in self.model.config.switches))
        total = torch.zeros((), device=self.place.device)
        for _ in range(self.accumulation):
            batch = self.loader.next()
            require_known_ids(batch, self.model.config.vocab)
            total += self.micro_step.accumulate(batch.to(self.place.device), share=self.accumulation, phase=phase)
        gradients = [parameter.grad for parameter in self.optimizer.parameters.values() if parameter.grad is not None]
        average_over_ranks([*gradients, total], self.place.world)
        self.optimizer.step(progress, factor=factor)
        self.optimizer.zero_grad()
        self.mailbox[self.step % 2].copy_(total, non_blocking=True)
        if self.marks:
            self.marks[self.step % 2].record()
        self.step += 1

    def grow(self, fraction: float) -> float:
        """Set rows and micro-batches to what `fraction` of training asks; returns the factor on the learning rates."""
        config, factor = self.config, 1.0
        if config.seq_growth:
            seq_len = staged(config.seq_growth, config.seq_len, fraction)
            if seq_len != self.grown.seq_len:
                self.resize(seq_len)
            factor = rewarmed(self.step, self.grown.since, config.seq_growth.rewarm)
        tokens = staged(config.batch_growth, config.batch_tokens, fraction)
        self.tokens_seen += tokens
        if config.batch_growth:
            self.accumulation = config.accumulation_at(fraction, self.place.world)
            factor *= float((tokens / config.batch_tokens) ** config.batch_growth.power)
        return factor

    def resize(self, seq_len: int) -> None:
        """Rows of `seq_len` from the next batch on."""
        self.loader.resize(seq_len)
        self.grown = Grown(seq_len, self.step)

    def finished_loss(self, step: int) -> float:
        """The loss of the `step`-th step (from 0), waiting for that step alone."""
        if self.marks:
            self.marks[step % 2].synchronize()
        return float(self.mailbox[step % 2])

    def warm_up(self, events: Events) -> None:
        """Compile and autotune on real steps before the clock, then restore weights, optimizer and data position."""
        began = time.perf_counter()
        weights = {name: parameter.detach().clone() for name, parameter in self.optimizer.parameters.items()}
        state, position, grown = self.optimizer.snapshot(), self.loader.state(), self.grown
        fractions = [fraction for fraction in self.phases() for _ in range(self.config.warmup)]
        for number, fraction in enumerate(fractions):
            self.take_step(Progress(fraction=fraction, step=number, left=math.inf))
            events.emit("warmup", step=number + 1, steps=len(fractions))
        self.place.synchronize()
        with torch.no_grad():
            for name, parameter in self.optimizer.parameters.items():
                parameter.copy_(weights[name])
        self.optimizer.load_state_dict(state)
        self.step = 0
        self.tokens_seen = 0
        if self.config.seq_growth:
            self.grown = grown
            self.loader.resize(grown.seq_len)
        self.loader.restore(position)
        self.warmup_seconds = time.perf_counter() - began
        events.emit("warmed_up", steps=len(fractions), phases=len(self.phases()), seconds=self.warmup_seconds)

    def phases(self) -> list[float]:
        """Where in training (0..1) a graph comes in: at the start, at switches of the model, at new rows."""
        growth = self.config.seq_growth
        return sorted({0.0, *self.model.config.switches, *(growth.ends if growth else ())})

    def checkpoint(self, notes: dict[str, Any]) -> Checkpoint:
        """The state between two steps."""
        weights = {name: parameter.detach() for name, parameter in self.optimizer.parameters.items()}
        state = self.optimizer.state_dict()
        return Checkpoint(
            self.step, self.clock.elapsed, weights, state, self.loader.state(), notes, (*self.grown, self.tokens_seen)
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`."""
        with torch.no_grad():
            for name, parameter in self.optimizer.parameters.items():
                parameter.copy_(checkpoint.weights[name])
        self.optimizer.load_state_dict(checkpoint.optimizer)
        *grown, self.tokens_seen = checkpoint.grown
        self.grown = Grown(*grown)
        self.loader.resize(self.grown.seq_len)
        self.loader.restore(checkpoint.loader)
        self.step = checkpoint.step
        self.clock.spent = checkpoint.seconds


def require_known_ids(batch: Batch, vocab: int) -> None:
    """Raise `DataError` when `batch`, still on the host, holds an id the model has no row for.

    A GPU would end the whole process there; a shard's ids are not all read before a run begins.
    """
    largest = max(int(batch.ids.max()), int(batch.targets.max()))
    if largest >= vocab:
        raise DataError(
            "the training shards hold tokens that the vocabulary does not have",
            evidence=f"id {largest:,}, the vocabulary has {vocab:,}",
            fix="paramgolf data check on the data folder names the shard; fetch or prepare that one again",
        )


class Hooks(NamedTuple):
    """What the loop calls at its pauses, the clock standing still."""

    save: Callable[[Checkpoint], None]
    validate: Callable[[int], None]


def train(trainer: Trainer, events: Events, hooks: Hooks, stop: StopRequest, notes: dict[str, Any]) -> Outcome:
    """Run steps until the budget is spent.

    Raises `OverTime` when the budget does not hold one step, `Interrupted` after saving when asked to stop,
    `GolfError` when the loss is not finite (the last good checkpoint stays).
    """
    clock, config, begun = trainer.clock, trainer.config, trainer.step
    lag = 1 if trainer.marks else 0
    saved_at, loss = clock.elapsed, math.nan
    clock.start()
    while True:
        over, asked = trainer.place.agree([clock.over(trainer.step, lag), stop.signal])
        if over or asked:
            break
        trainer.advance()
        if trainer.step - lag > begun:
            loss = settle(trainer, events, trainer.step - lag)
        if due(config.val_every, trainer.step):
            pause(trainer, lambda: hooks.validate(trainer.step))
        late = 0 < config.checkpoint_seconds < clock.elapsed - saved_at
        if trainer.place.agree([late or due(config.checkpoint_steps, trainer.step)])[0]:
            pause(trainer, lambda: save_finite(trainer, hooks, notes))
            saved_at = clock.elapsed
    trainer.place.synchronize()
    if lag and trainer.step > begun:
        loss = settle(trainer, events, trainer.step)
    clock.stop()
    if asked:
        save_finite(trainer, hooks, notes)
        number = int(asked)  # the first rank's: another one may not have been signalled itself
        told = f"stopped by {Signals(number).name} after step {trainer.step}; everything so far is saved"
        raise Interrupted(told, signal_number=number)
    outcome = Outcome(trainer.step, clock.elapsed, 1000 * clock.median_step(), loss, trainer.warmup_seconds)
    save_finite(trainer, hooks, {**notes, "trained": outcome._asdict()})
    return outcome


def settle(trainer: Trainer, events: Events, step: int) -> float:
    """Wait for the end of `step` (from 1), check it and tell; returns its loss."""
    loss = trainer.finished_loss(step - 1)
    trainer.clock.lap()
    if step == 1:
        trainer.clock.require_room()
    if not math.isfinite(loss):
        raise diverged(f"the training loss became {loss} at step {step}", trainer)
    if step <= 10 or step % trainer.config.log_every == 0:
        progress = trainer.clock.progress(step)
        events.emit(
            "step",
            step=step,
            steps=trainer.config.steps,
            loss=loss,
            train_seconds=trainer.clock.elapsed,
            fraction=progress.fraction,
            last_step=step + progress.left if math.isfinite(progress.left) else None,
            tokens_per_second=trainer.tokens_seen * step / trainer.step / trainer.clock.elapsed,
        )
    return loss


def save_finite(trainer: Trainer, hooks: Hooks, notes: dict[str, Any]) -> None:
    """Save, unless a weight is not finite: the loss of a step speaks of the weights before it.

    Raises `GolfError` then; the last good checkpoint stays.
    """
    spoilt = next((name for name, weight in trainer.optimizer.parameters.items() if not weight.isfinite().all()), None)
    if spoilt:
        raise diverged(f"{spoilt} is not finite after step {trainer.step}", trainer)
    hooks.save(trainer.checkpoint(notes))


def diverged(what: str, trainer: Trainer) -> GolfError:
    """The error for a run whose numbers are no longer finite."""
    return GolfError(
        what,
        evidence=f"learning rates {trainer.optimizer.learning_rates()}",
        fix="the last good checkpoint is kept; start a run with smaller learning rates",
    )


def due(every: int, step: int) -> bool:
    """Whether something done every so many steps is due after `step`; 0 means never."""
    return every > 0 and step % every == 0


def pause(trainer: Trainer, work: Callable[[], None]) -> None:
    """Do `work` with the device idle and the clock standing still."""
    trainer.place.synchronize()
    trainer.clock.stop()
    loss = trainer.finished_loss(trainer.step - 1)
    if math.isfinite(loss):  # a loss that is not must not become the last good checkpoint
        work()
    trainer.clock.start()

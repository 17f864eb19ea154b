"""The one training loop: by the clock or by steps, on any number of ranks, resumable at every step."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.data.slots import Loader
from paramgolf.errors import GolfError, Interrupted
from paramgolf.events import Events
from paramgolf.model.gpt import GPT
from paramgolf.optim.groups import Optimizer
from paramgolf.optim.schedule import Progress
from paramgolf.train.checkpoint import Checkpoint
from paramgolf.train.clock import Clock
from paramgolf.train.config import TrainConfig
from paramgolf.train.distributed import Place, average_over_ranks
from paramgolf.train.signals import StopRequest

Loss = Callable[[Batch], Tensor]


class Outcome(NamedTuple):
    """What training leaves besides the weights."""

    steps: int
    seconds: float
    step_ms: float
    """Median time of a step, milliseconds."""
    loss: float
    """Training loss of the last step, nats a token."""


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
        self.accumulation = config.accumulation(place.world)
        on_gpu = place.device.type == "cuda"
        self.loss: Loss = torch.compile(model.loss, dynamic=False) if on_gpu and config.compile else model.loss
        # The loss of a step is read one step later, from pinned memory, so that the device never waits for the host.
        self.mailbox = torch.zeros(2, pin_memory=on_gpu)
        self.marks: list[Any] = [torch.cuda.Event(), torch.cuda.Event()] if on_gpu else []

    def advance(self) -> None:
        """One optimizer step. On a GPU it returns before the device is done."""
        fraction, _, left = self.place.agree(self.clock.progress(self.step))
        progress = Progress(fraction=fraction, step=self.step, left=left)
        self.model.at(progress.fraction)
        total = torch.zeros((), device=self.place.device)
        for _ in range(self.accumulation):
            loss = self.loss(self.loader.next().to(self.place.device)) / self.accumulation
            loss.backward()
            total += loss.detach()
        gradients = [parameter.grad for parameter in self.optimizer.parameters.values() if parameter.grad is not None]
        average_over_ranks([*gradients, total], self.place.world)
        self.optimizer.step(progress)
        self.optimizer.zero_grad()
        self.mailbox[self.step % 2].copy_(total, non_blocking=True)
        if self.marks:
            self.marks[self.step % 2].record()
        self.step += 1

    def finished_loss(self, step: int) -> float:
        """The loss of the `step`-th step (from 0), waiting for that step alone."""
        if self.marks:
            self.marks[step % 2].synchronize()
        return float(self.mailbox[step % 2])

    def warm_up(self, events: Events) -> None:
        """Compile and autotune on real steps before the clock, then restore weights, optimizer and data position."""
        if self.place.device.type != "cuda":
            return
        weights = {name: parameter.detach().clone() for name, parameter in self.optimizer.parameters.items()}
        state, position = self.optimizer.snapshot(), self.loader.state()
        for number in range(self.config.warmup):
            self.advance()
            events.emit("warmup", step=number + 1, steps=self.config.warmup)
        self.place.synchronize()
        with torch.no_grad():
            for name, parameter in self.optimizer.parameters.items():
                parameter.copy_(weights[name])
        self.optimizer.load_state_dict(state)
        self.loader.restore(position)
        self.step = 0

    def checkpoint(self, notes: dict[str, Any]) -> Checkpoint:
        """The state between two steps."""
        weights = {name: parameter.detach() for name, parameter in self.optimizer.parameters.items()}
        state = self.optimizer.state_dict()
        return Checkpoint(self.step, self.clock.elapsed, weights, state, self.loader.state(), notes)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`."""
        with torch.no_grad():
            for name, parameter in self.optimizer.parameters.items():
                parameter.copy_(checkpoint.weights[name])
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.loader.restore(checkpoint.loader)
        self.step = checkpoint.step
        self.clock.spent = checkpoint.seconds


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
        over, asked = trainer.place.agree([clock.over(trainer.step, lag), bool(stop)])
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
        raise Interrupted(f"stopped by {stop.name} after step {trainer.step}; everything so far is saved")
    outcome = Outcome(trainer.step, clock.elapsed, 1000 * clock.median_step(), loss)
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
            tokens_per_second=trainer.config.batch_tokens * step / trainer.clock.elapsed,
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

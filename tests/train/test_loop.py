import math
import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from limits import file_size_limit
from safetensors.torch import load_file
from tiny import tiny_run, tiny_session

from paramgolf.errors import GolfError, Interrupted, OverTime
from paramgolf.events import Event, Events, read_events
from paramgolf.optim.groups import Optimizer
from paramgolf.optim.schedule import Progress
from paramgolf.run import Run
from paramgolf.stages import Session, execute, fresh_model, train_stage, training_loader
from paramgolf.techniques.data import Packed
from paramgolf.techniques.model import Recurrence, UntiedPasses
from paramgolf.techniques.optim import EMA, EMANesterov
from paramgolf.train.checkpoint import FILE_NAME, load_checkpoint
from paramgolf.train.clock import Clock
from paramgolf.train.growth import SeqGrowth
from paramgolf.train.loop import Trainer
from paramgolf.validation import Validation


def trained(session: Session) -> Any:
    return train_stage(session, Validation.of(session.run, session.dataset, session.place, session.events))


def trainer_of(session: Session) -> Trainer:
    """A trainer before its first step."""
    run, place = session.run, session.place
    model = fresh_model(run, place)
    optimizer, loader = Optimizer(model, run.optim), training_loader(session)
    return Trainer(run.train, model, optimizer, loader, Clock(run.train, 1e9), place)


def told(path: Path, kind: str) -> list[Event]:
    return [event for event in read_events(path / "events.jsonl") if event["event"] == kind]


def losses(path: Path) -> list[float]:
    return [event["loss"] for event in told(path, "step")]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return {name: t for name, t in load_file(path / "checkpoint" / FILE_NAME).items() if name.startswith("weights/")}


def overheard(session: Session, listener: Any) -> Session:
    """A session whose events `listener` hears."""
    session.events.listeners = (*session.events.listeners, listener)
    return session


@pytest.mark.parametrize("device_tokens", [128, 64, 32])
def test_micro_batches_add_up_to_one_batch(tiny_data, tmp_path: Path, device_tokens: int):
    """Rows are shared out otherwise, sums are taken in another order; nothing else changes."""
    trained(tiny_session(tiny_run(steps=8), tiny_data, tmp_path / "whole"))
    trained(tiny_session(tiny_run(steps=8, device_tokens=device_tokens), tiny_data, tmp_path / "parts"))
    assert told(tmp_path / "parts", "started")[0]["accumulation"] == 256 // device_tokens
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    for name, weight in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "parts")[name], weight, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_the_run_goes_on_bit_for_bit(tiny_data, tmp_path: Path, number: int):
    trained(tiny_session(tiny_run(), tiny_data, tmp_path / "whole"))

    def interrupt(event: Event) -> None:
        if event["event"] == "step" and event["step"] == 5:
            os.kill(os.getpid(), number)

    usual = signal.getsignal(number)
    told_as = f"{signal.Signals(number).name} after step 5; everything so far is saved"
    with pytest.raises(Interrupted, match=told_as) as caught:
        trained(overheard(tiny_session(tiny_run(), tiny_data, tmp_path / "cut"), interrupt))
    assert (caught.value.signal_number, caught.value.exit_code) == (number, 128 + number)
    assert signal.getsignal(number) == usual
    assert load_checkpoint(tmp_path / "cut" / "checkpoint").step == 5
    trained(tiny_session(tiny_run(), tiny_data, tmp_path / "cut"))
    assert told(tmp_path / "cut", "resumed")[0]["step"] == 5
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "cut")[name], weight), name


def test_a_finished_training_is_not_trained_again(tiny_data, tmp_path: Path):
    first = trained(tiny_session(tiny_run(), tiny_data, tmp_path))
    again = trained(tiny_session(tiny_run(), tiny_data, tmp_path))
    assert again.outcome == first.outcome
    assert len(losses(tmp_path)) == len({event["step"] for event in told(tmp_path, "step")})
    for name, weight in first.model.named_parameters():
        assert torch.equal(dict(again.model.named_parameters())[name], weight)


@dataclass(frozen=True, kw_only=True)
class Cliff:
    """A schedule that ruins the weights in one step."""

    at: int

    def __call__(self, progress: Progress) -> float:
        return math.inf if progress.step == self.at else 1.0


def ruined(run: Run, at: int) -> Run:
    return replace(run, optim=replace(run.optim, schedule=Cliff(at=at)))


@pytest.mark.parametrize(("every", "said"), [(1, "not finite after step 6"), (4, "loss became nan at step 7")])
def test_numbers_that_are_not_finite_stop_the_run_and_the_last_good_checkpoint_stays(
    tiny_data, tmp_path: Path, every: int, said: str
):
    """Step 6 ruins the weights while its own loss is still finite: a checkpoint after it would not be good."""
    run = tiny_run(checkpoint_steps=every)
    with pytest.raises(GolfError, match=said) as caught:
        trained(tiny_session(ruined(run, at=5), tiny_data, tmp_path))
    assert "learning rates" in caught.value.evidence
    saved = load_checkpoint(tmp_path / "checkpoint")
    assert saved.step == 5 // every * every
    assert all(weight.isfinite().all() for weight in saved.weights.values())
    trained(tiny_session(run, tiny_data, tmp_path))
    assert all(weight.isfinite().all() for weight in weights(tmp_path).values())


def test_weights_ruined_by_the_last_step_are_not_kept(tiny_data, tmp_path: Path):
    run = tiny_run(checkpoint_steps=5)
    with pytest.raises(GolfError, match="not finite after step 12"):
        trained(tiny_session(ruined(run, at=11), tiny_data, tmp_path))
    assert load_checkpoint(tmp_path / "checkpoint").step == 10


def test_a_budget_too_small_for_one_step_is_told_with_nothing_spent(tiny_data, tmp_path: Path):
    run = tiny_run(by="clock")
    run = replace(run, contest=replace(run.contest, train_seconds=1e-4))
    with pytest.raises(OverTime, match="too small for one training step"):
        trained(tiny_session(run, tiny_data, tmp_path))
    assert not (tmp_path / "checkpoint").exists()


def test_a_run_by_the_clock_stops_in_time(tiny_data, tmp_path: Path):
    run = tiny_run(by="clock", steps=10_000, checkpoint_seconds=0.05, val_every=10)
    run = replace(run, contest=replace(run.contest, train_seconds=0.5))
    outcome = trained(tiny_session(run, tiny_data, tmp_path)).outcome
    assert 2 < outcome.steps < 10_000
    assert outcome.seconds <= 0.5 + 3 * outcome.step_ms / 1000, "a slow step may pass it, three are a fault"
    assert told(tmp_path, "trained")[0]["by_clock"]
    assert len(told(tmp_path, "validation")) == outcome.steps // 10


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint_before(tiny_data, tmp_path: Path):
    run = tiny_run(checkpoint_steps=4)
    trained(tiny_session(run, tiny_data, tmp_path / "whole"))
    with ExitStack() as disk:

        def fill(event: Event) -> None:
            if event["event"] == "step" and event["step"] == 6:
                disk.enter_context(file_size_limit(20_000))

        with pytest.raises(GolfError, match="the checkpoint could not be written; the one before it is intact"):
            trained(overheard(tiny_session(run, tiny_data, tmp_path / "cut"), fill))
    assert load_checkpoint(tmp_path / "cut" / "checkpoint").step == 4
    assert [path.name for path in (tmp_path / "cut" / "checkpoint").iterdir()] == [FILE_NAME]
    trained(tiny_session(run, tiny_data, tmp_path / "cut"))
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "cut")[name], weight), name


def test_validation_and_checkpoints_change_nothing(tiny_data, tmp_path: Path):
    trained(tiny_session(tiny_run(), tiny_data, tmp_path / "plain"))
    trained(tiny_session(tiny_run(val_every=3, checkpoint_steps=2), tiny_data, tmp_path / "busy"))
    assert losses(tmp_path / "busy") == losses(tmp_path / "plain")
    for name, weight in weights(tmp_path / "plain").items():
        assert torch.equal(weights(tmp_path / "busy")[name], weight), name


def test_warm_up_leaves_no_trace(tiny_data, tmp_path: Path):
    """Weights, optimizer, average, rows, order and place in the data are what they were before."""
    run = tiny_run(warmup=2, seq_growth=SeqGrowth(earlier=(16,), until=(0.5,), rewarm=2))
    run = replace(
        run,
        model=replace(run.model, order=Recurrence(first=0, last=1, starts=(0.3,)), repeats=UntiedPasses(mlp=True)),
        optim=replace(run.optim, average=EMA(decay=0.9), look_ahead=EMANesterov()),
    )
    losses_of, told_by = {}, {}
    for name in ("plain", "warmed"):
        trainer = trainer_of(tiny_session(run, tiny_data, tmp_path / name))
        if name == "warmed":
            trainer.warm_up(Events(listeners=(lambda event: told_by.setdefault(event["event"], event),)))
        losses_of[name] = []
        for _ in range(run.train.steps):
            trainer.advance()
            losses_of[name].append(trainer.finished_loss(trainer.step - 1))
        losses_of[name] += [tensor.clone() for tensor in trainer.optimizer.state_dict().values()]
    for plain, warmed in zip(losses_of["plain"], losses_of["warmed"], strict=True):
        assert plain == warmed if isinstance(plain, float) else torch.equal(plain, warmed)
    assert told_by["warmed_up"]["steps"] == 2 * told_by["warmed_up"]["phases"] == 6, "start, second pass, longer rows"
    assert told_by["warmed_up"]["seconds"] > 0


def test_another_seed_is_another_model(tiny_data, tmp_path: Path):
    trained(tiny_session(tiny_run(), tiny_data, tmp_path / "one"))
    trained(tiny_session(replace(tiny_run(), seed=2), tiny_data, tmp_path / "two"))
    assert losses(tmp_path / "one") != losses(tmp_path / "two")


def test_packed_documents_train_too(tiny_data, tmp_path: Path):
    run = tiny_run()
    run = replace(run, model=replace(run.model, context=256))
    run = replace(run, data=replace(run.data, loader=Packed()))
    result = execute(tiny_session(run, tiny_data, tmp_path))
    assert losses(tmp_path)[-1] < losses(tmp_path)[0] - 2
    assert result.val_bpb < 8


def test_the_loss_falls(tiny_data, tmp_path: Path):
    trained(tiny_session(tiny_run(steps=40, log_every=1), tiny_data, tmp_path))
    fallen = losses(tmp_path)
    assert fallen[0] == pytest.approx(5.56, abs=0.02), "ln 260 at the start"
    assert sum(fallen[-5:]) / 5 < 2.6

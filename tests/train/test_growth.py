"""Rows and batches that grow: the stages, what is refused, and runs that are resumed in the middle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CPU, tiny_dataset, tiny_run, tiny_session

from paramgolf.batch import Batch
from paramgolf.config import from_toml, overridden, to_toml
from paramgolf.errors import UsageError
from paramgolf.optim.groups import Optimizer
from paramgolf.run import Run
from paramgolf.stages import Session, fresh_model
from paramgolf.techniques.data import Coprime, Packed, Sequential
from paramgolf.train.checkpoint import load_checkpoint, save_checkpoint
from paramgolf.train.clock import Clock
from paramgolf.train.config import TrainConfig
from paramgolf.train.growth import BatchGrowth, SeqGrowth, rewarmed, staged
from paramgolf.train.loop import Trainer

ROWS = SeqGrowth(earlier=(8, 16), until=(0.25, 0.5), rewarm=2)
BATCHES = BatchGrowth(earlier=(64, 128), until=(0.25, 0.5), power=0.5)


def test_each_stage_lasts_until_its_share_of_training() -> None:
    assert [staged(ROWS, 32, f) for f in (0.0, 0.24, 0.25, 0.49, 0.5, 1.0)] == [8, 8, 16, 16, 32, 32]
    assert staged(None, 32, 0.0) == 32
    equal = SeqGrowth(earlier=(8, 16))
    assert [staged(equal, 32, f) for f in (0.0, 0.32, 0.34, 0.66, 0.67)] == [8, 8, 16, 16, 32]


def test_the_rate_rises_again_after_a_change_but_not_at_the_start() -> None:
    assert [rewarmed(step, 10, 4) for step in (10, 11, 12, 13, 14, 99)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rewarmed(0, 0, 4) == 1.0
    assert rewarmed(10, 10, 0) == 1.0


@pytest.mark.parametrize("growth", [SeqGrowth, BatchGrowth])
@pytest.mark.parametrize(
    "fields",
    [
        {"earlier": (8,), "until": (0.1, 0.2)},
        {"earlier": (8, 16), "until": (0.5, 0.2)},
        {"earlier": (8,), "until": (1.0,)},
        {"earlier": (0,), "until": (0.5,)},
    ],
)
def test_stages_that_make_no_sense_are_refused(growth: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"until|positive"):
        growth(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"seq_growth": SeqGrowth(earlier=(24,), until=(0.5,))},
        {"seq_growth": SeqGrowth(earlier=(64,), until=(0.5,))},
        {"batch_growth": BatchGrowth(earlier=(512,), until=(0.5,))},
        {"batch_growth": BatchGrowth(earlier=(40,), until=(0.5,))},
    ],
)
def test_stages_that_do_not_fit_the_batch_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="_growth"):
        TrainConfig(batch_tokens=256, device_tokens=256, seq_len=32, **fields)


def test_a_batch_that_devices_cannot_share_is_refused_with_a_way_out() -> None:
    config = TrainConfig(batch_tokens=256, device_tokens=64, seq_len=32, batch_growth=BATCHES)
    assert [config.accumulation_at(f, 1) for f in (0.0, 0.3, 0.9)] == [1, 2, 4]
    with pytest.raises(UsageError, match="device_tokens smaller"):
        config.accumulation(2)


def test_a_loader_whose_rows_cannot_change_is_refused() -> None:
    run = tiny_run(seq_growth=ROWS)
    with pytest.raises(ValueError, match="sequential or packed"):
        replace(run, data=replace(run.data, loader=Coprime()))


def test_growth_is_set_on_the_command_line_and_survives_toml() -> None:
    lines = ["train.seq_growth=seq_growth", "train.seq_growth.earlier=8,16", "train.seq_growth.until=0.1,0.7"]
    run = overridden(tiny_run(), ["train.seq_growth.rewarm=8", *reversed(lines)])
    assert run.train.seq_growth == SeqGrowth(earlier=(8, 16), until=(0.1, 0.7), rewarm=8)
    assert from_toml(Run, to_toml(run)) == run


class Watched(Trainer):
    """A trainer that keeps what its loader gave and the factor of each step."""

    def watch(self) -> "Watched":
        self.seen: list[list[Batch]] = []
        self.scales: list[float] = []
        usual = self.loader.next

        def told() -> Batch:
            batch = usual()
            self.seen[-1].append(batch)
            return batch

        self.loader.next = told  # type: ignore[method-assign]
        return self

    def advance(self) -> None:
        self.seen.append([])
        super().advance()
        self.scales.append(self.optimizer.scale)


def trainer(session: Session) -> Watched:
    run = session.run
    model = fresh_model(run, CPU)
    micro = run.train.batch_tokens // run.train.accumulation(1)
    loader = run.data.loader.build(session.dataset.train, tokens=micro, seq_len=run.train.seq_len)
    made = Watched(run.train, model, Optimizer(model, run.optim), loader, Clock(run.train, 600.0), CPU)
    return made.watch()


def growing(loader: Any) -> Run:
    run = tiny_run(steps=12, device_tokens=64, seq_growth=ROWS, batch_growth=BATCHES)
    run = replace(run, model=replace(run.model, context=256), data=replace(run.data, loader=loader))
    return replace(run, optim=replace(run.optim, schedule=type(run.optim.schedule)(share=1.0, floor=1.0)))


@pytest.mark.parametrize("loader", [Sequential(), Packed(), Packed(ahead=0)], ids=["rows", "ahead", "packed"])
def test_rows_and_micro_batches_follow_progress_without_losing_a_token(tmp_path: Path, loader: Any) -> None:
    made = trainer(tiny_session(growing(loader), tiny_dataset(tmp_path), tmp_path / "run"))
    for _ in range(12):
        made.advance()
    assert [len(step) for step in made.seen] == [1] * 3 + [2] * 3 + [4] * 6
    longest = [8] * 3 + [16] * 3 + [32] * 6
    for step, length in zip(made.seen, longest, strict=True):
        for batch in step:
            assert batch.ids.numel() == 64
            if batch.cu_seqlens is None:
                assert batch.ids.shape[1] == length
            else:
                assert batch.cu_seqlens.diff().max() <= length == batch.max_seqlen
    assert (*made.grown, made.tokens_seen) == (32, 6, 3 * 64 + 3 * 128 + 6 * 256)
    roots = [0.25**0.5] * 3 + [0.5**0.5] * 3 + [1.0] * 6
    warm = [1.0] * 3 + [0.5, 1.0, 1.0] + [0.5] + [1.0] * 5
    assert made.scales == pytest.approx([root * factor for root, factor in zip(roots, warm, strict=True)])
    ids = torch.cat([batch.ids.flatten() for step in made.seen for batch in step])
    targets = torch.cat([batch.targets.flatten() for step in made.seen for batch in step])
    if isinstance(loader, Sequential):
        assert torch.equal(ids[1:], targets[:-1]), "a change of rows skips or repeats nothing"


@pytest.mark.parametrize("loader", [Sequential(), Packed()], ids=["rows", "packed"])
@pytest.mark.parametrize("cut", [2, 3, 4, 6, 7, 11])
def test_a_run_resumed_at_any_stage_ends_bit_for_bit_the_same(tmp_path: Path, loader: Any, cut: int) -> None:
    session = tiny_session(growing(loader), tiny_dataset(tmp_path), tmp_path / "run")
    first, second = trainer(session), trainer(session)
    for _ in range(cut):
        first.advance()
    save_checkpoint(tmp_path / "checkpoint", first.checkpoint({}))
    second.resume(load_checkpoint(tmp_path / "checkpoint"))
    for one in (first, second):
        for _ in range(12 - cut):
            one.advance()
    assert (first.grown, first.tokens_seen) == (second.grown, second.tokens_seen)
    assert first.scales[cut:] == second.scales
    for name, weight in first.optimizer.parameters.items():
        assert torch.equal(weight, second.optimizer.parameters[name]), name

"""The contract of every slot of data and optimizer, over whatever is registered for it; and that every slot has one."""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from probes import registered
from torch import nn

from paramgolf.batch import BOS, Batch
from paramgolf.data.shards import ShardWriter
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Role
from paramgolf.registry import TECHNIQUES, Entry

CONTRACTS = (
    "model.*",  # test_model_contracts.py
    "data.loader",
    "optim.schedule",
    "optim.matrix.quintics",
    "optim.matrix.split",
    "optim.matrix.decay_*",
    "optim.on_*",
    "optim.average",
    "optim.look_ahead",
    "train.*_growth",  # tests/train/test_growth.py
    "quant.*",  # test_export_contracts.py
    "artifact.coder",  # test_export_contracts.py
    "evaluate.protocol",  # test_protocol_contracts.py; those that adapt: tests/evaluate/test_adaptation_contracts.py
    "evaluate.on_logits",  # tests/evaluate/test_reworks.py
)
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_every_technique_has_a_contract():
    """Whoever makes a new slot writes its contract here."""
    lawless = [name for name, entry in TECHNIQUES.items() if not any(fnmatchcase(entry.fills, c) for c in CONTRACTS)]
    assert not lawless


# data.loader


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Three shards of documents of 1 to 90 tokens, each token telling where it stands."""
    random = np.random.Generator(np.random.PCG64(5))
    ids = np.arange(7000) % 60_000 + 2
    ids[np.cumsum(random.integers(1, 90, size=120)) % 7000] = BOS
    ids[0] = BOS
    with ShardWriter(tmp_path_factory.mktemp("shards"), "count", "train", shard_tokens=2500) as writer:
        writer.write(ids)
    return writer.paths


def loader_of(entry: Entry, shards: tuple[Path, ...], *, world: int = 1, rank: int = 0, seed: int = 3) -> Any:
    return entry.config().build(shards, tokens=world * 192, seq_len=32, rank=rank, world=world, seed=seed)


@pytest.mark.parametrize("entry", registered("data.loader"))
@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 1)])
def test_loaders_give_whole_batches_of_what_follows(entry: Entry, shards: tuple[Path, ...], world: int, rank: int):
    loader = loader_of(entry, shards, world=world, rank=rank)
    for _ in range(30):
        batch: Batch = loader.next()
        assert batch.ids.shape == batch.targets.shape
        assert batch.ids.numel() == 192
        assert torch.equal(batch.ids[:, 1:], batch.targets[:, :-1]), "the target is the next token"
        if entry.config().packed:
            assert batch.cu_seqlens is not None
            edges = batch.cu_seqlens
            assert edges[0] == 0
            assert edges[-1] == batch.ids.shape[1]
            assert edges.diff().max() <= batch.max_seqlen
            starts = (batch.ids[0] == BOS).nonzero().flatten()
            assert torch.isin(starts, edges).all(), "a document starts inside a segment"
        else:
            assert batch.ids.shape[1] == 32


@pytest.mark.parametrize("entry", registered("data.loader"))
@given(cut=st.integers(0, 60), after=st.integers(1, 40))
@quick
def test_loaders_go_on_exactly_where_they_stood(entry: Entry, shards: tuple[Path, ...], cut: int, after: int):
    first = loader_of(entry, shards)
    for _ in range(cut):
        first.next()
    saved = json.loads(json.dumps(first.state()))
    other = loader_of(entry, shards)
    other.next()
    other.restore(saved)
    for _ in range(after):
        expected, got = first.next(), other.next()
        assert torch.equal(expected.ids, got.ids)
        assert torch.equal(expected.targets, got.targets)
        assert (expected.cu_seqlens is None) == (got.cu_seqlens is None)
        assert expected.cu_seqlens is None or torch.equal(expected.cu_seqlens, got.cu_seqlens)
    assert first.state() == other.state()


# optim.*


@pytest.mark.parametrize("entry", registered("optim.schedule") + registered("optim.matrix.decay_schedule"))
@given(fraction=st.floats(0, 1), step=st.integers(0, 10**6), left=st.floats(0, allow_infinity=True, allow_nan=False))
@quick
def test_schedules_scale_between_nothing_and_the_whole(entry: Entry, fraction: float, step: int, left: float):
    schedule = entry.config()
    scale = schedule(Progress(fraction, step, left))
    assert 0.0 <= scale <= 1.0
    assert scale == schedule(Progress(fraction, step, left))


@pytest.mark.parametrize("entry", registered("optim.matrix.quintics"))
@pytest.mark.parametrize("steps", [1, 4, 5, 7])
def test_quintics_come_one_for_each_iteration(entry: Entry, steps: int):
    quintics = entry.config()(steps)
    assert len(quintics) == steps
    assert all(len(quintic) == 3 for quintic in quintics)


@pytest.mark.parametrize("slot", ["optim.on_update", "optim.on_direction"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 16, 4), (2, 4, 16)])
def test_reworks_keep_shape_and_treat_matrices_alone(slot: str, shape: tuple[int, int, int]):
    """Not parametrized over the registry, which may hold none: a loop is never skipped with a warning."""
    for entry in (parameter.values[0] for parameter in registered(slot)):
        generator = torch.Generator().manual_seed(0)
        rework, update = entry.config(), torch.randn(shape, generator=generator)
        memory, alone = rework.memory(torch.zeros(shape)), rework.memory(torch.zeros(1, *shape[1:]))
        assert all(tensor.shape[0] == shape[0] for tensor in memory.values())
        for _ in range(3):
            whole, first = rework(update.clone(), memory), rework(update[:1].clone(), alone)
            assert whole.shape == shape
            assert whole.isfinite().all()
            torch.testing.assert_close(whole[:1], first)


def test_averages_come_and_go():
    for entry in (parameter.values[0] for parameter in registered("optim.average")):
        weight = nn.Parameter(torch.zeros(4))
        averager = entry.config().build({"weight": weight}, {"weight": Role.SCALE})
        for step in range(20):
            with torch.no_grad():
                weight.fill_(float(step))
            averager.update(Progress(step / 20, step, 20 - step), 1 - step / 20)
        saved = {name: tensor.clone() for name, tensor in averager.state().items()}
        with averager.apply():
            assert (weight >= 0).all()
            assert (weight <= 19).all()
        assert (weight == 19).all()
        for name, tensor in averager.state().items():
            assert torch.equal(tensor, saved[name])


@pytest.mark.parametrize("entry", registered("optim.matrix.split"))
@pytest.mark.parametrize("heads", [1, 2, 3, 8])
def test_splits_cut_rows_evenly(entry: Entry, heads: int):
    assert heads % entry.config()(heads) == 0


@pytest.mark.parametrize("entry", registered("optim.matrix.decay_share"))
def test_decay_is_shared_out_in_parts_of_a_whole(entry: Entry):
    direction, weights = torch.randn(2, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    share = entry.config()(direction, weights)
    assert share.shape == weights.shape
    assert ((share >= 0) & (share <= 1)).all()
    assert share.any()


@pytest.mark.parametrize("entry", registered("optim.look_ahead"))
def test_weights_that_stand_still_are_not_moved_ahead(entry: Entry):
    weight = nn.Parameter(torch.randn(4, generator=torch.Generator().manual_seed(0)))
    begun, looker = weight.detach().clone(), entry.config().build({"weight": weight})
    for step in range(20):
        looker.before(Progress(step / 20, step, 20 - step), 1.0)
        looker.after(Progress(step / 20, step, 20 - step))
    assert torch.equal(weight, begun)
    assert looker.state()

"""The contract of every slot outside the model, over whatever is registered for it."""

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import paramgolf.techniques  # noqa: F401  fills the registry
from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.batch import BOS, Batch
from paramgolf.config import fits
from paramgolf.data.shards import ShardWriter
from paramgolf.errors import ArtifactError
from paramgolf.evaluate.evaluation import evaluate
from paramgolf.evaluate.slots import Bench
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Part, Role, normal
from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.slots import QuantItem
from paramgolf.registry import TECHNIQUES, Entry
from paramgolf.stored import Stored
from paramgolf.techniques.quant import GPTQ, SDClip

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
    "quant.*",
    "artifact.coder",
    "evaluate.protocol",  # those that adapt: tests/evaluate/test_adaptation_contracts.py
    "evaluate.on_logits",  # tests/evaluate/test_reworks.py
)
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def registered(slot: str) -> list[Any]:
    """The parameters of a test over every technique of `slot`."""
    found = [entry for entry in TECHNIQUES.values() if fits(entry.fills, slot)]
    return [pytest.param(entry, id=entry.name) for entry in found]


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


# quant.*

NEAR = {"ternary": 0.7, "binary": 0.7}
"""Share of a weight's norm that may be lost where that is not a fifth: these are for weights trained to be so."""
SHAPES = [(), (1,), (7,), (0, 3), (1, 1), (5, 1), (1, 9), (24, 16), (16, 24), (3, 4, 6)]


def hessian_of(entry: Entry, columns: int) -> Tensor | None:
    if not entry.config().needs_hessian:
        return None
    inputs = torch.randn(columns + 8, columns, generator=torch.Generator().manual_seed(1))
    return inputs.mT @ inputs


@pytest.mark.parametrize("entry", registered("quant.attention"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1e-4, 0.05, 1.0, 300.0])
def test_quantizers_keep_what_they_were_given(entry: Entry, shape: tuple[int, ...], size: float):
    """Deterministic, near, on the CPU, and the artifact gives back the very bits."""
    model = Part()
    model.param("weight", *shape, role=Role.ATTENTION, init=normal(size))
    torch.manual_seed(0)
    model.reset()
    weight: Tensor = model.get_parameter("weight").detach()
    before = weight.clone()
    hessian = hessian_of(entry, shape[-1]) if len(shape) >= 2 else None
    stored, again = (entry.config()(weight, hessian) for _ in range(2))
    dense = stored.dense()
    assert stored.shape == shape == tuple(dense.shape)
    assert torch.equal(dense, again.dense())
    assert torch.equal(weight, before), "the weight itself was changed"
    lost = torch.linalg.vector_norm(dense - weight)
    near = NEAR.get(entry.name, 0.2)
    assert lost <= near * torch.linalg.vector_norm(weight) + 0.004 * weight.numel() ** 0.5
    with torch.no_grad():
        model.get_parameter("weight").add_(1.0)
    assert torch.equal(stored.dense(), dense), "what is stored follows later training"
    expected = expected_of(model)
    artifact = pack({"weight": stored}, expected, coder=None, digest="0" * 12)
    assert unpack(artifact, expected, digest="0" * 12)["weight"].dense().numpy().tobytes() == dense.numpy().tobytes()


# quant.*.clip, quant.allocate, quant.refine, quant.calibration


@pytest.mark.parametrize("entry", registered("quant.mlp.clip"))
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (5, 9)])
def test_clips_give_a_step_for_every_row(entry: Entry, shape: tuple[int, int]):
    clip, weight = entry.config(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if weight.numel():
        weight[-1] = 0.0
    for importance in (None, torch.rand(shape[1], generator=torch.Generator().manual_seed(1))):
        steps = clip(weight, importance, 31)
        assert steps.shape[0] >= 1
        assert steps.shape[1:] == shape[:1]
        assert steps.isfinite().all()
        assert (steps >= 0).all()
        assert (steps[:, :-1] > 0).all() or not weight.numel()
        assert isinstance(clip.by_row, bool)


def quant_items() -> list[QuantItem]:
    """Two matrices that share their inputs, a third, and a vector."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for name, rows, columns in (("a", 24, 16), ("b", 8, 16), ("c", 16, 24)):
        inputs = torch.randn(64, columns, generator=generator) * torch.logspace(-1, 1, columns)
        weight, rows_cost = torch.randn(rows, columns, generator=generator), torch.rand(rows, generator=generator)
        items.append(QuantItem(name, Role.MLP, weight, inputs.mT @ inputs, GPTQ(clip=SDClip()), rows_cost))
    return [*items, QuantItem("gain", Role.SCALE, torch.ones(5), None, PlainValues(bits=32))]


def kept_bytes(stored: Mapping[str, Stored]) -> int:
    return sum(
        array.numel() * array.element_size() for each in stored.values() for t in each.terms for array in t.arrays()
    )


def whole_model_outcomes(entry: Entry, budget: int | None) -> dict[str, Stored]:
    items, filler = quant_items(), entry.config()
    if entry.fills == "quant.allocate":
        return filler(items, budget, kept_bytes)
    return filler(items, {item.name: item.alone() for item in items}, budget, kept_bytes)


@pytest.mark.parametrize("slot", ["quant.allocate", "quant.refine"])
@pytest.mark.parametrize("budget", [None, 1200])
def test_whole_models_stay_whole(slot: str, budget: int | None):
    """Not parametrized over the registry, which may hold none."""
    for entry in (parameter.values[0] for parameter in registered(slot)):
        stored, again = (whole_model_outcomes(entry, budget) for _ in range(2))
        assert isinstance(entry.config().needs_hessian, bool)
        assert list(stored) == ["a", "b", "c", "gain"]
        for item in quant_items():
            dense = stored[item.name].dense()
            assert dense.shape == item.weight.shape
            assert torch.equal(dense, again[item.name].dense()), entry.name
            assert torch.linalg.vector_norm(dense - item.weight) < 0.6 * torch.linalg.vector_norm(item.weight)
        assert torch.equal(stored["gain"].dense(), torch.ones(5))


@pytest.mark.parametrize("entry", registered("quant.calibration"))
def test_calibrations_say_whether_they_read_training_text(entry: Entry):
    assert isinstance(entry.config().reads_training_text, bool)


# artifact.coder

STREAMS = st.one_of(
    st.binary(min_size=1, max_size=2000),
    st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=30), st.integers(1, 300)),
)


@pytest.mark.parametrize("entry", registered("artifact.coder"))
@given(data=STREAMS, off=st.integers(-3, 3).filter(bool))
@quick
def test_coders_give_back_every_byte_and_no_other(entry: Entry, data: bytes, off: int):
    coder = entry.config()
    code = coder.encode(data)
    assert code == entry.config().encode(data)
    assert coder.decode(code, len(data)) == data
    for damaged in (code + b"\0", code[:-1]):
        with pytest.raises(ArtifactError):
            coder.decode(damaged, len(data))
    if len(data) + off >= 1:
        with pytest.raises(ArtifactError):
            coder.decode(code, len(data) + off)


def test_coders_have_names_of_their_own():
    identities = [parameter.values[0].config.identity for parameter in registered("artifact.coder")]
    assert len(set(identities)) == len(identities)
    assert all(0 < identity < 256 for identity in identities)


# evaluate.protocol


def cost_of_history(batch: Batch) -> Tensor:
    """A causal stand-in for a model: a target costs its id, and a trifle for every token before it in the row."""
    return batch.targets.float() + batch.ids.cumsum(1).float() * 2.0**-12


def adapts(entry: Entry) -> bool:
    """Whether a protocol changes weights, for which it needs a model."""
    return getattr(entry.config, "adapts", False)


def with_sizes(entry: Entry, **sizes: int) -> Any:
    """The technique with those of `sizes` that it has a setting for."""
    return entry.config(**{name: value for name, value in sizes.items() if name in entry.config.__dataclass_fields__})


def bench_of(tokens: Tensor, forward: Callable[[Batch], Tensor], **sizes: int) -> Bench:
    return Bench(forward=forward, tokens=tokens, device=torch.device("cpu"), **sizes)


@pytest.mark.parametrize("entry", [each for each in registered("evaluate.protocol") if not adapts(each.values[0])])
@given(
    length=st.integers(2, 150),
    context=st.integers(1, 40),
    window=st.integers(0, 50),
    stride=st.integers(1, 60),
    batch_tokens=st.integers(1, 200),
    world=st.integers(1, 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=150)
def test_protocols_count_every_target_once(
    entry: Entry, length: int, context: int, window: int, stride: int, batch_tokens: int, world: int, seed: int
):
    """Whatever the sizes, and the same sums over any number of ranks."""
    tokens = torch.randint(1, 64, (length,), generator=torch.Generator().manual_seed(seed))
    target_bytes = torch.randint(0, 9, (length - 1,), generator=torch.Generator().manual_seed(seed))
    protocol = with_sizes(entry, stride=stride, length=window)
    marks = torch.zeros(length - 1, dtype=torch.int64)
    for rank in range(world):
        bench = bench_of(tokens, cost_of_history, context=context, batch_tokens=batch_tokens, rank=rank, world=world)
        for scored in protocol(bench):
            assert scored.nats.shape == scored.counted.shape == scored.positions.shape
            edges = scored.batch.cu_seqlens
            longest = scored.batch.ids.shape[1] if edges is None else int(edges.diff().max())
            assert longest <= (window or context)
            places = scored.positions[scored.counted]
            marks.index_add_(0, places, torch.ones_like(places))
            assert torch.equal(scored.batch.targets[scored.counted], tokens[places + 1])
            assert torch.equal(scored.batch.ids[scored.counted], tokens[places])
    assert torch.equal(marks, torch.ones_like(marks))
    alone = bench_of(tokens, cost_of_history, context=context, batch_tokens=batch_tokens)
    one = evaluate(protocol, alone, target_bytes).tally
    assert (one.tokens, one.bytes) == (length - 1, int(target_bytes.sum()))
    parts = [evaluated_part(protocol, alone._replace(rank=r, world=world), length - 1) for r in range(world)]
    totals = iter([torch.stack(part).sum(0) for part in zip(*parts, strict=True)])
    whole = evaluate(protocol, alone._replace(world=world), target_bytes, reduce=lambda mine: next(totals)).tally
    assert whole == one


def evaluated_part(protocol: Any, bench: Bench, targets: int) -> tuple[Tensor, Tensor]:
    """What one rank would put into the sum over ranks: nats and counts."""
    told: list[Tensor] = []

    def keep(total: Tensor) -> Tensor:
        told.append(total.clone())
        return torch.ones(targets, dtype=total.dtype)

    evaluate(protocol, bench, torch.zeros(targets, dtype=torch.int32), reduce=keep)
    return told[0], told[1]

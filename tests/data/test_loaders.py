import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.batch import BOS, Batch
from paramgolf.data.shards import ShardWriter, find_shards
from paramgolf.data.slots import LoaderMaker
from paramgolf.errors import DataError, UsageError
from paramgolf.registry import lookup
from paramgolf.segments import segment_offsets
from paramgolf.techniques.data.coprime import Coprime
from paramgolf.techniques.data.packed import Packed
from paramgolf.techniques.data.sequential import Sequential
from paramgolf.techniques.data.shuffled import Shuffled

SEQ_LEN = 16
TOKENS = 8 * SEQ_LEN

MAKERS: list[LoaderMaker] = [
    Sequential(),
    Coprime(ramp=6, least_shards=2, most_shards=4),
    Shuffled(),
    Packed(),
    Packed(ahead=0, shuffle_shards=True),
    Packed(block=SEQ_LEN, shuffle_shards=True),
]
ROW_MAKERS = MAKERS[:3]
each_maker = pytest.mark.parametrize("maker", MAKERS, ids=str)


def write_stream(folder: Path, lengths: list[int]) -> tuple[Path, ...]:
    """Shards of `lengths` tokens; ids count up, so each tells its place, and every 41st is BOS."""
    start = 0
    for index, length in enumerate(lengths):
        ids = 2 + np.arange(start, start + length)
        ids[np.arange(start, start + length) % 41 == 7] = BOS
        with ShardWriter(folder, "x", "train", first=index) as writer:
            writer.write(ids)
        start += length
    return find_shards(folder, "train")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Six shards of uneven lengths, 3,700 tokens."""
    return write_stream(tmp_path_factory.mktemp("stream"), [700, 450, 900, 333, 517, 800])


@pytest.fixture(scope="module")
def stream(shards: tuple[Path, ...]) -> np.ndarray:
    return np.concatenate([np.fromfile(path, "<u2", offset=1024) for path in shards])


def build(maker: LoaderMaker, shards: tuple[Path, ...], **other: Any) -> Any:
    return maker.build(shards, **{"tokens": TOKENS, "seq_len": SEQ_LEN, **other})


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches are equal in every field."""
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@each_maker
def test_batches_have_the_promised_shape_and_follow_the_text(maker, shards, stream) -> None:
    follows = set(pairwise(stream.tolist())) | {(int(stream[-1]), int(stream[0]))}
    for rank in range(2):
        loader = build(maker, shards, world=2, rank=rank)
        for _ in range(40):
            batch = loader.next()
            shape = (1, TOKENS // 2) if maker.packed else (TOKENS // 2 // SEQ_LEN, SEQ_LEN)
            assert batch.ids.shape == batch.targets.shape == shape
            assert batch.ids.dtype == batch.targets.dtype == torch.int32
            assert batch.ids.device.type == "cpu"
            assert set(zip(batch.ids.flatten().tolist(), batch.targets.flatten().tolist(), strict=True)) <= follows
            assert (batch.cu_seqlens is not None) == maker.packed


@each_maker
@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 45), after=st.integers(1, 8), rank=st.integers(0, 1), seed=st.integers(0, 3))
def test_a_restored_loader_continues_exactly(maker, shards, before, after, rank, seed) -> None:
    """45 batches are more than one epoch. The state of one rank restores the other."""
    first, other = (build(maker, shards, world=2, rank=r, seed=seed) for r in (rank, 1 - rank))
    for _ in range(before):
        first.next()
        other.next()
    state = json.loads(json.dumps(other.state()))
    assert state == json.loads(json.dumps(first.state()))
    restored = build(maker, shards, world=2, rank=rank, seed=seed)
    restored.next()  # what happened before must not matter
    restored.restore(state)
    rewound = build(maker, shards, world=2, rank=rank, seed=seed)
    for _ in range(after):
        expected = first.next()
        assert same(restored.next(), expected)
    rewound.restore(restored.state())
    assert same(rewound.next(), first.next())


@each_maker
def test_the_seed_decides_and_nothing_else(maker, shards) -> None:
    def rows(seed: int) -> list[Any]:
        loader = build(maker, shards, seed=seed)
        return [loader.next().ids.tolist() for _ in range(5)]

    assert rows(1) == rows(1)
    fixed = maker in (Sequential(), Packed())
    assert (rows(1) == rows(2)) == fixed


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("maker", [Sequential(), Coprime(ramp=6), Packed(), Packed(block=SEQ_LEN)], ids=str)
def test_all_ranks_together_are_the_one_rank(maker, world: int, shards) -> None:
    alone = build(maker, shards)
    ranks = [build(maker, shards, world=world, rank=rank) for rank in range(world)]
    for _ in range(60):
        whole, parts = alone.next(), [loader.next() for loader in ranks]
        for field in ("ids", "targets"):
            pieces = [getattr(part, field) for part in parts]
            if isinstance(maker, Coprime):  # rank r takes every world-th row
                union = torch.stack(pieces, dim=1).flatten(0, 1)
            else:
                union = torch.cat(pieces, dim=1 if maker.packed else 0)
            assert torch.equal(union, getattr(whole, field))


def test_sequential_is_the_stream_and_wraps_round(shards, stream) -> None:
    loader = build(Sequential(), shards)
    endless = np.concatenate([stream, stream, stream[:1]])
    for batch in range(2 * len(stream) // TOKENS):
        start = batch * TOKENS
        given = loader.next()
        assert given.ids.flatten().tolist() == endless[start : start + TOKENS].tolist()
        assert given.targets.flatten().tolist() == endless[start + 1 : start + TOKENS + 1].tolist()


def test_sequential_position_serves_other_batches(shards) -> None:
    loader = build(Sequential(), shards)
    loader.next()
    wider = build(Sequential(), shards, tokens=2 * TOKENS, seq_len=2 * SEQ_LEN, world=2, seed=5)
    wider.restore(loader.state())
    assert torch.equal(wider.next().ids.flatten(), loader.next().ids.flatten())


def test_shuffled_gives_each_window_once_an_epoch(shards, stream) -> None:
    loaders = [build(Shuffled(), shards, world=2, rank=rank) for rank in range(2)]
    seen: list[int] = []
    for loader in loaders:
        rows = torch.cat([loader.next().ids for _ in range(-(-loader.epoch_windows // loader.rows))])
        seen += rows[: loader.epoch_windows].flatten().tolist()
    text = [token for token in seen if token != BOS]
    assert len(text) == len(set(text))
    assert len(seen) > len(stream) - 6 * 2 * SEQ_LEN
    first, second = (loaders[0].shuffle(epoch) or loaders[0].order.copy() for epoch in (0, 1))
    assert sorted(first[:, 0]) == sorted(second[:, 0])
    assert (first != second).any()


def test_shuffled_ranks_draw_apart(tmp_path: Path) -> None:
    shards = write_stream(tmp_path, [1000, 1000])
    places = [build(Shuffled(), shards, world=2, rank=rank).next().ids[:, 0] - 1000 * rank for rank in range(2)]
    assert (places[0] != places[1]).any()


def test_coprime_uses_every_block_before_it_repeats(tmp_path: Path) -> None:
    shards = write_stream(tmp_path, [977])  # 60 blocks, so few strides are coprime
    for seed in range(8):
        loader = build(Coprime(), shards, tokens=SEQ_LEN, seed=seed)
        phase, blocks, *_ = loader.cursors[0].tolist()
        starts = [int(loader.draw_windows()[0, 1]) for _ in range(blocks)]
        assert sorted(starts) == [phase + SEQ_LEN * block for block in range(blocks)]
        assert len({b - a for a, b in pairwise(starts)}) <= 2  # one stride, which wraps round


def test_coprime_mixes_more_shards_as_it_goes(tmp_path: Path) -> None:
    shards = write_stream(tmp_path, [400] * 20)
    loader = build(Coprime(ramp=10, least_shards=3, most_shards=12), shards, tokens=32 * SEQ_LEN)
    assert len(set(loader.draw_windows()[:, 0].tolist())) == 3
    loader.batches = 100
    assert len(set(loader.draw_windows()[:, 0].tolist())) == 12
    first_round = loader.draw_windows()[:12, 0]
    assert len(set(first_round.tolist())) == 12  # round-robin: one of each before any comes twice


def test_coprime_order_does_not_depend_on_the_folder(shards, tmp_path: Path) -> None:
    """The published loader seeded itself with a hash of file paths."""
    copies = tuple(Path(shutil.copy(path, tmp_path)) for path in shards)
    assert torch.equal(build(Coprime(), shards).next().ids, build(Coprime(), copies).next().ids)


@settings(max_examples=200, deadline=None)
@given(length=st.integers(1, 300), longest=st.integers(1, 40), data=st.data())
def test_segments_start_at_documents_and_are_short(length: int, longest: int, data: st.DataObject) -> None:
    starts = sorted(data.draw(st.sets(st.integers(0, length - 1), max_size=20)))
    offsets = segment_offsets(np.array(starts, dtype=np.int64), length, longest).tolist()
    expected = []
    for place in range(length):
        if place == 0 or place in starts or place - expected[-1] == longest:
            expected.append(place)
    assert offsets[: len(expected)] == expected
    assert set(offsets[len(expected) :]) == {length}
    assert len(offsets) in (64, 128, 256, 512)
    assert len(offsets) <= max(64, 2 * len(expected))


def test_packed_rows_keep_documents_apart(shards, stream) -> None:
    loader = build(Packed(), shards, seq_len=24)
    first = int(np.argmax(stream == BOS))
    batch = loader.next()
    assert batch.ids[0].tolist() == stream[first : first + TOKENS].tolist()
    assert batch.max_seqlen == 24
    assert batch.cu_seqlens is not None
    cuts = batch.cu_seqlens.tolist()
    assert batch.cu_seqlens.dtype == torch.int32
    assert set(torch.nonzero(batch.ids[0] == BOS).flatten().tolist()) <= set(cuts)
    assert max(np.diff(cuts)) <= 24
    assert len(cuts) == 64
    assert cuts[-1] == TOKENS


def test_packed_drops_what_does_not_fill_a_span_and_goes_on(tmp_path: Path) -> None:
    shards = write_stream(tmp_path, [7 + TOKENS + 1 + 50, 100, 7 + TOKENS + 40])
    loader = build(Packed(ahead=0), shards)
    places = [loader.next() and loader.here for _ in range(3)]
    assert [(here.epoch, here.place) for here in places] == [(0, 2), (1, 0), (1, 2)]


def test_packed_shuffling_is_a_permutation(shards) -> None:
    plain, mixed = build(Packed(), shards), build(Packed(shuffle_shards=True, block=SEQ_LEN), shards, seed=3)

    def epoch(loader: Any) -> list[int]:
        seen: list[int] = []
        while loader.here.epoch == 0:
            seen += loader.next().ids.flatten().tolist()
        return seen

    in_order, drawn = epoch(plain), epoch(mixed)
    words = [token for token in drawn if token != BOS]
    assert len(words) == len(set(words))
    assert len(drawn) == len(in_order)
    assert drawn != in_order


def test_packed_blocks_do_not_see_one_another(shards) -> None:
    batch = build(Packed(block=SEQ_LEN), shards, seq_len=1000).next()
    assert batch.cu_seqlens is not None
    assert set(range(0, TOKENS, SEQ_LEN)) < set(batch.cu_seqlens.tolist())


def test_packed_row_length_may_change_while_training(shards) -> None:
    """Progressive context (PR #2014) changes only where documents are cut."""
    short, long = build(Packed(), shards, seq_len=8), build(Packed(), shards, seq_len=32)
    short.next()
    long.restore(short.state())
    one, other = short.next(), long.next()
    assert torch.equal(one.ids, other.ids)
    assert one.max_seqlen != other.max_seqlen


def test_packed_needs_documents(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "x", "train") as writer:
        writer.write(np.full(1000, 9))
    with pytest.raises(DataError, match="hold no BOS"):
        build(Packed(), writer.paths)


@each_maker
def test_data_smaller_than_a_batch_is_refused(maker, tmp_path: Path) -> None:
    shards = write_stream(tmp_path, [TOKENS])
    with pytest.raises(DataError, match="smaller than one batch") as caught:
        build(maker, shards)
    # Packing counts from the first BOS, token 7, and in whole blocks.
    assert re.search(r"\d+ tokens are needed, .* (hold|gives) (128|121|113)\b", caught.value.evidence)


@each_maker
def test_batches_that_cannot_be_shared_are_refused(maker, shards) -> None:
    with pytest.raises(UsageError, match="cannot be shared by 3 ranks"):
        build(maker, shards, world=3)


def test_shuffled_needs_a_shard_for_each_rank(shards) -> None:
    with pytest.raises(DataError, match="6 shards, 8 ranks"):
        build(Shuffled(), shards, world=8)


@each_maker
def test_a_state_of_other_data_is_refused(maker, shards, tmp_path: Path) -> None:
    other = write_stream(tmp_path, [700, 450, 900, 333, 517, 801])
    with pytest.raises(DataError, match="another data"):
        build(maker, other).restore(build(maker, shards).state())


@pytest.mark.parametrize("maker", [Coprime(), Shuffled()], ids=str)
@pytest.mark.parametrize("setting", [{"seed": 1}, {"world": 2}, {"seq_len": SEQ_LEN // 2}], ids=str)
def test_a_state_that_would_give_another_stream_is_refused(maker, setting: dict[str, int], shards) -> None:
    with pytest.raises(DataError, match=f"another {next(iter(setting))}"):
        build(maker, shards, **setting).restore(build(maker, shards).state())


@each_maker
def test_a_damaged_state_is_refused(maker, shards) -> None:
    loader = build(maker, shards)
    for key in loader.state():
        if key in ("position", "given", "epoch", "done", "batches", "cursors", "random"):
            with pytest.raises(DataError, match="damaged"):
                loader.restore({**loader.state(), key: "no number"})


@pytest.mark.parametrize("name", ["sequential", "coprime", "shuffled", "packed"])
def test_loaders_are_registered_with_their_story(name: str) -> None:
    entry = lookup(name)
    assert entry.fills == "data.loader"
    assert f"(`{name}`)" in entry.glossary

"""The coder of weights: exact for any stream, near the entropy of what it can know, the same however many threads."""

import zlib
from decimal import Decimal

import numpy as np
import pytest
import torch
from golden_set import DIGEST
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.artifact.arrangement import Expected
from paramgolf.artifact.bits import untaught_model
from paramgolf.artifact.code_model import CODE_MODEL, LOG_PARTS, plane_tables
from paramgolf.artifact.container import pack, unpack
from paramgolf.artifact.forecast import inverted_factor
from paramgolf.artifact.slots import StreamPart
from paramgolf.artifact.symbols import BLOCK_CODES, segments_of
from paramgolf.errors import ArtifactError
from paramgolf.parts import Role
from paramgolf.stepped import Stepped
from paramgolf.stored import Grid, Piece, Stored, StreamKind
from paramgolf.techniques.artifact import MixingCoder
from paramgolf.trellis import Trellis, next_states


def part_of(codes, *known, identity=Grid.identity, settings=b"\x06"):
    return StreamPart(Piece(StreamKind.CODES, codes.shape), Role.MLP, identity, settings, known)


def coded_bits(codes, *known, **term):
    """Bits that a code takes, after a look at the way back."""
    part, data = part_of(codes, *known, **term), codes.astype(np.int8).tobytes()
    blob = MixingCoder().encode(data, [part])
    assert MixingCoder().decode(blob, len(data), [part]) == data
    return 8 * len(blob) / codes.size


def entropy(chances):
    """Bits a code, given (values, ...) chances."""
    return float(-(chances * np.log2(np.maximum(chances, 1e-300))).sum(0).mean())


def drawn(scale, shape, limit=31, seed=0):
    """Codes of independent Gaussians, and their entropy given `scale`."""
    generator = np.random.default_rng(seed)
    codes = np.rint(generator.standard_normal(shape) * scale).clip(-limit, limit)
    edges = torch.arange(-limit, limit + 2).view(-1, 1, 1) - 0.5
    below = torch.special.ndtr(edges / torch.from_numpy(np.broadcast_to(scale, shape).copy())).numpy()
    below[0], below[-1] = 0, 1
    return codes.astype(np.int8), entropy(np.diff(below, axis=0))


ROWS = st.integers(0, 9)
TERM = st.sampled_from(["grid", "wide", "stepped", "trellis4", "trellis8", "rows"])


def stored_of(term, rows, columns, generator):
    """A weight of random codes, some of them as large as can be."""
    codes = torch.from_numpy(generator.integers(-127, 128, (rows, columns)) >> generator.integers(0, 7)).to(torch.int8)
    steps = torch.from_numpy(generator.integers(-20, 20, rows)).to(torch.int8)
    if term in ("grid", "wide"):
        scale = torch.rand(rows, generator=torch.Generator().manual_seed(0)).half()
        wide = codes.to(torch.int16) * 257 if term == "wide" else codes
        return Stored((rows, columns), (Grid(codes=wide, scale=scale, bits=16 if term == "wide" else 8),))
    across = None if term == "rows" else torch.arange(columns, dtype=torch.int8)
    if term.startswith("trellis"):
        found = Trellis(codes=codes, row_steps=steps, column_steps=across, base=0.5, states=int(term[-1]))
    else:
        found = Stepped(codes=codes, row_steps=steps, column_steps=across, base=0.5)
    return Stored((rows, columns), (found,))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(TERM, ROWS, ROWS), max_size=5), st.integers(0, 1 << 30))
def test_any_codes_come_back(tensors, seed):
    generator = np.random.default_rng(seed)
    stored = {f"t{n}": stored_of(term, *shape, generator) for n, (term, *shape) in enumerate(tensors)}
    expected = {name: Expected(weight.shape, Role.MLP) for name, weight in stored.items()}
    data = pack(stored, expected, coder=MixingCoder(), digest=DIGEST)
    assert pack(unpack(data, expected), expected, coder=MixingCoder(), digest=DIGEST) == data
    for name, weight in unpack(data, expected).items():
        assert torch.equal(weight.dense(), stored[name].dense())


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from([kind for kind in StreamKind if kind is not StreamKind.CODES]),
    st.lists(st.binary(max_size=60), min_size=1, max_size=4),
)
def test_any_numbers_come_back(kind, pieces):
    sizes = [len(piece) // 4 * 4 for piece in pieces]
    data = b"".join(piece[:size] for piece, size in zip(pieces, sizes, strict=True))
    width = {StreamKind.FLOATS: 4, StreamKind.STEPS: 1, StreamKind.PACKED: 1}.get(kind, 2)
    parts = [StreamPart(Piece(kind, (size // width,)), Role.SCALE, 1, b"") for size in sizes]
    blob = MixingCoder().encode(data, parts)
    assert not data or MixingCoder().decode(blob, len(data), parts) == data


@pytest.mark.parametrize("limit", [31, 63])
def test_near_the_entropy_of_codes_without_structure(limit):
    codes, least = drawn(limit / 11.5, (256, 512), limit)
    assert coded_bits(codes) < least * 1.003


def test_columns_of_different_scale_are_noticed():
    scale = 2.7 * np.exp(0.5 * np.random.default_rng(1).standard_normal(128))
    codes, least = drawn(scale, (1024, 128))
    assert coded_bits(codes) < least * 1.02
    assert entropy(np.bincount(codes.ravel() + 31)[:, None] / codes.size) > least * 1.04


def test_steps_tell_what_rows_to_expect():
    steps = np.random.default_rng(2).integers(-16, 16, 3000)
    codes, least = drawn(4 * 2.0 ** (-steps / 8)[:, None], (3000, 24), 127)
    known = torch.from_numpy(steps).to(torch.int8)
    with_steps = coded_bits(codes, known, identity=Stepped.identity)
    assert with_steps < least * 1.02
    assert with_steps < coded_bits(codes) - 0.05


def test_the_grid_of_a_trellis_is_context():
    generator, after = np.random.default_rng(3), next_states(8)
    codes, state = np.zeros((2000, 64), np.int8), np.zeros(64, np.int64)
    for row in codes:
        # Zero is twice as wide on one grid as on the other.
        row[:] = np.rint(generator.standard_normal(64) * np.where(state & 1, 3.0, 0.8))
        state = after[state, row & 1]
    trellis = Trellis(codes=torch.zeros(1, 1).char(), row_steps=None, column_steps=None, base=1.0, states=8)
    assert coded_bits(codes, identity=Trellis.identity, settings=trellis.settings) < coded_bits(codes) - 0.2


def test_bytes_do_not_move():
    """What was written once is read for ever, and on every machine."""
    codes = (np.arange(64 * 48) * 7919 % 31 - 15).reshape(64, 48) // (1 + np.arange(48) % 5)
    blob = MixingCoder().encode(codes.astype(np.int8).tobytes(), [part_of(codes)])
    assert (len(blob), zlib.crc32(blob)) == (588, 3583025606)


def test_a_mean_of_columns_is_noticed():
    generator = np.random.default_rng(4)
    codes = np.rint(generator.standard_normal((1024, 128)) * 3 + 3 * generator.standard_normal(128))
    _, least = drawn(3.0, (1024, 128))
    assert coded_bits(codes.clip(-31, 31).astype(np.int8)) < least * 1.03


def test_columns_that_hang_together_forecast_each_other():
    generator = np.random.default_rng(5)
    common = generator.standard_normal((1600, 2)) @ generator.standard_normal((2, 48)) * 2
    codes = np.rint(generator.standard_normal((1600, 48)) * 2 + common + 1)
    apart = np.rint(generator.standard_normal((1600, 48)) * codes.std(0) + codes.mean(0))
    both = [coded_bits(which.clip(-31, 31).astype(np.int8)) for which in (codes, apart)]
    assert both[0] < both[1] - 0.2


def test_a_forecast_is_rounded_as_python_rounds():
    """No fused product and sum, no other order: the same bits as one operation after another."""
    matrix = np.random.default_rng(6).standard_normal((24, 24))
    matrix = matrix @ matrix.T + np.eye(24)
    assert inverted_factor(matrix.copy()).tobytes() == inverted_factor.py_func(matrix.copy()).tobytes()


def test_bytes_do_not_depend_on_threads(monkeypatch):
    for name in ("LEAD_CODES", "SEGMENT_CODES", "BLOCK_CODES"):
        monkeypatch.setattr(f"paramgolf.artifact.symbols.{name}", 4000)
    codes, _ = drawn(2.7, (300, 70))
    assert len(segments_of([codes.shape])) == 4
    part, data = part_of(codes), codes.tobytes()
    blobs = {MixingCoder(threads=threads).encode(data, [part]) for threads in (1, 3)}
    assert len(blobs) == 1
    assert MixingCoder(threads=2).decode(blobs.pop(), len(data), [part]) == data


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=6))
def test_segments_cover_every_row_once(shapes):
    groups = segments_of(shapes)
    rows = [[0] * rows for rows, _ in shapes]
    for block in (block for group in groups for block in group):
        assert (block.last - block.first) * shapes[block.part][1] <= BLOCK_CODES + shapes[block.part][1]
        for row in range(block.first, block.last):
            rows[block.part][row] += 1
    assert all(count == 1 for part, (_, columns) in zip(rows, shapes, strict=True) if columns for count in part)
    assert groups == segments_of(shapes)


def test_what_is_damaged_inside_a_segment_is_refused():
    codes, _ = drawn(2.7, (64, 64))
    part, data = part_of(codes), codes.tobytes()
    blob = MixingCoder().encode(data, [part])
    # The first bytes say what to expect, of which some spellings lead to the same codes.
    for place in range(8, len(blob), 31):
        changed = blob[:place] + bytes([blob[place] ^ 64]) + blob[place + 1 :]
        with pytest.raises(ArtifactError, match="compressed stream"):
            MixingCoder().decode(changed, len(data), [part])


def test_no_library_can_round_a_table_otherwise():
    """Every entry is further from the next integer or half than any floating-point library errs."""
    numbers = [65536 / (1 + (Decimal(place) / 256).exp()) for place in range(-2047, 2049)]
    assert min(abs(number - round(number)) for number in numbers if abs(number - 32768) > 1e-20) > Decimal("1e-7")
    logs = LOG_PARTS * np.log2(np.arange(3, 1 << 15))
    assert np.abs(logs - np.floor(logs) - 0.5).min() > 1e-9
    powers = 65536 * 2 ** (np.arange(-256, 257) / LOG_PARTS)
    inexact = powers[np.abs(np.arange(-256, 257)) % LOG_PARTS != 0]
    assert np.abs(inexact - np.rint(inexact)).min() > 1e-7
    model, tables = untaught_model(CODE_MODEL), plane_tables()
    assert model.squash[2048] == 32768
    assert (np.diff(model.squash) >= 0).all()
    assert (np.diff(tables.logarithms) >= 0).all()
    assert tables.powers[256] == 65536

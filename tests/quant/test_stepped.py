from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.stepped import EIGHTHS, Stepped, nearest_steps, step_values
from paramgolf.stored import StreamKind
from paramgolf.terms import TERMS
from paramgolf.trellis import PARITY_POLYNOMIALS, Trellis, next_states, odd_grid, state_entries


def stepped_of(seed: int, rows: int, columns: int, *, has_rows: bool, has_columns: bool, states: int = 1) -> Stepped:
    random = np.random.default_rng(seed)
    values = {
        "codes": torch.from_numpy(random.integers(-127, 128, (rows, columns)).astype(np.int8)),
        "row_steps": torch.from_numpy(random.integers(-128, 128, rows).astype(np.int8)) if has_rows else None,
        "column_steps": torch.from_numpy(random.integers(-128, 128, columns).astype(np.int8)) if has_columns else None,
        "base": float(np.float32(2.0 ** random.uniform(-39, 39))),
        "shrink": int(random.integers(0, 64)),
    }
    return Trellis(**values, states=states) if states > 1 else Stepped(**values)


def integers_by_hand(term: Stepped) -> np.ndarray:
    """A walk down every column, one code after another."""
    codes = term.codes.numpy().astype(int)
    if not isinstance(term, Trellis):
        return codes
    after, points = next_states(term.states), np.zeros_like(codes)
    for column in range(codes.shape[1]):
        state = 0
        for row in range(codes.shape[0]):
            code = codes[row, column]
            points[row, column] = 2 * code - (np.sign(code) if state % 2 else 0)
            state = after[state, code % 2]
    return points


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 9),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, *PARITY_POLYNOMIALS]),
)
def test_terms_are_decoded_as_defined_and_come_back(seed, rows, columns, has_rows, has_columns, states):
    term = stepped_of(seed, rows, columns, has_rows=has_rows, has_columns=has_columns, states=states)
    points = integers_by_hand(term).astype(np.float32)
    expected = points - np.sign(points) * np.float32(term.shrink / 64)
    base = np.full((rows, 1), np.float32(term.base))
    powers = [np.float32(EIGHTHS[n % 8]) * np.float32(2.0 ** (n // 8 - 23)) for n in range(-128, 128)]
    if term.row_steps is not None:
        base = base * np.array([powers[n + 128] for n in term.row_steps.tolist()], np.float32)[:, None]
    expected = expected * base
    if term.column_steps is not None:
        expected = expected * np.array([powers[n + 128] for n in term.column_steps.tolist()], np.float32)
    assert term.dense().numpy().tobytes() == expected.tobytes()
    kind = TERMS[term.identity]
    assert kind is type(term)
    layout = kind.layout(term.settings, rows, columns)
    assert [piece.shape for piece in layout] == [tuple(array.shape) for array in term.arrays()]
    assert [piece.kind for piece in layout[1:]] == [StreamKind.STEPS] * (has_rows + has_columns)
    again = kind.rebuild(term.settings, term.arrays())
    assert again.settings == term.settings
    assert torch.equal(again.dense(), term.dense())


def test_eighths_of_an_octave_are_the_nearest_of_their_kind():
    with localcontext(prec=40):
        assert [int((Decimal(2) ** (Decimal(n) / 8) * 2**23).to_integral_value()) for n in range(8)] == list(EIGHTHS)


def test_steps_are_the_nearest_on_the_scale_of_logarithms():
    steps = torch.arange(-127, 128).to(torch.int8)
    values = step_values(steps)
    assert values[127] == 1.0
    assert torch.equal(values[:-8] * 2, values[8:]), "eight steps are an octave, exactly"
    assert torch.equal(nearest_steps(values * 1.04), steps)
    assert torch.equal(nearest_steps(values[1:] * 0.96), steps[1:])
    assert nearest_steps(torch.tensor([1e-30, 1e30])).tolist() == [-127, 127]


@pytest.mark.parametrize("kind", [Stepped, Trellis])
@pytest.mark.parametrize(
    "settings",
    [
        bytes(6),
        b"\x00\x00\x00\x80\x3f\x40",
        b"\x04\x00\x00\x80\x3f\x00",
        b"\x28\x00\x00\x80\x3f\x00",
        b"\x08\x00\x00\xc0\x7f\x00",
        b"\x08\x00\x00\x80\xbf\x00",
        b"\x00\x00\x00\x80\x7f\x00",
    ],
    ids=["no base", "shrinks a whole code", "2 states", "1024 states", "base NaN", "base negative", "base infinite"],
)
def test_settings_that_no_term_has_are_refused(kind, settings):
    with pytest.raises(ValueError, match="settings"):
        kind.layout(settings, 2, 3)


def test_a_trellis_is_not_read_as_steps_nor_steps_as_a_trellis():
    stepped = stepped_of(0, 2, 3, has_rows=True, has_columns=True)
    trellis = stepped_of(0, 2, 3, has_rows=True, has_columns=True, states=8)
    with pytest.raises(ValueError, match="settings"):
        Stepped.layout(trellis.settings, 2, 3)
    with pytest.raises(ValueError, match="settings"):
        Trellis.layout(stepped.settings, 2, 3)


@pytest.mark.parametrize("states", PARITY_POLYNOMIALS)
def test_two_ways_lead_into_every_state_and_two_out(states):
    after, (source, branch) = next_states(states), state_entries(states)
    assert (np.bincount(after.ravel(), minlength=states) == 2).all()
    assert (after[:, 0] != after[:, 1]).all()
    for state in range(states):
        for way in range(2):
            assert after[source[state, way], branch[state, way] % 2] == state
            assert branch[state, way] // 2 == source[state, way] % 2


def test_eight_states_are_ungerboecks():
    """By his parity check, h0 = 13 and h1 = 04 octal: z0 sums z0 of one and three codes before and z1 of two before."""
    codes = torch.from_numpy(np.random.default_rng(0).integers(-9, 10, (60, 5)).astype(np.int8))
    odd, parity = odd_grid(codes, 8).numpy(), codes.numpy() & 1
    for row in range(3, 60):
        assert np.array_equal(odd[row], odd[row - 1] ^ odd[row - 3] ^ (parity[row - 2] == 1))

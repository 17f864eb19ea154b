"""Terms of packed codes: what is written is what was meant, whatever the shape, and damage is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.artifact.container import Expected, pack, unpack
from paramgolf.errors import ArtifactError
from paramgolf.parts import Role
from paramgolf.stored import PackedCodes, Signs, Stored, StreamKind, Trits


def random_term(kind: type[PackedCodes], rows: int, columns: int, group: int, seed: int) -> PackedCodes:
    random = np.random.default_rng(seed)
    codes = random.choice(np.array(kind.values, dtype=np.int8), (rows, columns))
    scale = random.uniform(0, 9, (rows, -(-columns // group))).astype(np.float16)
    return kind(codes=torch.from_numpy(codes), scale=torch.from_numpy(scale), group=group)


terms = st.builds(
    random_term,
    st.sampled_from([Trits, Signs]),
    st.integers(0, 7),
    st.integers(0, 300),
    st.integers(1, 15).map(lambda power: 2**power),
    st.integers(0, 2**32 - 1),
)


@given(terms)
def test_a_code_counts_the_scale_of_its_group(term: PackedCodes):
    dense = term.dense()
    for row, column in np.ndindex(*term.codes.shape):
        if (row + column) % 37 == 0:
            assert dense[row, column] == float(term.codes[row, column]) * float(term.scale[row, column // term.group])


@given(terms)
def test_packed_codes_come_back_from_an_artifact(term: PackedCodes):
    shape = tuple(term.codes.shape)
    expected = {"weight": Expected(shape, Role.MLP)}
    artifact = pack({"weight": Stored(shape, (term,))}, expected, coder=None, digest="0" * 12)
    back = unpack(artifact, expected)["weight"]
    assert type(back.terms[0]) is type(term)
    assert back.dense().numpy().tobytes() == term.dense().numpy().tobytes()


@given(terms)
def test_layout_is_what_the_arrays_are(term: PackedCodes):
    pieces = term.layout(term.settings, *term.codes.shape)
    assert [piece.shape for piece in pieces] == [tuple(array.shape) for array in term.arrays()]
    assert pieces[0].kind is StreamKind.PACKED
    assert pieces[0].size == -(-term.codes.numel() // (5 if type(term) is Trits else 8))


def test_digits_stand_from_the_lowest():
    trits = Trits(codes=torch.tensor([[1, 0, -1, 0, 1, 1]]).to(torch.int8), scale=torch.ones(1, 1).half(), group=8)
    assert trits.arrays()[0].tolist() == [2 + 3 * 1 + 9 * 0 + 27 * 1 + 81 * 2, 2]
    signs = Signs(codes=torch.tensor([[1, -1, 1, -1, -1, -1, -1, 1, 1]]).to(torch.int8), scale=trits.scale, group=16)
    assert signs.arrays()[0].tolist() == [0b10000101, 1]


def test_a_byte_that_is_no_five_trits_is_refused():
    with pytest.raises(ArtifactError, match="does not exist"):
        Trits.rebuild(bytes([3, 0]), (torch.tensor([243], dtype=torch.uint8), torch.ones(1, 1).half()))
    largest = Trits.rebuild(bytes([3, 0]), (torch.tensor([242], dtype=torch.uint8), torch.ones(1, 1).half()))
    assert largest.codes.tolist() == [[1, 1, 1, 1, 1]]


@pytest.mark.parametrize("settings", [b"", b"\x00\x01", b"\x10\x01", b"\x07\x00", b"\x07", b"\x07\x01\x00"])
def test_settings_of_another_matrix_are_refused(settings: bytes):
    assert Trits.layout(b"\x07\x01", 3, 3)[0].shape == (2,)
    with pytest.raises(ValueError, match="settings"):
        Trits.layout(settings, 3, 3)

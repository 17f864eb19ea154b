"""The container that a script carries makes the package's bytes and reads them."""

import pytest
import torch

from paramgolf.artifact.arrangement import Expected
from paramgolf.artifact.container import pack, unpack
from paramgolf.bundle import stand_in_artifact
from paramgolf.bundle.stand_in_artifact import lean_number, lean_pack, lean_unpack, lean_varint
from paramgolf.parts import Role
from paramgolf.stepped import Stepped
from paramgolf.stored import Grid, Plain, Stored
from paramgolf.techniques.artifact import BrotliCoder, MixingCoder, ZlibCoder

DIGEST = "0123456789ab"


@pytest.fixture
def weights() -> tuple[dict[str, Stored], dict[str, Expected]]:
    """Terms whose arrays go to streams in another order than they have in the term, alone and summed."""
    codes = (torch.arange(96) % 17 - 8).reshape(4, 24).to(torch.int8)
    scale = torch.tensor([0.5, 0.25, 2.0, 1.0]).half()
    grid = Grid(codes=codes, scale=scale, bits=6)
    steps = torch.arange(24).to(torch.int8)
    stepped = Stepped(codes=codes, row_steps=steps[:4], column_steps=steps, base=0.5)
    stored = {
        "mix": Stored((3,), (Plain(values=torch.tensor([[1.5, -0.1, 3e30]])),)),
        "up": Stored((4, 24), (grid,)),
        "query": Stored((4, 24), (Grid(codes=codes.short() * 1000, scale=scale, bits=14),)),
        "embed": Stored((4, 24), (grid, Plain(values=(codes / 64).half()))),
        "key": Stored((4, 24), (stepped,)),
        "down": Stored((2, 2, 24), (grid,)),
        "zeros": Stored((9,), ()),
    }
    roles = (Role.SCALE, Role.MLP, Role.ATTENTION, Role.EMBED, Role.ATTENTION, Role.MLP, Role.GATE)
    return stored, {name: Expected(stored[name].shape, role) for name, role in zip(stored, roles, strict=True)}


@pytest.mark.parametrize("coder", [ZlibCoder(), BrotliCoder(), MixingCoder()])
def test_a_script_s_container_is_the_package_s(weights, coder, monkeypatch):
    monkeypatch.setattr(stand_in_artifact, "SCRIPT_CODER", coder)  # the bundler writes it there
    stored, expected = weights
    artifact = pack(stored, expected, coder=coder, digest=DIGEST)
    assert lean_pack(stored, expected, coder=coder, digest=DIGEST) == artifact
    read, known = lean_unpack(artifact, expected, digest=DIGEST), unpack(artifact, expected, digest=DIGEST)
    assert list(read) == list(known)
    for name, weight in known.items():
        assert read[name].shape == weight.shape
        for one, other in zip(read[name].terms, weight.terms, strict=True):
            assert (type(one), one.settings) == (type(other), other.settings)
            assert all(map(torch.equal, one.arrays(), other.arrays()))
        assert torch.equal(read[name].dense(), weight.dense())


@pytest.mark.parametrize("number", [0, 127, 128, 16_383, 16_384, 16_000_000])
def test_numbers_come_back(number: int):
    assert lean_varint(iter(lean_number(number))) == number

import pytest
import torch
from golden_set import DIGEST, golden_stored
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.artifact.arrangement import Expected, canonical_order
from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.artifact.header import KIND_IDS, ROLE_IDS, STREAM_ORDER, read_artifact_header
from paramgolf.errors import ArtifactError
from paramgolf.parts import Part, Role, normal
from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.plan import QuantConfig, quantize, restore
from paramgolf.stored import StreamKind
from paramgolf.techniques.artifact import BrotliCoder, LzmaCoder, ZlibCoder, ZstdCoder
from paramgolf.techniques.quant import Int8Rows
from paramgolf.terms import TERMS

SHAPES = st.lists(st.integers(0, 6), max_size=3).map(tuple)
VALUES = st.sampled_from(["normal", "constant", "huge", "tiny", "zeros"])
QUANTIZERS = st.sampled_from(
    [PlainValues(), PlainValues(bits=32), Int8Rows(), Int8Rows(keep=0), Int8Rows(keep=0, floor=0.0, quantile=0.9)]
)
CODERS = st.sampled_from([None, ZlibCoder(), LzmaCoder(), BrotliCoder(quality=5), ZstdCoder(level=3)])


def tensor_of(shape, values):
    """A tensor of `shape` that all numbers of ours can hold, some at the very end of their range."""
    made = {
        "normal": torch.randn(shape),
        "constant": torch.full(shape, -0.3),
        "huge": torch.full(shape, 65_504.0),
        "tiny": torch.full(shape, 1e-30),
        "zeros": torch.zeros(shape),
    }
    return made[values]


class Blocks(Part):
    """The parameters of the nine-layer baseline by shape, in small."""

    def __init__(self, layers=9, dim=8):
        super().__init__()
        self.param("embed", 64, dim, role=Role.EMBED, init=normal(0.02))
        for layer in range(layers):
            for name in ("query", "key", "value", "out"):
                self.param(f"{name}{layer}", dim, dim, role=Role.ATTENTION, init=normal(0.02))
            self.param(f"gain{layer}", 4, role=Role.SCALE, init=normal(1.0))
            self.param(f"up{layer}", 2 * dim, dim, role=Role.MLP, init=normal(0.02))
            self.param(f"down{layer}", dim, 2 * dim, role=Role.MLP, init=normal(0.02))
            self.param(f"mix{layer}", 2, dim, role=Role.SCALE, init=normal(1.0))
        self.reset()


INT8 = Int8Rows(keep=0)
BASELINE = QuantConfig(attention=INT8, mlp=INT8, embed=INT8)


@settings(deadline=None)
@given(
    st.lists(st.tuples(SHAPES, st.sampled_from(Role), VALUES, QUANTIZERS), max_size=8),
    CODERS,
)
def test_what_is_packed_is_unpacked_bit_for_bit(tensors, coder):
    stored, expected = {}, {}
    for number, (shape, role, values, quantizer) in enumerate(tensors):
        stored[f"t{number}"] = quantizer(tensor_of(shape, values), None)
        expected[f"t{number}"] = Expected(shape, role)
    data = pack(stored, expected, coder=coder, digest=DIGEST)
    assert pack(stored, expected, coder=coder, digest=DIGEST) == data
    read = unpack(data, expected, digest=DIGEST)
    assert list(read) == list(stored)
    for name, weight in stored.items():
        assert read[name].shape == weight.shape
        assert read[name].dense().numpy().tobytes() == weight.dense().numpy().tobytes()
        assert pack(read, expected, coder=coder, digest=DIGEST) == data


def test_a_model_survives_the_round_trip():
    model, fresh = Blocks(), Blocks()
    stored = quantize(model, BASELINE)
    restore(fresh, unpack(pack(stored, expected_of(model), coder=ZlibCoder(), digest=DIGEST), expected_of(fresh)))
    for name, parameter in fresh.named_parameters():
        assert torch.equal(parameter, stored[name].dense()), name


def test_bytes_do_not_depend_on_the_order_of_the_mapping():
    stored, expected = golden_stored()
    backwards = dict(reversed(stored.items()))
    assert pack(backwards, expected, coder=None, digest=DIGEST) == pack(stored, expected, coder=None, digest=DIGEST)


def test_overhead_of_the_baseline():
    model = Blocks()
    data = pack(quantize(model, BASELINE), expected_of(model), coder=None, digest=DIGEST)
    _, start = read_artifact_header(data)
    # Lengths of a full-size stream take two bytes more, each of two, in each of five streams.
    assert start + 20 < 300
    assert len(data) == start + sum(
        weight.nbytes
        for stored in quantize(model, BASELINE).values()
        for term in stored.terms
        for weight in term.arrays()
    )


def test_codes_of_a_role_stand_together_and_names_nowhere():
    model = Blocks()
    data = pack(quantize(model, BASELINE), expected_of(model), coder=None, digest=DIGEST)
    header, _ = read_artifact_header(data)
    labels = [str(entry.label) for entry in header.streams]
    assert labels == ["scale floats", "all scales", "embed codes", "attention codes", "mlp codes"]
    assert not any(name.encode() in data for name in expected_of(model))


def test_every_kind_and_role_has_its_byte():
    assert set(KIND_IDS) == set(STREAM_ORDER) == set(StreamKind)
    assert len(KIND_IDS) == len(STREAM_ORDER) == len(StreamKind)
    assert set(ROLE_IDS) == {None, *Role}
    assert len(set(ROLE_IDS)) == len(ROLE_IDS)
    assert all(term.identity == identity for identity, term in TERMS.items())


def test_canonical_order_keeps_declaration_within_a_role():
    _, expected = golden_stored()
    assert canonical_order(expected) == ["embed", "query", "up", "down", "empty", "zeros", "mix", "lambda"]


def test_incompressible_streams_are_left_as_they_are():
    expected = {"w": Expected((4, 64), Role.SCALE)}
    stored = {"w": PlainValues(bits=32)(torch.randn(4, 64).exp(), None)}
    plain = pack(stored, expected, coder=None, digest=DIGEST)
    assert len(pack(stored, expected, coder=LzmaCoder(), digest=DIGEST)) <= len(plain)


def test_an_artifact_of_another_config_is_refused():
    stored, expected = golden_stored()
    data = pack(stored, expected, coder=None, digest=DIGEST)
    with pytest.raises(ArtifactError, match="another config") as caught:
        unpack(data, expected, digest="ffffffffffff")
    assert DIGEST in caught.value.evidence
    unpack(data, expected)


@pytest.mark.parametrize("digest", ["", "0123", "0123456789abcd", "0123456789ax"])
def test_what_is_no_digest_is_refused(digest):
    stored, expected = golden_stored()
    with pytest.raises(ValueError):
        pack(stored, expected, coder=None, digest=digest)


def test_an_artifact_of_another_model_is_refused():
    small, wide, deep = Blocks(), Blocks(dim=12), Blocks(layers=10)
    data = pack(quantize(small, BASELINE), expected_of(small), coder=ZlibCoder(), digest=DIGEST)
    with pytest.raises(ArtifactError, match="another model") as caught:
        unpack(data, expected_of(wide))
    assert "embed codes 512; the model wants" not in caught.value.evidence
    assert "embed codes 512" in caught.value.evidence
    assert "embed codes 768" in caught.value.evidence
    with pytest.raises(ArtifactError, match="another model") as caught:
        unpack(data, expected_of(deep))
    assert "73 tensors, the model 81" in caught.value.evidence


def test_the_coder_that_reads_may_be_given():
    class FirstByteIsZero:
        identity = 200

        def encode(self, data, parts=()):
            return data[1:]

        def decode(self, data, size, parts=()):
            return b"\x00" + data

    expected = {"w": Expected((4,), Role.SCALE)}
    stored = {"w": PlainValues(bits=32)(torch.tensor([2.0**-126, 1.0, 2.0, 3.0]), None)}
    assert stored["w"].dense().numpy().tobytes()[0] == 0
    data = pack(stored, expected, coder=FirstByteIsZero(), digest=DIGEST)
    with pytest.raises(ArtifactError, match="coder 200") as caught:
        unpack(data, expected)
    assert "1 ZlibCoder" in caught.value.evidence
    assert torch.equal(unpack(data, expected, coders=[FirstByteIsZero()])["w"].dense(), stored["w"].dense())

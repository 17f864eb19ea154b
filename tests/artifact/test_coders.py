import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.artifact.slots import coder_of
from paramgolf.errors import ArtifactError
from paramgolf.registry import TECHNIQUES
from paramgolf.techniques.artifact import BrotliCoder, LzmaCoder, MixingCoder, ZlibCoder, ZstdCoder

ALL = [entry for entry in TECHNIQUES.values() if entry.fills == "artifact.coder"]
# A program of others: what is not installed cannot be tested, and starting it a thousand times takes long.
ENTRIES = [entry for entry in ALL if entry.name != "lrzip"]
FAST = {"zlib": ZlibCoder(level=1), "lzma": LzmaCoder(preset=0), "brotli": BrotliCoder(quality=1, window=10)}
FAST["zstd"] = ZstdCoder(level=1)


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry.name)
def entry(request):
    return request.param


def test_all_are_registered():
    assert {entry.name for entry in ENTRIES} >= {"zlib", "lzma", "brotli", "zstd", "mixing"}


def test_identities_are_unique_and_none_is_zero():
    identities = [entry.config.identity for entry in ALL]
    assert len(set(identities)) == len(identities)
    assert all(1 <= identity <= 255 for identity in identities)
    assert (ZlibCoder.identity, LzmaCoder.identity, BrotliCoder.identity, ZstdCoder.identity) == (1, 2, 3, 4)


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=1, max_size=5000), st.integers(1, 20))
@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_any_settings_write_what_the_default_reads(name, data, times):
    config, data = TECHNIQUES[name].config, data * times
    for writer in (config(), FAST.get(name, config())):
        assert config().decode(writer.encode(data), len(data)) == data
        assert writer.encode(data) == writer.encode(data)


def test_wrong_sizes_and_ends_are_refused(entry):
    coder, data = entry.config(), b"ninety-nine " * 100
    blob = coder.encode(data)
    for size in (1, len(data) - 1, len(data) + 1, 10 * len(data)):
        with pytest.raises(ArtifactError, match="compressed stream"):
            coder.decode(blob, size)
    for wrong in (blob + b"\x00", blob + blob, blob[:-1], blob[: len(blob) // 2], b"", b"\xff" * 40):
        with pytest.raises(ArtifactError, match="compressed stream"):
            coder.decode(wrong, len(data))


def test_it_compresses(entry):
    data = b"the same again and again " * 400
    assert len(entry.config().encode(data)) < len(data) / 8


@pytest.mark.parametrize(
    ("coder", "values"),
    [
        (ZlibCoder, {"level": 10}),
        (LzmaCoder, {"preset": -1}),
        (BrotliCoder, {"quality": 12}),
        (BrotliCoder, {"window": 25}),
        (ZstdCoder, {"level": 23}),
        (MixingCoder, {"threads": -1}),
    ],
)
def test_settings_out_of_range_are_refused(coder, values):
    with pytest.raises(ValueError, match=r"lies within|or more"):
        coder(**values)


def test_a_given_coder_goes_before_the_registered():
    mine = ZlibCoder(level=1)
    assert coder_of(1, [mine]) is mine
    assert coder_of(1, []) == ZlibCoder()

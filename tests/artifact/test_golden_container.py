import pytest
import torch
from golden_set import CODERS, DIGEST, golden_file, golden_stored

from paramgolf.artifact.container import pack, unpack


def test_container_bytes_do_not_move():
    stored, expected = golden_stored()
    golden = bytes.fromhex(golden_file("raw").read_text())
    assert pack(stored, expected, coder=None, digest=DIGEST) == golden


@pytest.mark.parametrize("name", CODERS)
def test_what_was_written_once_is_read_for_ever(name):
    """Compressors may come to write other bytes; they must read these."""
    stored, expected = golden_stored()
    read = unpack(bytes.fromhex(golden_file(name).read_text()), expected, digest=DIGEST)
    assert list(read) == list(stored)
    for tensor, weight in stored.items():
        assert read[tensor].dense().numpy().tobytes() == weight.dense().numpy().tobytes()
        assert [type(term) for term in read[tensor].terms] == [type(term) for term in weight.terms]
        assert torch.equal(read[tensor].dense(), weight.dense())

"""The scale for bits per byte."""

import gzip

from paramgolf.data.dataset import Dataset
from paramgolf.data.validation import validation_stream
from paramgolf.lab.reference import references, validation_text


def test_the_text_is_what_bits_per_byte_divides_by(tiny_data: Dataset) -> None:
    text = validation_text(tiny_data)
    stream = validation_stream(tiny_data.val, tiny_data.tokenizer)
    assert len(text) == stream.target_bytes.sum()
    assert "était" in text.decode()
    assert validation_text(tiny_data, 100) == text[:100]


def test_compressors_are_counted_whole() -> None:
    text = bytes(range(256)) * 40
    found = {item.compressor: item for item in references(text)}
    assert found["gzip -9"].bits_per_byte == 8 * len(gzip.compress(text, 9, mtime=0)) / len(text)
    assert found["xz -9e"].bits_per_byte < 1
    assert all(item.text_bytes == len(text) for item in found.values())
    assert references(b"") == []

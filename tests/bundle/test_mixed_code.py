"""Context mixing gives back every text, in fewer bytes than LZMA."""

import ast
import lzma
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.bundle.mixing import RADIX, calls_after, coded_bits, mixed_code, mixed_text, spelled_digits, squashed

ASCII = st.text(st.characters(max_codepoint=127), max_size=60)


@settings(max_examples=30, deadline=None)
@given(ASCII)
def test_every_ascii_text_comes_back(text: str):
    code = mixed_code(text)
    assert mixed_text(len(text), coded_bits(code)) == text
    assert not {"\0", "\r", "'"} & {*code}, "what a raw string cannot hold"
    assert not code.endswith("\\")


def test_source_is_much_smaller_than_by_lzma():
    text = Path(ast.__file__).read_text(encoding="ascii")[:8_000]
    code = mixed_code(text)
    assert mixed_text(len(text), coded_bits(code)) == text
    assert len(code) < 0.88 * len(lzma.compress(text.encode(), preset=9))


@given(st.integers(min_value=0), st.integers(min_value=1), st.integers(min_value=0, max_value=4))
def test_a_spelled_code_lies_in_its_interval(low: int, width: int, more: int):
    length = more
    while RADIX**length < low + width:
        length += 1
    spelled = spelled_digits(low, width, length)
    digits = [ord(character) - 1 for character in spelled.replace("\xfe", "\r").replace("\xff", "'")]
    assert len(digits) <= length + 1
    value = 0
    for digit in digits:
        assert 0 <= digit < RADIX
        value = value * RADIX + digit
    value, rest = (value, RADIX ** (length - len(digits))) if len(digits) <= length else (value // RADIX, 1)
    assert low <= value * rest < low + width


@given(st.lists(st.tuples(st.integers(min_value=1, max_value=65535), st.integers(0, 1)), max_size=200))
def test_bits_come_back_whatever_their_chances(steps: list[tuple[int, int]]):
    """The coder alone, its chances from elsewhere than the model."""
    low, width, length = 0, 1, 0
    for chance, bit in steps:
        while width < RADIX**6:
            low, width, length = low * RADIX, width * RADIX, length + 1
        below = width * chance >> 16
        low, width = (low, below) if bit else (low + below, width - below)
    choose = coded_bits(spelled_digits(low, width, length))
    assert [choose(chance) for chance, _ in steps] == [bit for _, bit in steps]


def test_chances_are_even_and_never_certain():
    assert squashed(0) == 32768
    assert squashed(1e12) < 65536
    assert squashed(-1e12) > 0
    assert squashed(3 << 24) + squashed(-3 << 24) == 65536


def test_open_brackets_are_followed():
    calls = [("", 0)]
    for last, word in (("(", "load"), (",", "x"), ("[", "y")):
        calls = calls_after(calls, last, word)
    assert calls == [("", 0), ("load", 1), ("y", 0)]
    assert calls_after(calls_after(calls, "]", ""), "x", "") == [("", 0), ("load", 1)]
    assert calls_after([("", 0)], ")", "") == [("", 0)]
    assert calls_after(calls, "\n", "") == [("", 0)]

"""Context mixing gives back every text, in fewer bytes than LZMA, on every machine alike."""

import ast
import lzma
import subprocess
import sys
import zlib
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.bundle.mixing import (
    RADIX,
    TREE,
    branches,
    coded_bits,
    mixed_code,
    mixed_text,
    spelled_digits,
    tree_bits,
    tree_for,
)
from paramgolf.bundle.shrink import mixed_loader

ASCII = st.text(st.characters(max_codepoint=127), max_size=60)


@settings(max_examples=30, deadline=None)
@given(ASCII, st.sampled_from(["", "def f(a):\n\treturn a[1:]\n", "\xfe, out of the tree"]))
def test_every_ascii_text_comes_back(text: str, primer: str):
    tree = tree_for(text)
    code = mixed_code(text, tree, primer)
    assert mixed_text(tree, primer, len(text), coded_bits(code)) == text
    assert not {"\0", "\r"} & {*code}, "what a raw string cannot hold"
    assert not code.endswith(("\\", "'"))


def test_source_is_much_smaller_than_by_lzma():
    text = Path(ast.__file__).read_text(encoding="ascii")[:2_500]
    tree = tree_for(text)
    code = mixed_code(text, tree, "")
    assert mixed_text(tree, "", len(text), coded_bits(code)) == text
    assert len(code) < 0.83 * len(lzma.compress(text.encode(), preset=9))
    assert len(mixed_code(text, tree, text[:1_500])) < 0.7 * len(code), "the models learn from the primer"


def test_codes_do_not_move():
    """What one machine packs, another unpacks."""
    text = "".join(f"def name{place}(value, other{place % 7}):\n\treturn value[{place}]\n" for place in range(40))
    code = mixed_code(text, TREE, "")
    assert (len(code), zlib.crc32(code.encode("latin-1"))) == (116, 1976727050)


def test_a_shipped_file_runs_what_was_packed(tmp_path: Path):
    """The decoder as it stands in the file, with itself as the primer."""
    text = "for a in range(3):\n\tprint('~', a, '$', \"\\t'''\")  # " + "'" * 3
    file = tmp_path / "packed.py"
    file.write_bytes(mixed_loader(text))
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=True)
    assert done.stdout == "".join(f"~ {a} $ \t'''\n" for a in range(3))


@given(ASCII)
def test_a_tree_leads_to_every_character(text: str):
    halves, root = branches(tree_for(text))
    assert {*text} <= {*root}
    assert len(root) == len({*root}) == len(halves) + 1
    assert sorted(place for place, _ in halves.values()) == [*range(len(halves))]
    assert all(whole.startswith(half) and 0 < len(half) < len(whole) for whole, (_, half) in halves.items())
    bits = tree_bits(text, tree_for(text))
    for character in text:
        left = root
        while len(left) > 1:
            half = halves[left][1]
            left = half if next(bits) else left[len(half) :]
        assert left == character


@given(st.integers(min_value=0), st.integers(min_value=1), st.integers(min_value=0, max_value=4))
def test_a_spelled_code_lies_in_its_interval(low: int, width: int, more: int):
    length = more
    while RADIX**length < low + width:
        length += 1
    spelled = spelled_digits(low, width, length)
    digits = [place - 1 - (place > 13) for place in spelled.encode("latin-1")]
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


def test_no_library_can_round_a_table_otherwise():
    """Every entry is further from a half than any floating-point library errs; no chance is 0 or certain."""
    half = Decimal("0.5")
    logits = [192 * (Decimal(16384 + 2 * cell + 1) / Decimal(16384 - 2 * cell - 1)).ln() for cell in range(8192)]
    assert min(abs(logit % 1 - half) for logit in logits) > Decimal("1e-9")
    chances = [65536 / (1 + (-Decimal(place) / 768).exp()) for place in range(-8192, 8192)]
    assert min(abs(chance % 1 - half) for chance in chances) > Decimal("1e-7")
    assert round(chances[0]) >= 1
    assert round(chances[-1]) <= 65535

"""Context mixing for source: the text of a script in about a fifth fewer bytes than brotli or LZMA need.

A character is found by halving what it may be, down a tree in which letters, marks and figures keep together. Models,
each an adaptive probability for every context that it has met, forecast every choice: from the last characters, the
word so far, the skeleton of the line (every word an `a`), the call that is being written, the function that it stands
in. Sets of weights, chosen by where the text is and learnt as it goes by, mix the forecasts in the logistic domain, and
a last set mixes what those say (Mahoney 2005, PAQ7; Mahoney 2013, Data Compression Explained, 4.3). What decodes is
what encodes, asked for another choice. It is shipped, minified, and is the first text that the models learn from.

All arithmetic that decides is whole numbers, so that every machine decodes alike; logarithms and exponentials stand in
tables, no entry of which is so near a half that a library could round it otherwise. A character takes 0.4 ms.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np

RADIX = 254
"""Values a character of the file may have: latin-1 but NUL and carriage return."""
TREE = (
    " =`,)``:\n`;]}````.(`{[`'*+-```/@`\t<`>\"`|&`%!~\\```````````01`68`34``2597`````NT`FDA``ECB````"
    "HO`SI``ML`RW```PG`KJ``UQV``ZYX````````ear``tn`io```sd`fcl```bp`h_g```um`kyw``vj`xzq`````````"
)
"""Characters of scripts; the last of these joins the two branches before it."""


def mixed_text(tree: str, primer: str, length: int, choose: Callable[[int], int]) -> str:
    """The text of `length` characters of which `choose` tells every choice, given its chance in 65536ths.

    Asked for the choices of a text, it gives the chances to encode it by; asked for those of a code, the text. `primer`
    is what the models learn from first.
    """
    text = calls = ""
    models, scope, length = 23, 0, len(primer) + length
    halves, root = branches(tree)
    numbers: dict[object, int] = {}
    homes: dict[object, int] = {}
    logits = np.r_[:8192, -8192:0]
    stretched = np.array(np.rint(192 * np.log((logits + 8192.5) / (8191.5 - logits))), int)
    squashed = np.array(np.rint(65536 / (1 + np.exp(-logits / 768))), int)
    cells = np.zeros((2, 128 * models * length), "i")
    weights = np.zeros((1 << 19, 2 * models + 1), int)
    shares = np.full((1 << 19, 8), 1 << 21)
    while len(text) < length:
        earlier, before, word = re.split(r"\W+", "_ _ " + text[-99:])[-3:]
        frame = re.sub(r"\w+", "a", text[-99:])
        line = text.split("\n")[-1]
        call = calls.split("(")[-1]
        depth = calls.count("(")
        contexts = (
            "", text[-1:], text[-2:], text[-3:], text[-4:], text[-6:], text[-4:-1], word, line, frame[-6:],
            frame[-10:], (frame[-3:], depth), (frame[-4:], len(word)), (word, frame[-2:], call.strip(",")),
            (word, call), (word, depth), (word, frame[-4:], earlier), (word, frame[-6:], earlier, before),
            (word, before, frame[-1:]), (word, frame[-2:], line[:4]),
            (word, scope), (word, text[-1:], scope), (text[-2:], scope),
        )  # fmt: skip
        rows = 128 * np.array([numbers.setdefault(pair, len(numbers)) for pair in enumerate(contexts)])
        selectors = frame[-3:], text[-1:], text[-2:-1], frame[-2:], frame[-1:], len(word), depth
        home = 128 * np.array([homes.setdefault(pair, len(homes) % 4096) for pair in enumerate(selectors)])
        left = root
        while len(left) > 1:
            node, half = halves[left]
            places = rows + node
            chances, met = cells[:, places]
            known = stretched[chances >> 2]
            inputs = np.r_[known, known * 4 // (2 * met + 1), 192]
            used = [*home[:2], *home[2:] + node, (met > 0).sum()]
            forecasts = (weights[used] @ inputs + (known.sum() << 17) >> 18).clip(-8192, 8191)
            chance = int(squashed[(shares[used[5]] @ forecasts >> 24).clip(-8192, 8191)])
            bit = primer[len(text)] in half if primer[len(text) :] else choose(chance)
            weights[used] += np.outer(131072 * bit - chance - squashed[forecasts], inputs) * 11 >> 14
            shares[used[5]] += (65536 * bit - chance) * forecasts >> 11
            cells[:, places] = chances + (65535 * bit - 32768 - chances) * 4 // (4 * met + 5), met + (met < 12)
            left = half if bit else left[len(half) :]
        if left in "([{":
            calls += "(" + word
        if left in ")]}":
            calls = calls[: calls.rfind("(")]
        if left == ",":
            calls += left
        if left == "\n":
            calls = ""
        text += left
        scope += text.endswith("def ")
    return text[len(primer) :]


def branches(tree: str) -> tuple[dict[str, tuple[int, str]], str]:
    """The first half of every branch of a tree, with the branch's number, and the whole; a branch is its characters."""
    halves: dict[str, tuple[int, str]] = {}
    found: list[str] = []
    for part in tree:
        if part == tree[-1]:
            *found, first, second = found
            part = first + second
            halves[part] = len(halves), first
        found.append(part)
    return halves, part


def coded_bits(code: str) -> Callable[[int], int]:
    """What tells the choices that `code` stands for, to be asked in order."""
    digits = iter([ord(mark) - 1 - (mark > "\r") for mark in code])
    left = [0, 1]

    def choose(chance: int) -> int:
        value, width = left
        while width < RADIX**6:
            value, width = value * RADIX + next(digits, 0), width * RADIX
        below = width * chance >> 16
        left[:] = (value, below) if value < below else (value - below, width - below)
        return value < below

    return choose


def tree_for(text: str) -> str:
    """The tree of scripts for the characters that `text` has, joined by one that it has not."""
    needed = {*text, "\n", " "}
    joint = next(mark for mark in map(chr, range(35, 256)) if mark not in needed)
    found: list[str] = []
    for mark in TREE:
        if mark == TREE[-1]:
            second, first = found.pop(), found.pop()
            found.append(first + second + (joint if first and second else ""))
        else:
            found.append(mark if mark in needed else "")
    return found[0] + "".join(mark + joint for mark in sorted(needed - ({*TREE} - {TREE[-1]})))


def mixed_code(text: str, tree: str, primer: str) -> str:
    """The code of a text, characters of latin-1 that a raw string between triple quotation marks may hold."""
    bits = tree_bits(text, tree)
    low, width, length = 0, 1, 0

    def choose(chance: int) -> int:
        nonlocal low, width, length
        while width < RADIX**6:
            low, width, length = low * RADIX, width * RADIX, length + 1
        below, bit = width * chance >> 16, next(bits)
        low, width = (low, below) if bit else (low + below, width - below)
        return bit

    mixed_text(tree, primer, len(text), choose)
    return spelled_digits(low, width, length)


def tree_bits(text: str, tree: str) -> Iterator[int]:
    """Which half it is, choice after choice."""
    halves, root = branches(tree)
    for character in text:
        left = root
        while len(left) > 1:
            _, half = halves[left]
            yield character in half
            left = half if character in half else left[len(half) :]


def spelled_digits(low: int, width: int, length: int) -> str:
    """The shortest code of `length` digits, missing ones being 0, with a value from `low` to below `low + width`."""
    step = 1
    while length and -(-low // (step * RADIX)) * step * RADIX < low + width:
        step, length = step * RADIX, length - 1
    value, digits = -(-low // step), list[int]()
    while len(digits) < length:
        value, digit = divmod(value, RADIX)
        digits.append(digit)
    spelled = "".join(chr(digit + 1 + (digit > 11)) for digit in reversed(digits))
    return spelled + "\x01" if spelled.endswith(("\\", "'")) else spelled  # no raw string ends in them

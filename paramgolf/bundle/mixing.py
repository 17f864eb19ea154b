"""Context mixing for source: the text of a script in about a sixth fewer bytes than brotli or LZMA need.

Fifteen models, each an adaptive probability for every context that it has met, forecast the next bit of a character:
the last characters, the word so far, the skeleton of the line (every word an `a`), the call that is being written, the
function that it stands in. Five sets of weights, chosen by where in a word and a call the text is and learnt as it goes
by, mix the forecasts in the logistic domain (Mahoney 2005, PAQ7). What
decodes is what encodes, asked for another bit, and it is itself shipped, minified: a dozen lines.

All arithmetic that decides a bit is whole numbers, so that every machine decodes alike; logarithms and exponentials are
rounded far from where machines differ. A character takes about 0.1 ms.
"""

import math
from collections.abc import Callable

import numpy as np

RADIX = 253
"""Values a character of the file may have: latin-1 but NUL, carriage return and the apostrophe."""
REST = RADIX**6
"""The coder's range is never narrower."""


def mixed_text(length: int, choose: Callable[[int], int]) -> str:
    """The ASCII text of `length` characters of which `choose` tells every bit, given its chance of being 1 in 65536ths.

    Asked for the bits of a text, it gives the chances to encode it by; asked for those of a code, the text.
    """
    text = word = frame = before = earlier = ""
    calls: list[tuple[str, int]] = [("", 0)]
    numbers: dict[object, int] = {}
    models, scope = 15, 0
    stretched = np.array([round(256 * math.log((cell + 0.5) / (4095.5 - cell))) for cell in range(4096)])
    rates = np.array([max(int(65536 / (met + 1.25)), 6000) for met in range(256)])
    doubts = np.array([0, *(int(65536 / (met + 0.5)) for met in range(1, 256))])
    cells = np.zeros(128 * models * length, np.int32)
    counts = np.zeros(128 * models * length, np.uint8)
    weights = np.zeros((128 * 272, 2 * models + 1), np.int64)
    weights[:, :models] = 9600
    inputs = np.full(2 * models + 1, 256)
    while len(text) < length:
        contexts = (
            *("", text[-1:], text[-2:], text[-3:], text[-4:], text[-6:]),
            *(word, frame[-3:], frame[-6:], frame[-10:]),
            *((word, frame[-2:], calls[-1][0]), (word, calls[-1]), (word, len(calls))),
            *((word, frame[-4:], earlier), (word, text[-1:], scope)),
        )
        rows = 128 * np.array([numbers.setdefault(pair, len(numbers)) for pair in enumerate(contexts)])
        last_ones = [16 + ord(text[-1:] or " "), 144 + ord(frame[-1:] or " ")]
        homes = 128 * np.array([1 + min(len(word), 7), 9 + min(len(calls), 6), *last_ones])
        bits = 1
        while bits < 128:
            places = rows + bits
            chances, met = cells[places] + 32768, counts[places]
            inputs[:models] = stretched[chances >> 4]
            inputs[models:-1] = inputs[:models] * doubts[met] >> 16
            used = [np.count_nonzero(met), *(homes + bits)]
            forecasts = weights[used] @ inputs
            bit = choose(squashed(sum(forecasts) / 5))
            errors = np.array([65536 * bit - squashed(forecast) for forecast in forecasts])
            weights[used] += np.outer(errors, inputs) * 9 >> 17
            cells[places] = chances + ((65535 * bit - chances) * rates[met] >> 16) - 32768
            counts[places] = met + (met < 255)
            bits = 2 * bits + bit
        last = chr(bits - 128)
        text += last
        if last.isalnum() or last == "_":
            frame += "" if word else "a"
            word += last
        else:
            calls = calls_after(calls, last, word)
            if word:
                before, earlier = word, before
                scope += word in ("def", "class")
            word, frame = "", frame + last
    return text


def squashed(forecast: float) -> int:
    """A chance in 65536ths, 1 to 65535 of them, from its logit in 2^-24ths."""
    return round(65536 / (1 + math.exp(-max(-11, min(11, forecast / 2**24)))))


def calls_after(calls: list[tuple[str, int]], last: str, word: str) -> list[tuple[str, int]]:
    """The brackets that are open after the character `last`: the word before each and the commas in it so far."""
    if last in "([{":
        return [*calls, (word, 0)]
    if last in ")]}":
        return calls[:-1] or [("", 0)]
    if last == ",":
        return [*calls[:-1], (calls[-1][0], calls[-1][1] + 1)]
    return [("", 0)] if last == "\n" else calls


def coded_bits(code: str) -> Callable[[int], int]:
    """What tells the bits that `code` stands for, to be asked in order."""
    digits = iter([ord(character) - 1 for character in code.replace("\xfe", "\r").replace("\xff", "'")])
    value, width = 0, 1

    def choose(chance: int) -> int:
        nonlocal value, width
        while width < REST:
            value, width = value * RADIX + next(digits, 0), width * RADIX
        below = width * chance >> 16
        if value < below:
            width = below
            return 1
        value, width = value - below, width - below
        return 0

    return choose


def mixed_code(text: str) -> str:
    """The code of an ASCII text, characters of latin-1 that a raw string between triple apostrophes may hold."""
    bits = iter([ord(character) >> place & 1 for character in text for place in range(6, -1, -1)])
    low, width, length = 0, 1, 0

    def choose(chance: int) -> int:
        nonlocal low, width, length
        while width < REST:
            low, width, length = low * RADIX, width * RADIX, length + 1
        below, bit = width * chance >> 16, next(bits)
        low, width = (low, below) if bit else (low + below, width - below)
        return bit

    mixed_text(len(text), choose)
    return spelled_digits(low, width, length)


def spelled_digits(low: int, width: int, length: int) -> str:
    """The shortest code of `length` digits, missing ones being 0, with a value from `low` to below `low + width`."""
    step = 1
    while length and -(-low // (step * RADIX)) * step * RADIX < low + width:
        step, length = step * RADIX, length - 1
    value, digits = -(-low // step), list[int]()
    while len(digits) < length:
        value, digit = divmod(value, RADIX)
        digits.append(digit)
    spelled = "".join(chr(digit + 1) for digit in reversed(digits)).replace("\r", "\xfe").replace("'", "\xff")
    return spelled + "\x01" if spelled.endswith("\\") else spelled  # a raw string cannot end in a backslash

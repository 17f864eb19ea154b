"""What the coder of weights expects of numbers that are no codes: scales, steps, gains, packed digits.

A number is said byte by byte from the most significant, a byte bit by bit, in the contexts of the byte before it in the
number, of the same byte of the numbers to the left and above, and of how far the number has turned out from its left
neighbour so far, with the left neighbour's byte: scales of neighbouring rows differ in their last bits.
"""

import numpy as np
from numba import njit

from paramgolf.artifact.bits import ModelSize, code_node

NUMBER_MODEL = ModelSize(
    nodes=256,
    contexts=(4, 4 * 256, 4 * 256, 4 * 256, 4 * 5 * 64),
    patience=(1000, 500, 500, 500, 500),
    eagerness=60,
)
"""The inputs of `code_numbers`, for numbers of up to four bytes."""


@njit(nogil=True, error_model="numpy")
def code_numbers(model, starts, numbers, columns):  # type: ignore[no-untyped-def]
    """(numbers, width) bytes, the most significant first, of rows of `columns` numbers; a reader fills them."""
    width, contexts = numbers.shape[1], model.contexts
    nothing = np.zeros(width, np.int64)
    for place in range(len(numbers)):
        left = numbers[place - 1] if place else nothing
        above = numbers[place - columns] if place >= columns else nothing
        before, turned = 0, 0
        for part in range(width):
            contexts[0] = part
            contexts[1] = part * 256 + before
            contexts[2] = part * 256 + left[part]
            contexts[3] = part * 256 + above[part]
            contexts[4] = (part * 5 + min(max(turned, -2), 2) + 2) * 64 + (left[part] >> 2)
            for index in range(len(contexts)):
                contexts[index] = contexts[index] * 256 + starts[index]
            node = 1
            for shift in range(7, -1, -1):
                node = node << 1 | code_node(model, (numbers[place, part] >> shift) & 1, node)
            before = node & 255
            numbers[place, part] = before
            turned = min(max(turned * 256 + before - left[part], -4096), 4096)

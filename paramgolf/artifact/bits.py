"""An adaptive binary arithmetic coder: predictions of a bit mixed logistically, in whole numbers only.

Formula: every input has a context, which selects a chance that adapts by 1/(n + 1.5); the mix is
squash(Σ w_i · stretch(p_i)) with stretch(p) = ln(p / (1-p)), and the weights follow the gradient of the bits spent. A
quarter of the final chance is what such a mix has meant so far. At the start all weight is on the first input, so that
what has no structure costs no more than it alone. The range is carry-less, of 56 bits, so that it loses nothing to
speak of. Nothing but additions, multiplications, divisions and shifts of integers below 2^63: every machine gets the
same bits.
Source: Mahoney 2005 (PAQ6, lpaq); Witten, Neal and Cleary 1987. `constriction` has the range coder, but a call from
Python costs it 0.4 microseconds a bit where a weight takes five, and it takes chances as floats (docs/artifact.md).

Compiled by numba when first called, and not kept on disk: its cache would not notice a change in another file.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Integers = npt.NDArray[np.int64]

LOW, HIGH, VALUE, PLACE, READING = range(5)
"""Places in `BitModel.registers`."""
BYTES_AHEAD = 7
"""Of the 56 bits of the range: how far a reader looks ahead."""
TOP = (1 << 48) - 1
"""All of the range but its first byte."""
STRETCHED = 2048
"""Stretched chances lie within this, in 256ths of a nat."""
LEAST_CHANCE = 16
"""Of 65536: what the less likely bit keeps."""
EVEN = 1 << 15
"""Of 65536: the chance of a bit that nothing is known of."""
LEAST_PACE = 2
"""How fast weights follow in the end."""
REFINED_PARTS = 64
"""Ranges of a mix that are told apart."""
REFINED_PRIOR = 30
"""Bits that the meaning of a mix starts with."""
MOST_BITS = 4095
"""What a count of bits goes up to."""
EAGER_BITS = 20000
"""Bits that a node has seen when its weights follow half as eagerly as in the beginning."""


class BitModel(NamedTuple):
    """The state of one coder: what it has written or read, and all that it has learned."""

    registers: Integers
    """Low and high end of the range, the value read, the place in `data`, whether it reads."""
    data: npt.NDArray[np.uint8]
    """What is read, or room for what is written."""
    squash: Integers
    """(4096,) chance of 65536 by stretched chance + 2048."""
    stretch: Integers
    """(4096,) stretched chance by chance of 4096."""
    rates: Integers
    """(4096,) 2^24 / (n + 1.5): how a chance adapts that has seen n bits."""
    chances: Integers
    """Every input's chances in all its contexts: 32 bits of chance, 16 of count."""
    weights: Integers
    """(nodes, inputs) of 65536."""
    refined: Integers
    """(nodes · REFINED_PARTS) what a mix has meant, as in `chances`."""
    learned: Integers
    """(nodes,) how many bits the weights of a node have seen."""
    contexts: Integers
    """(inputs,) where in `chances` the context of each input begins; set by the caller."""
    eagerness: int
    """See `ModelSize`."""
    mirrored: Integers
    """(inputs,) where the context of each input begins once a code is known to be negative; set by the caller."""
    patience: Integers
    """(inputs,) bits seen in a context, below 4096, after which its chance adapts no slower."""
    inputs: Integers
    """(inputs,) room for the stretched chances."""


class ModelSize(NamedTuple):
    """What a model of symbols needs of a `BitModel`."""

    nodes: int
    """Binary decisions that have a chance of their own."""
    contexts: tuple[int, ...]
    """How many contexts each input has."""
    patience: tuple[int, ...]
    """Of each input."""
    eagerness: int
    """How fast the weights follow in the beginning."""

    @property
    def starts(self) -> Integers:
        """(inputs,) where in `chances` the contexts of each input begin."""
        return np.cumsum([0, *self.contexts[:-1]]) * self.nodes


def untaught_model(size: ModelSize) -> BitModel:
    """A model that knows nothing and neither reads nor writes yet."""
    # No entry lies so near to the next that two libraries could round it differently; a test holds it.
    chance = 65536 / (1 + np.exp(np.arange(STRETCHED, -STRETCHED, -1) / 256))
    squash = chance.astype(np.int64).clip(LEAST_CHANCE, 65536 - LEAST_CHANCE)
    stretch = np.searchsorted(squash, np.arange(4096) * 16 + 8) - STRETCHED
    inputs = len(size.contexts)
    weights = np.zeros((size.nodes, inputs), np.int64)
    weights[:, 0] = 65536
    return BitModel(
        registers=np.zeros(5, np.int64),
        data=np.zeros(0, np.uint8),
        squash=squash,
        stretch=stretch.clip(1 - STRETCHED, STRETCHED - 1),
        rates=(1 << 25) // (2 * np.arange(4096) + 3),
        chances=np.full(sum(size.contexts) * size.nodes, EVEN << 32, np.int64),
        weights=weights,
        refined=np.tile(squash[32::64] << 32 | REFINED_PRIOR, size.nodes),
        learned=np.zeros(size.nodes, np.int64),
        contexts=np.zeros(inputs, np.int64),
        mirrored=np.zeros(inputs, np.int64),
        eagerness=size.eagerness,
        patience=np.array(size.patience),
        inputs=np.zeros(inputs, np.int64),
    )


def writer(learned: BitModel, room: int) -> BitModel:
    """A model that knows what `learned` does and writes at most `room` bytes."""
    return at_first_bit(learned, np.zeros(room, np.uint8), reading=False)


def reader(learned: BitModel, blob: bytes) -> BitModel:
    """A model that knows what `learned` does and reads `blob`."""
    model = at_first_bit(learned, np.frombuffer(blob, np.uint8).copy(), reading=True)
    model.registers[VALUE] = int.from_bytes(blob[:BYTES_AHEAD].ljust(BYTES_AHEAD, b"\0"), "big")
    model.registers[PLACE] = BYTES_AHEAD
    return model


def at_first_bit(learned: BitModel, data: npt.NDArray[np.uint8], *, reading: bool) -> BitModel:
    """A copy of `learned` at the beginning of `data`."""
    copies = {
        name: getattr(learned, name).copy()
        for name in ("chances", "weights", "refined", "learned", "contexts", "mirrored", "inputs")
    }
    return learned._replace(data=data, registers=np.array([0, (1 << 56) - 1, 0, 0, reading], np.int64), **copies)


def written(model: BitModel) -> bytes:
    """What `model` wrote, ended by the fewest bytes that a reader needs."""
    low, high, _, place, _ = model.registers.tolist()
    assert place <= len(model.data), (place, len(model.data))
    # Beyond its end a reader reads zeros, so that the shortest number within the range will do.
    kept = next(size for size in range(9) if high >> (56 - 8 * size) << (56 - 8 * size) >= low)
    end: bytes = (high >> (56 - 8 * kept)).to_bytes(kept, "big")
    return (model.data[:place].tobytes() + end).rstrip(b"\0")


def ended(model: BitModel, blob: bytes) -> bool:
    """Whether a reader of `blob` stands at its end, and no shorter blob means the same."""
    return int(model.registers[PLACE]) >= len(blob) and not blob.endswith(b"\0")


@njit(nogil=True, error_model="numpy")
def code_bit(model, bit, chance):  # type: ignore[no-untyped-def]
    """The next bit, written or read, where a 1 has `chance` of 65536."""
    registers = model.registers
    low, high = registers[LOW], registers[HIGH]
    middle = low + ((high - low) >> 16) * chance
    if registers[READING]:
        bit = 1 if registers[VALUE] <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) >> 48 == 0:
        place = registers[PLACE]
        if registers[READING]:
            following = model.data[place] if place < len(model.data) else 0
            registers[VALUE] = (registers[VALUE] & TOP) << 8 | following
        elif place < len(model.data):
            model.data[place] = high >> 48
        registers[PLACE] = place + 1
        low = (low & TOP) << 8
        high = (high & TOP) << 8 | 255
    registers[LOW], registers[HIGH] = low, high
    return bit


@njit(nogil=True, error_model="numpy")
def code_plainly(model, number, bits):  # type: ignore[no-untyped-def]
    """A number of `bits` bits that nothing is known of."""
    result = 0
    for place in range(bits - 1, -1, -1):
        result = result << 1 | code_bit(model, (number >> place) & 1, EVEN)
    return result


@njit(nogil=True, error_model="numpy")
def nudged(model, state, bit, most):  # type: ignore[no-untyped-def]
    """A chance of 32 bits with its count of 16 after a further bit; the count ends at `most`."""
    count = state & 65535
    step = ((bit << 32) - (state >> 16)) * model.rates[count] >> 24
    return ((state >> 16) + step) << 16 | min(count + 1, most)


@njit(nogil=True, error_model="numpy")
def code_node(model, bit, node):  # type: ignore[no-untyped-def]
    """The bit of the decision `node`, with the chance that the model has in its present contexts; learns from it."""
    chances, weights, contexts, inputs = model.chances, model.weights, model.contexts, model.inputs
    mixed = 0
    for place in range(len(inputs)):
        inputs[place] = model.stretch[chances[contexts[place] + node] >> 36]
        mixed += inputs[place] * weights[node, place]
    mixed = min(max(mixed >> 16, 1 - STRETCHED), STRETCHED - 1)
    chance = model.squash[mixed + STRETCHED]
    cell = node * REFINED_PARTS + ((mixed + STRETCHED) >> 6)
    refined = model.refined[cell]
    bit = code_bit(model, bit, min(max((3 * chance + (refined >> 32)) >> 2, LEAST_CHANCE), 65536 - LEAST_CHANCE))
    model.refined[cell] = nudged(model, refined, bit, MOST_BITS)
    model.learned[node] += 1
    pace = LEAST_PACE + 6 * model.eagerness * EAGER_BITS // (model.learned[node] + EAGER_BITS)
    error = ((bit << 16) - chance) * pace
    for place in range(len(inputs)):
        weights[node, place] += (inputs[place] * error + (1 << 21)) >> 22
        index = contexts[place] + node
        chances[index] = nudged(model, chances[index], bit, model.patience[place])
    return bit

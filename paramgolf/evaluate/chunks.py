"""Chunks of documents read side by side: the window before each, and the few shapes that windows come in.

Shapes: R rows, T tokens of a window, K targets of a chunk.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.evaluate.readings import Readings

SHAPE_MULTIPLE = 64
"""Windows are whole numbers of so many tokens, for the kernels' sake."""


class Chunk(NamedTuple):
    """The next targets of every row, on the host but for the window."""

    window: Batch
    """(R, T) on the device: what the model sees; blank from the end of the chunk on. Its targets are not to be read."""
    where: Tensor
    """(R, K) on the device: where in its window each target of the chunk lies."""
    targets: Batch
    """(R, K) on the device: the chunk itself, ids and targets."""
    positions: Tensor
    """(R, K) place of each target in the stream."""
    counted: Tensor
    """(R, K) bool: inside the document."""
    weights: Tensor
    """(R, K) fp32: how learning weighs costs: 1 / targets of the row, 0 in rows that have no later chunk."""


class ChunkPlan(NamedTuple):
    """How a batch of readings is cut: K = `width` places a chunk, of which the first `size` count."""

    size: int
    width: int
    shapes: tuple[int, ...]
    """Window lengths that may occur, ascending."""


def window_shapes(longest: int, number: int, width: int) -> tuple[int, ...]:
    """`number` lengths, each about half of the next, up to `longest` and none below `width`."""
    halves = (-(-(longest >> i) // SHAPE_MULTIPLE) * SHAPE_MULTIPLE for i in range(number))
    return tuple(sorted({min(max(half, width), longest) for half in halves}))


def chunk_count(readings: Readings, size: int) -> int:
    """Chunks of `size` targets in the longest of `readings`."""
    return int(-(-readings.lengths.max() // size))


def rows_for(alive: int, rows: int) -> int:
    """The least of `rows`, its half, quarter and eighth that `alive` fit into: few shapes, little idle work."""
    return next(size for share in (8, 4, 2, 1) if (size := -(-rows // share)) >= alive)


def cut_chunk(tokens: Tensor, readings: Readings, number: int, plan: ChunkPlan, rows: int) -> Chunk:
    """The chunk `number` of the first `rows` readings (ones longest first), `tokens` being the stream on the device.

    Rows beyond the readings, and readings that have ended, are blank.
    """
    starts, ends, floors = (padded(array, rows) for array in readings)
    first = starts + number * plan.size
    after = np.minimum(first + plan.size, ends)
    need = int(np.where(first < ends, first + plan.width - floors, plan.width).max())
    length = next((shape for shape in plan.shapes if shape >= need), plan.shapes[-1])
    begin = np.maximum(floors, first + plan.width - length)
    alive = first < ends
    begin, first = np.where(alive, begin, 0), np.where(alive, first, 0)
    positions = first[:, None] + np.arange(plan.width)
    counted = alive[:, None] & (positions < after[:, None])
    goes_on = after < ends
    weights = counted * (goes_on / np.maximum(counted.sum(1), 1))[:, None]
    limit = np.where(alive, after, 0)
    device = tokens.device
    told = torch.from_numpy(np.stack((begin, limit, first))).to(device, non_blocking=True)
    places = told[0][:, None] + torch.arange(length, device=device)
    blank = places >= told[1][:, None]
    places = places.clamp(max=len(tokens) - 2)
    # Nothing from the end of the chunk on enters the window, so that even a model that looked ahead would see nothing.
    ids = tokens[places].masked_fill(blank, 0)
    window = Batch(ids, ids)
    chunk = told[2][:, None] + torch.arange(plan.width, device=device)
    where = (chunk - told[0][:, None]).clamp(0, length - 1)
    chunk = chunk.clamp(max=len(tokens) - 2)
    seen = torch.from_numpy(np.minimum(positions, len(tokens) - 2))
    learned = torch.from_numpy(weights.astype(np.float32)).to(device, non_blocking=True)
    return Chunk(window, where, Batch(tokens[chunk], tokens[chunk + 1]), seen, torch.from_numpy(counted), learned)


def padded(array: np.ndarray, rows: int) -> np.ndarray:
    """The first `rows` of `array`, zeros where it has fewer."""
    return np.pad(array[:rows], (0, max(0, rows - len(array))))

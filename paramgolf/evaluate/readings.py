"""Who reads what when: documents in the order in which they are adapted to, in batches, shared out over ranks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramgolf.evaluate.documents import Pieces, Spans, document_pieces


class Readings(NamedTuple):
    """Documents, or parts of long ones, each read with an adapter of its own: targets `starts[i]` to `ends[i]`."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    floors: NDArray[np.int64]
    """How far back in the stream each may look: to the start of its document."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Targets of each."""
        return self.ends - self.starts

    def select(self, which: slice | NDArray[np.int64]) -> "Readings":
        """Some of them."""
        return Readings(self.starts[which], self.ends[which], self.floors[which])


def reading_queue(spans: Spans, part: int = 0, *, file_order: bool = False) -> Readings:
    """Documents longest first, ties in file order; ones longer than `part` targets, if that is set, in parts.

    Longest first gives batches of like lengths. It is not the order of the file, which may be asked for instead
    (evaluation catalogue E6).
    """
    pieces = document_pieces(spans, part or int(spans.lengths.max()), part or int(spans.lengths.max()))
    floors = spans.starts[np.searchsorted(spans.starts, pieces.starts, side="right") - 1]
    readings = Readings(pieces.starts, pieces.ends, floors)
    # Later parts have long windows from their first chunk on: beside whole documents they would make theirs long too.
    longest_first = np.lexsort((-readings.lengths, readings.starts == readings.floors))
    return readings if file_order else readings.select(longest_first)


def reading_batches(readings: Readings, rows: int) -> list[Readings]:
    """Neighbours of the queue, at most `rows` at a time, longest first among themselves."""
    batches = (readings.select(slice(first, first + rows)) for first in range(0, len(readings.starts), rows))
    return [batch.select(np.argsort(-batch.lengths, kind="stable")) for batch in batches]


def shared_out(batches: list[Readings], rank: int, world: int) -> list[Readings]:
    """The batches of one rank: each goes to the rank that has least to do so far, the same on every rank."""
    load = np.zeros(world)
    mine = []
    for batch in batches:
        taker = int(load.argmin())
        load[taker] += batch.lengths.max()  # chunks run one after the other; how many rows run beside costs less
        if taker == rank:
            mine.append(batch)
    return mine


def own_readings(readings: Readings, rank: int, world: int) -> Readings:
    """The readings of one rank, in order: each goes to the rank that has least to read so far."""
    load, takers = np.zeros(world), np.empty(len(readings.starts), dtype=np.int64)
    for number, length in enumerate(readings.lengths):
        takers[number] = load.argmin()
        load[takers[number]] += length
    return readings.select(np.flatnonzero(takers == rank))


def unread_pieces(readings: Readings, done: int, longest: int) -> Pieces:
    """Windows over what is left of `readings` after their first `done` targets, with at least half of `longest` before
    each target where the document has that much."""
    fresh = readings.starts + done
    left = fresh < readings.ends
    fresh, ends, floors = fresh[left], readings.ends[left], readings.floors[left]
    begin = np.maximum(floors, fresh - longest // 2)
    pieces = document_pieces(Spans(begin, ends), longest, max(1, longest - longest // 2))
    number = 1 + -(-np.maximum(ends - begin - longest, 0) // max(1, longest - longest // 2))
    pieces = pieces._replace(fresh=np.maximum(pieces.fresh, np.repeat(fresh, number)))
    kept = pieces.fresh < pieces.ends
    return Pieces(pieces.starts[kept], pieces.fresh[kept], pieces.ends[kept])

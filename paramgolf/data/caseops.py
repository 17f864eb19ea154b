"""CaseOps: the lossless case transform of the records from 2026-04-18 on (D8; PR #1729).

What: capitals become operators before small letters, so that the vocabulary holds every word once. Works on maximal
runs of ASCII letters; all other characters stay as they are:

    word -> word    Word -> TITLE word    WORD -> ALLCAPS word    iPhone -> i CAPNEXT phone
    McX  -> TITLE mc CAPNEXT x            an operator of the text's own -> ESC and itself

The operators are U+E001 to U+E004, user-defined pieces of the vocabulary (ids 4 to 7), each a token of its own.

Measured: 18 % more tokens; PR #1729 went from 1.07193 to 1.06780 with a taper of the weight decay in the same step,
an ablation on a later stack gave -0.0024 before export, -0.0017 after, -0.0036 after test-time training.

Pitfalls: an operator stands for no text but its piece has 3 bytes, so the plain table counts 9 % too many (PR #2071);
the byte sidecar gives the true ones. Here it counts the text that the ids decode to, so that bits per byte compare with
those of every other vocabulary on the same documents; published sidecars count the text before NFKC and before runs of
white space are joined (0.09 % more on encyclopedia and web text). The vocabulary's own NFKC comes after this transform,
as in the published data: a capital and its combining accent decode to the small accented letter.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paramgolf.data.bytecount import ByteTable
from paramgolf.data.shards import Ids

CASEOPS_TRANSFORM = "lossless_caps_caseops_v1"
"""What manifests call it under `text_transform`."""
CASEOPS_SUFFIX = f"_{CASEOPS_TRANSFORM}_reserved"
"""How the names of its variants, data sets and vocabularies end."""

TITLE_OPERATOR, ALLCAPS_OPERATOR, CAPNEXT_OPERATOR, ESC_OPERATOR = 0x81, 0x82, 0x83, 0x84
"""The last byte of each operator in UTF-8; the two before it are always 0xEE 0x80."""

Octets = NDArray[np.uint8]
Places = NDArray[np.intp]


def apply_caseops(texts: Sequence[str]) -> list[str]:
    """The transform of each text. `undo_caseops` is the exact inverse, for any text whatever."""
    # All at once: numpy's price is per call, and it lets other threads run meanwhile.
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    octets = np.frombuffer(b"\0".join(encoded), np.uint8).copy()
    places, operators = needed_operators(octets)
    octets[is_capital(octets)] += 32
    inserted = np.empty((len(places), 3), np.uint8)
    inserted[:] = (0xEE, 0x80, 0)
    inserted[:, 2] = operators
    made = np.insert(octets, np.repeat(places, 3), inserted.reshape(-1)).tobytes()
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    starts = np.cumsum(lengths + 1) - (lengths + 1)
    # An operator in front of a text's first letter belongs to that text; what belongs to the one before is before it.
    first = starts + 3 * np.searchsorted(places, starts)
    last = starts + lengths + 3 * np.searchsorted(places, starts + lengths)
    return [made[start:end].decode("utf-8", "surrogatepass") for start, end in zip(first.tolist(), last.tolist())]


def needed_operators(octets: Octets) -> tuple[Places, Octets]:
    """Before which bytes of UTF-8 an operator goes, in order, and the last byte of each."""
    capital = is_capital(octets)
    capitals = np.flatnonzero(capital)
    letter = np.zeros(len(octets) + 2, np.int8)
    letter[1:-1] = capital | is_small(octets)
    edges = np.diff(letter)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    within = np.searchsorted(starts, capitals, side="right") - 1
    number = np.bincount(within, minlength=len(starts))
    all_capitals = (number == ends - starts) & (number > 1)
    leading = capitals == starts[within]
    operator = np.where(leading, TITLE_OPERATOR, CAPNEXT_OPERATOR)
    operator[all_capitals[within]] = ALLCAPS_OPERATOR
    wanted = leading | ~all_capitals[within]
    literal = operator_places(octets)
    places = np.concatenate((capitals[wanted], literal))
    operators = np.concatenate((operator[wanted], np.full(len(literal), ESC_OPERATOR))).astype(np.uint8)
    order = np.argsort(places)
    return places[order], operators[order]


def undo_caseops(text: str) -> str:
    """The text that `apply_caseops` made `text` of. An operator with nothing to act on, as models write, is dropped."""
    octets = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    places = operator_places(octets)
    if not len(places):
        return text
    kinds = octets[places + 2]
    linked = np.zeros(len(places), np.bool_)
    linked[1:] = (np.diff(places) == 3) & (kinds[:-1] == ESC_OPERATOR)
    active = ~after_escape(linked)
    places, kinds = places[active], kinds[active]
    small = np.append(is_small(octets), False)
    single = places[(kinds == TITLE_OPERATOR) | (kinds == CAPNEXT_OPERATOR)] + 3
    wider = places[kinds == ALLCAPS_OPERATOR] + 3
    others = np.flatnonzero(~(small | np.append(is_capital(octets), False)))
    turns = np.zeros(len(small), np.int32)
    np.add.at(turns, wider, 1)
    np.add.at(turns, others[np.searchsorted(others, wider)], -1)
    raised = np.cumsum(turns) > 0
    raised[single] = True
    plain = octets - np.uint8(32) * (raised & small)[:-1].astype(np.uint8)
    kept = np.ones(len(octets), np.bool_)
    kept[(places[:, None] + np.arange(3)).reshape(-1)] = False
    return plain[kept].tobytes().decode("utf-8", "surrogatepass")


def sidecar_counts(ids: Ids, table: ByteTable, escape: int) -> Ids:
    """(N,) bytes of the original text that each of `ids` stands for, whole documents with their BOS.

    Control ids and operators stand for none; an operator after `escape`, the id of ESC, is the text's own. The counts
    of a document sum to the bytes of the text that its ids decode to.
    """
    counts = np.zeros(len(ids), np.uint16)
    counts[1:] = table.count(ids[:-1], ids[1:])
    counts[is_added(ids, table, escape)] = 0
    return counts


def is_added(ids: Ids, table: ByteTable, escape: int) -> NDArray[np.bool_]:
    """(N,) where the transform put an operator; after `escape`, the id of ESC, an operator is the text's own."""
    operator = table.is_caseop[ids]
    linked = np.zeros(len(ids), np.bool_)
    linked[1:] = operator[1:] & (ids[:-1] == escape)
    return operator & ~after_escape(linked)


def after_escape(linked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which items an active ESC stands before, where `linked` says that any ESC does: every second of a row of them."""
    index = np.arange(len(linked))
    head = np.maximum.accumulate(np.where(linked, 0, index))
    return (index - head) % 2 == 1


def operator_places(octets: Octets) -> Places:
    """Where operators begin in bytes of UTF-8."""
    lead = np.flatnonzero(octets[:-2] == 0xEE)
    mark = octets[lead + 2]
    return lead[(octets[lead + 1] == 0x80) & (mark >= TITLE_OPERATOR) & (mark <= ESC_OPERATOR)]


def is_capital(octets: Octets) -> NDArray[np.bool_]:
    """Where ASCII capitals are."""
    return (octets - np.uint8(65)) < 26


def is_small(octets: Octets) -> NDArray[np.bool_]:
    """Where small ASCII letters are."""
    return (octets - np.uint8(97)) < 26

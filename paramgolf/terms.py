"""Every kind of term of a stored weight, by the byte that names it in an artifact; a number is never used again.

1 to 9 are those of `stored.py`, 10 to 19 corrections and finer spans, 20 to 29 steps by column and trellis codes.
"""

from paramgolf.columnspan import ColumnSpan
from paramgolf.lowrank import LowRank
from paramgolf.stepped import Stepped
from paramgolf.stored import Grid, Plain, Signs, Term, Trits
from paramgolf.trellis import Trellis

TERMS: dict[int, type[Term]] = {
    term.identity: term for term in (Plain, Grid, Trits, Signs, LowRank, ColumnSpan, Stepped, Trellis)
}

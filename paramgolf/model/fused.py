"""What of a model can be done in one piece: the words of `model.fused`."""

from typing import Literal

Fused = Literal[
    "feed_forward",
    "loss",
    "queries_keys",
    "heads",
    "scales",
    "mix",
    "lanes",
    "groups",
    "attention",
    "sums",
    "fp8",
]
"""By a kernel of our own, or (`scales`) by matrices that take on what follows them.
`groups`: gradients of keys and values that query heads share are added up by the kernel of `queries_keys`.
`attention`: the kernels of `queries_keys`, attention and `heads` hand gradients on as they need them.
`sums`: what a half writes is added to the stream by its last product (`kernels/stream_product.py`).
`fp8` (not a default): training products of what norms have made are of 8-bit floats (`kernels/eight_bits.py`)."""

FUSED: tuple[Fused, ...] = (
    "feed_forward",
    "loss",
    "queries_keys",
    "heads",
    "scales",
    "mix",
    "lanes",
    "groups",
    "attention",
    "sums",
)
"""What is done where nothing else is asked for."""

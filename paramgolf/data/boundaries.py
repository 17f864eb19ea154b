"""Where documents begin in token shards, and a digest of each of them."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from paramgolf.batch import BOS
from paramgolf.data.shards import Shard


def document_starts(shard: Shard, *, chunk: int = 1 << 22) -> Iterator[int]:
    """The places of BOS in `shard`, read a chunk at a time."""
    ids = shard.map()
    for start in range(0, shard.tokens, chunk):
        yield from (start + np.flatnonzero(ids[start : start + chunk] == BOS)).tolist()


def document_digests(shards: Sequence[Shard], *, chunk: int = 1 << 22) -> Iterator[bytes]:
    """16 bytes for the tokens of each document, also of those that cross shards. Memory: one chunk."""
    digest = hashlib.blake2b(digest_size=16)
    begun = False
    for shard in shards:
        ids = shard.map()
        for start in range(0, shard.tokens, chunk):
            part = ids[start : start + chunk]
            cuts = np.flatnonzero(part == BOS).tolist()
            data = part.tobytes()
            digest.update(data[: 2 * (cuts[0] if cuts else len(part))])
            for begin, end in zip(cuts, [*cuts[1:], len(part)]):
                if begun:
                    yield digest.digest()
                digest, begun = hashlib.blake2b(data[2 * begin : 2 * end], digest_size=16), True
    if begun:
        yield digest.digest()

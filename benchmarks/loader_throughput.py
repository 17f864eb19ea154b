"""Tokens a second that one rank gets from each loader, beside plain copying of the same bytes.

    python benchmarks/loader_throughput.py [--tokens 98304] [--seq-len 2048] [--shards 10] [--shard-tokens 10000000]

Made-up tokens with a document about every 1,200, written to a temporary folder and cached by the system:
this measures the loader, not the disk. Medians of several runs, all in one process.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from paramgolf.batch import BOS
from paramgolf.data.shards import ShardWriter
from paramgolf.data.slots import LoaderMaker
from paramgolf.techniques.data import Coprime, Packed, Sequential, Shuffled

MAKERS: dict[str, LoaderMaker] = {
    "sequential": Sequential(),
    "coprime": Coprime(),
    "shuffled": Shuffled(),
    "packed": Packed(),
    "packed, nothing ahead": Packed(ahead=0),
    "packed, shuffled blocks of 4096": Packed(ahead=0, shuffle_shards=True, block=4096),
}


def write_tokens(folder: Path, shards: int, shard_tokens: int) -> tuple[Path, ...]:
    random = np.random.default_rng(0)
    with ShardWriter(folder, "made", "train", shard_tokens=shard_tokens) as writer:
        for _ in range(shards):
            ids = random.integers(2, 8192, shard_tokens, dtype=np.uint16)
            ids[random.integers(0, shard_tokens, shard_tokens // 1200)] = BOS
            writer.write(ids)
    return writer.paths


def milliseconds(step: Callable[[], object], repeats: int = 7, times: int = 40) -> float:
    step()
    runs = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(times):
            step()
        runs.append((time.perf_counter() - began) / times * 1e3)
    return statistics.median(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=98_304, help="targets of a batch on one rank")
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--shard-tokens", type=int, default=10_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_tokens(Path(folder), options.shards, options.shard_tokens)
        source = np.zeros(options.tokens, np.uint16)
        rows = {"copy, uint16 to int32": milliseconds(lambda: source.astype(np.int32))}
        for name, maker in MAKERS.items():
            loader = maker.build(paths, tokens=options.tokens, seq_len=options.seq_len)
            rows[name] = milliseconds(loader.next)
    print(f"{options.tokens:,} tokens a batch, rows of {options.seq_len:,}, {options.shards} shards")
    for name, took in rows.items():
        print(f"{name:34}{took:9.3f} ms {options.tokens / took / 1e3:9,.0f} M tokens/s")


if __name__ == "__main__":
    main()

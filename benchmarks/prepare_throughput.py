"""Throughput and memory of data preparation, beside SentencePiece's own multi-threaded encode of the same text.

    python benchmarks/prepare_throughput.py [CORPUS] [VARIANT] [--workers N] [--runs N] [--repeat N]

CORPUS is what `open_corpus` takes (default: stdlib), VARIANT a SentencePiece variant (default: sp1024, trained).
Rows: SentencePiece encoding a list of texts that is already in memory; the same in lots on a pool of processes; and
all of `prepare`, from the files of the corpus to hashed shards and a manifest. Medians of `--runs`, taken in turns.
Memory: peak resident size of a fresh process that prepares the text once, and `--repeat` times over.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from paramgolf.data.corpora import Corpus, open_corpus
from paramgolf.data.encoding import BATCH_CHARACTERS, usable_cores
from paramgolf.data.prepare import prepare
from paramgolf.data.preparing import PrepareOptions
from paramgolf.data.tokenizers import SentencePieceTokenizer, clean_text
from paramgolf.data.variants import install_tokenizer, parse_variant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default="stdlib")
    parser.add_argument("variant", nargs="?", default="sp1024")
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--memory-of", type=int, help="(internal) prepare so many copies and print the peak in MiB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory_of is not None:
            print(peak_memory(arguments, Path(folder)))
        else:
            table(arguments, Path(folder))


def table(arguments: argparse.Namespace, folder: Path) -> None:
    corpus = open_corpus(arguments.corpus)
    texts = [clean_text(document.text) for document in corpus.documents()]
    size = sum(len(text.encode()) for text in texts)
    tokenizer = install_tokenizer(parse_variant(arguments.variant), iter(texts), folder, corpus="bench")
    assert isinstance(tokenizer, SentencePieceTokenizer), "the comparison is with SentencePiece"
    tokens = sum(map(len, tokenizer.encode(texts)))
    workers = arguments.workers
    lots = list(lots_of(texts))
    with ProcessPoolExecutor(workers, initializer=load_in_process, initargs=(str(tokenizer.path),)) as pool:
        ways: dict[str, Callable[[], None]] = {
            f"SentencePiece, {workers} threads": lambda: tokenizer.processor.encode(texts, num_threads=workers),
            f"SentencePiece, {workers} processes": lambda: [None for _ in pool.map(encode_in_process, lots)],
            f"prepare, {workers} threads": lambda: prepare_once(
                corpus, folder / "out", f"sp{tokenizer.vocab}={tokenizer.path}", workers
            ),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.runs + 1):
            for way, run in ways.items():
                began = time.perf_counter()
                run()
                seconds[way].append(time.perf_counter() - began)
    base = statistics.median(next(iter(seconds.values()))[1:])
    print(f"{corpus.name}: {len(texts):,} documents, {size / 1e6:.1f} MB of text, {tokens:,} tokens, {tokenizer.name}")
    print(f"{'':32} {'seconds':>8} {'MB/s':>7} {'Mtokens/s':>10} {'ratio':>6}")
    for way, taken in seconds.items():
        median = statistics.median(taken[1:])  # the first run warms caches and starts processes
        print(f"{way:32} {median:8.3f} {size / median / 1e6:7.1f} {tokens / median / 1e6:10.2f} {base / median:6.2f}")
    for copies in (1, arguments.repeat):
        command = [sys.executable, __file__, arguments.corpus, str(tokenizer.path), "--memory-of", str(copies)]
        ran = subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True, text=True)
        print(f"peak memory, {copies:3} x the text ({copies * size / 1e6:8.1f} MB): {ran.stdout.strip()}")


def lots_of(texts: list[str]) -> Iterator[list[str]]:
    """`texts` in lots of the size that the preparation works with."""
    held: list[str] = []
    for text in texts:
        held.append(text)
        if sum(map(len, held)) >= BATCH_CHARACTERS:
            yield held
            held = []
    yield held


def load_in_process(model: str) -> None:
    global loaded
    loaded = SentencePieceTokenizer(model, threads=1)


def encode_in_process(texts: list[str]) -> np.ndarray:
    return np.concatenate(loaded.encode(texts)) if texts else np.empty(0, np.uint16)


def prepare_once(corpus: Corpus, out: Path, variant: str, workers: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    options = PrepareOptions(workers=workers, val_documents=None if corpus.has_split else 50)
    prepare(corpus, out, variant=variant, options=options)


def peak_memory(arguments: argparse.Namespace, folder: Path) -> str:
    """What a process needs before it reads anything, and at its peak."""
    corpus = open_corpus(arguments.corpus)
    copies = corpus.sources * arguments.memory_of
    before = resident()
    # Duplicates are kept: copies of validation documents would be dropped.
    options = PrepareOptions(
        workers=arguments.workers, val_documents=None if corpus.has_split else 50, duplicates="keep"
    )
    prepare(replace(corpus, sources=copies), folder / "out", variant=arguments.variant, options=options)
    return f"{resident():,} MiB (with imports alone: {before:,} MiB)"


def resident() -> int:
    """Peak resident size of this process, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there may be the peak of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) >> 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main()

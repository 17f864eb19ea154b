"""Preparing with the case transform beside preparing without: CPU seconds of one thread, taken in turns.

    python benchmarks/caseops_preparation.py CORPUS PLAIN.model CASEOPS.model [--runs N]

CORPUS is what `open_corpus` takes. Both models should have the same number of pieces.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from paramgolf.data.corpora import open_corpus
from paramgolf.data.prepare import prepare
from paramgolf.data.preparing import PrepareOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("models", nargs=2)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    corpus = open_corpus(arguments.corpus)
    options = PrepareOptions(
        workers=1, duplicates="keep", overwrite=True, val_documents=None if corpus.has_split else 50
    )
    seconds: dict[str, list[float]] = {model: [] for model in arguments.models}
    tokens: dict[str, int] = {}
    for _ in range(arguments.runs):
        for model, taken in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.process_time()
                manifest = prepare(corpus, Path(folder), variant=model, options=options)
                taken.append(time.process_time() - began)
            stats = manifest.datasets[-1].stats
            tokens[model] = (stats.tokens_train or 0) + (stats.tokens_val or 0)
            size = stats.text_bytes or 0
    first = statistics.median(seconds[arguments.models[0]])
    print(f"{corpus.name}: {size / 1e6:.1f} MB of text")
    for model, taken in seconds.items():
        median = statistics.median(taken)
        speed = f"{size / median / 1e6:5.1f} MB/s, {first / median:4.2f} of the first"
        print(f"{Path(model).stem:60} {median:7.2f} CPU s, {speed}, {tokens[model]:,} tokens")


if __name__ == "__main__":
    main()

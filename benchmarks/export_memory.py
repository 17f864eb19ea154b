"""Memory of one export on the CPU, in a process that does nothing else: what each step of it holds at its peak.

    python benchmarks/export_memory.py runs/FOLDER
    python benchmarks/export_memory.py pr1855@h100 --weights FILE.safetensors --data FOLDER --calibration-tokens 16384
    python benchmarks/export_memory.py ... --pipeline record

How many tokens calibrate changes seconds and no memory: sums over them are kept, and a pass takes a few at a time.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from export_rows import OUR_CODER, OURS, RECORD, add_source_options
from process_memory import forget_peak, peak_mib

from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.lab.analysis.calibration import collected
from paramgolf.lab.analysis.subject import Source, export_settings, open_subject
from paramgolf.quant.budget import quantize_to_budget
from paramgolf.quant.plan import quantize
from paramgolf.stored import Stored
from paramgolf.techniques.quant import equal_slope
from paramgolf.train.distributed import Place

PIPELINES = {"ours": OURS, "record": RECORD}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print a line on what happens meanwhile."""
    forget_peak()
    held, began = peak_mib(), time.perf_counter()
    yield
    print(f"| {name} | {held:,} | {peak_mib():,} | {time.perf_counter() - began:.1f} |", flush=True)


def options_of_call() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_options(parser)
    parser.add_argument("--pipeline", choices=PIPELINES, default="ours")
    parser.add_argument(
        "--target-bytes", type=int, default=15_927_395, help="of ours; the record's artifact by default"
    )
    parser.add_argument("--calibration-tokens", type=int, help="as many as the run takes by default")
    parser.add_argument("--cores", type=int, help="as many matrices at once as on a machine of so many")
    parser.add_argument("--keep", type=Path, help="a file for the artifact")
    return parser.parse_args()


def main() -> None:
    """Export once and print the table."""
    options = options_of_call()
    if options.cores:
        equal_slope.processors_here = lambda: options.cores
    print("| step | held before, MiB | peak, MiB | seconds |\n|---|---|---|---|")
    with step("weights and text"):
        asked = Source(options.run, options.weights, tuple(options.settings), options.data, options.data_root)
        subject = open_subject(asked, Place(torch.device("cpu")))
    run = export_settings(subject.run, (*PIPELINES[options.pipeline], f"artifact.coder={OUR_CODER}"))
    model, expected, coder = subject.load_trained(), expected_of(subject.model), run.artifact.coder
    with step("calibration"):
        hessians = collected(subject, run.quant, options.calibration_tokens)

    def packed(stored: dict[str, Stored]) -> bytes:
        return pack(stored, expected, coder=coder, digest=run.digest)

    export = quantize_to_budget if options.pipeline == "ours" else quantize
    with step("quantizing and coding"):
        budget = options.target_bytes
        stored = export(model, run.quant, hessians, budget_bytes=budget, size=lambda kept: len(packed(dict(kept))))
        artifact = packed(stored)
    del hessians, stored
    with step("decoding"):
        unpack(artifact, expected, digest=run.digest, coders=(coder,))
    if options.keep is not None:
        options.keep.write_bytes(artifact)
    print(f"{len(artifact):,} bytes of {subject.params:,} parameters; {torch.get_num_threads()} threads of torch")


if __name__ == "__main__":
    main()

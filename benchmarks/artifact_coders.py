"""Bytes and seconds of every coder on the shapes of the published baseline with Gaussian weights.

    python benchmarks/artifact_coders.py [CODER ...] [--std 0.06] [--layers 9]
    python benchmarks/artifact_coders.py --weights FILE.safetensors --preset pr1855@h100 --set data.variant=sp8192

Excess is over the order-0 entropy of the codes, the least that a coder without context can reach. With --weights the
codes are those of trained weights on the record pipeline's grids (int6, int7 for the embedding, rows at 11.5, 13 and 14
deviations, nearest codes), and lrzip and zstd get what the record pipeline gave: matrices of a shape transposed and
together. Entropy is then taken matrix by matrix, without the cost of its tables.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from record_coder import GroupedCoder, lrzip_works
from safetensors.torch import load_file

from paramgolf import techniques  # noqa: F401  (fills the registry)
from paramgolf.artifact.arrangement import Expected
from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.artifact.ledger import artifact_ledger
from paramgolf.artifact.slots import Coder
from paramgolf.lab.analysis.subject import load_weights
from paramgolf.lab.launch import asked_run
from paramgolf.parts import Role
from paramgolf.quant.plan import QuantConfig, quantize
from paramgolf.registry import TECHNIQUES
from paramgolf.stages import fresh_model
from paramgolf.stored import Grid, Stored
from paramgolf.techniques.artifact import MixingCoder
from paramgolf.techniques.quant import Int8Rows, PlainValues, RowGridCodes, SDClip
from paramgolf.train.distributed import Place

DIGEST = "0" * 12
RECORD_GRIDS = QuantConfig(
    attention=RowGridCodes(bits=6, clip=SDClip(sigmas=13.0)),
    mlp=RowGridCodes(bits=6, clip=SDClip(sigmas=11.5)),
    embed=RowGridCodes(bits=7, clip=SDClip(sigmas=14.0)),
)
"""The record pipeline's steps, without its error feedback: no text is needed."""


def baseline_tensors(layers: int, std: float) -> tuple[dict[str, Stored], dict[str, Expected]]:
    """The baseline's parameters by shape, as it stores them."""
    torch.manual_seed(0)
    shapes = {"embed": Expected((1024, 512), Role.EMBED), "skips": Expected((layers // 2, 512), Role.SCALE)}
    for layer in range(layers):
        matrices = {"q": (512, 512), "k": (256, 512), "v": (256, 512), "o": (512, 512)}
        shapes |= {f"{name}{layer}": Expected(shape, Role.ATTENTION) for name, shape in matrices.items()}
        shapes |= {f"up{layer}": Expected((1024, 512), Role.MLP), f"down{layer}": Expected((512, 1024), Role.MLP)}
        vectors = {"gain": (8,), "attention_scale": (512,), "mlp_scale": (512,), "mix": (2, 512)}
        shapes |= {f"{name}{layer}": Expected(shape, Role.SCALE) for name, shape in vectors.items()}
    stored = {}
    for name, (shape, role) in shapes.items():
        quantizer = PlainValues(bits=32) if role is Role.SCALE else Int8Rows()
        stored[name] = quantizer(torch.randn(shape) * std, None)
    return stored, shapes


def code_entropy(stored: dict[str, Stored], expected: dict[str, Expected]) -> float:
    """Bytes of the codes at their order-0 entropy, one distribution a role."""
    total = 0.0
    for role in Role:
        grids = [weight.terms[0] for name, weight in stored.items() if expected[name].role is role]
        codes = [grid.codes.flatten() for grid in grids if isinstance(grid, Grid)]
        if codes:
            counts = torch.cat(codes).int().add(128).bincount().double()
            shares = counts[counts > 0] / counts.sum()
            total += float(-(shares * shares.log2()).sum() * counts.sum() / 8)
    return total


def timed(action: Callable[[], object], repeats: int) -> float:
    """Median seconds of `action`."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def entropy_of(stored: Stored) -> float:
    """Bytes of the codes of one matrix at their order-0 entropy."""
    grid = stored.terms[0]
    if not isinstance(grid, Grid) or not grid.codes.numel():
        return 0.0
    counts = grid.codes.flatten().int().add(128).bincount().double()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log2()).sum() * counts.sum() / 8)


def trained_table(file: Path, preset: str, settings: Sequence[str]) -> None:
    """Print the bytes of codes of trained weights by role and coder."""
    run = asked_run(preset, tuple(settings))
    model = fresh_model(run, Place(torch.device("cpu")))
    load_weights(model, load_file(file), file)
    stored, expected = quantize(model, RECORD_GRIDS), expected_of(model)
    coders: dict[str, Coder] = {"zstd 22": GroupedCoder(by="zstd"), "mixing": MixingCoder()}
    if lrzip_works():
        coders = {"lrzip -z -L9": GroupedCoder()} | coders
    else:
        print("lrzip is not installed, or does not start: left out")
    print(f"| group | codes | order-0 entropy | {' | '.join(coders)} | bits a code, last |")
    print("|---|" + "---|" * (len(coders) + 3), flush=True)
    totals = [0.0] * (len(coders) + 2)
    for role in (Role.EMBED, Role.ATTENTION, Role.MLP):
        names = [name for name in expected if expected[name].role is role]
        part, shapes = {name: stored[name] for name in names}, {name: expected[name] for name in names}
        sizes = [float(sum(weight.terms[0].arrays()[0].numel() for weight in part.values()))]
        sizes.append(sum(entropy_of(weight) for weight in part.values()))
        for coder in coders.values():
            rows = artifact_ledger(pack(part, shapes, coder=coder, digest=DIGEST), (coder,))
            sizes.append(sum(row.size for row in rows if row.kind == "codes"))
        told_sizes(role.value, sizes)
        totals = [total + size for total, size in zip(totals, sizes, strict=True)]
    told_sizes("all", totals)


def told_sizes(name: str, sizes: Sequence[float]) -> None:
    """Print a line of `trained_table`."""
    cells = " | ".join(f"{round(size):,}" for size in sizes)
    print(f"| {name} | {cells} | {8 * sizes[-1] / sizes[0]:.3f} |", flush=True)


def main() -> None:
    """Print the table."""
    names = [entry.name for entry in TECHNIQUES.values() if entry.fills == "artifact.coder"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coders", nargs="*", default=names)
    parser.add_argument("--std", type=float, default=0.06)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--weights", type=Path, help="trained weights by name")
    parser.add_argument("--preset", default="pr1855@h100", help="whose weights they are")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    if options.weights is not None:
        trained_table(options.weights, options.preset, options.settings)
        return
    stored, expected = baseline_tensors(options.layers, options.std)
    least = code_entropy(stored, expected)
    print(f"{'coder':8} {'bytes':>12} {'codes':>12} {'excess':>8} {'overhead':>8} {'pack s':>8} {'unpack s':>8}")
    for name in options.coders:
        coder = TECHNIQUES[name].config()
        start = time.perf_counter()
        data = pack(stored, expected, coder=coder, digest=DIGEST)
        seconds = time.perf_counter() - start
        rows = artifact_ledger(data)
        codes = sum(row.size for row in rows if row.kind == "codes")
        unpacking = timed(partial(unpack, data, expected, digest=DIGEST), 3)
        print(
            f"{name:8} {len(data):12,} {codes:12,} {codes / least - 1:8.2%} {rows[-1].size:8} "
            f"{seconds:8.2f} {unpacking:8.3f}"
        )


if __name__ == "__main__":
    main()

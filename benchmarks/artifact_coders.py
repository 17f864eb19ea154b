"""Bytes and seconds of every coder on the shapes of the published baseline with Gaussian weights.

    python benchmarks/artifact_coders.py [CODER ...] [--std 0.06] [--layers 9]

Excess is over the order-0 entropy of the codes, the least that a coder without context can reach.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from paramgolf import techniques  # noqa: F401  (fills the registry)
from paramgolf.artifact.arrangement import Expected
from paramgolf.artifact.container import pack, unpack
from paramgolf.artifact.ledger import artifact_ledger
from paramgolf.parts import Role
from paramgolf.registry import TECHNIQUES
from paramgolf.stored import Grid, Stored
from paramgolf.techniques.quant import Int8Rows, PlainValues

DIGEST = "0" * 12


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


def main() -> None:
    """Print the table."""
    names = [entry.name for entry in TECHNIQUES.values() if entry.fills == "artifact.coder"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("coders", nargs="*", default=names)
    parser.add_argument("--std", type=float, default=0.06)
    parser.add_argument("--layers", type=int, default=9)
    options = parser.parse_args()
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
        unpacking = timed(lambda data=data: unpack(data, expected, digest=DIGEST), 3)
        print(
            f"{name:8} {len(data):12,} {codes:12,} {codes / least - 1:8.2%} {rows[-1].size:8} "
            f"{seconds:8.2f} {unpacking:8.3f}"
        )


if __name__ == "__main__":
    main()

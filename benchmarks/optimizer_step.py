"""Time of an optimizer step on the shapes of the published baseline: stacked Muon against one matrix at a time.

    python benchmarks/optimizer_step.py [--layers 9] [--width 512] [--repeats 15] [--threads 1]

Prints medians in microseconds and ratios to the plain loop, all measured in one process, interleaved.
Runs on the GPU when there is one, and then also compiles the stacked step.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from paramgolf.optim.muon import Muon, MuonConfig
from paramgolf.optim.orthogonalize import CLASSIC, orthogonalize


def shapes(layers: int, width: int) -> list[tuple[int, int]]:
    """q, k, v, o, up, down of each layer: GQA with half the heads, MLP of twice the width."""
    half, double = width // 2, 2 * width
    return [(width, width), (half, width), (half, width), (width, width), (double, width), (width, double)] * layers


def matrices(sizes: list[tuple[int, int]], device: str) -> dict[str, Tensor]:
    made = {f"matrix{place}": torch.randn(size, device=device) * 0.02 for place, size in enumerate(sizes)}
    for matrix in made.values():
        matrix.grad = torch.randn_like(matrix)
    return made


def plain(parameters: dict[str, Tensor], dtype: torch.dtype) -> Callable[[], None]:
    """Muon as it is usually written: a loop over matrices."""
    buffers = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}

    def step() -> None:
        for name, parameter in parameters.items():
            gradient = parameter.grad
            assert gradient is not None
            buffers[name].mul_(0.95).add_(gradient)
            update = gradient.add(buffers[name], alpha=0.95)
            rows, cols = parameter.shape
            parameter.sub_(
                orthogonalize(update, (CLASSIC,) * 5, dtype).float(), alpha=0.02 * max(1, rows / cols) ** 0.5
            )

    return step


def library(parameters: dict[str, Tensor]) -> Callable[[], None]:
    """torch's own Muon (bf16, one matrix at a time)."""
    leaves = []
    for parameter in parameters.values():
        leaf = torch.nn.Parameter(parameter.clone())
        leaf.grad = parameter.grad
        leaves.append(leaf)
    optimizer = torch.optim.Muon(leaves, lr=0.02, weight_decay=0.0)
    return lambda: optimizer.step() and None


def stacked(parameters: dict[str, Tensor], config: MuonConfig, *, compiled: bool = False) -> Callable[[], None]:
    muon = Muon(parameters, config, compiled=compiled)
    return lambda: muon.step_matrices(scale=0.5, step=1000)


def microseconds(step: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e6 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's default")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    parameters = matrices(shapes(options.layers, options.width), device)
    half, full = MuonConfig(), MuonConfig(precision="float32")
    steps = {
        "one by one, bf16": plain(parameters, torch.bfloat16),
        "torch.optim.Muon": library(parameters),
        "stacked, bf16": stacked(parameters, half),
        "one by one, fp32": plain(parameters, torch.float32),
        "stacked, fp32": stacked(parameters, full),
    }
    if device == "cuda":
        steps["stacked, bf16, compiled"] = stacked(parameters, half, compiled=True)
    for step in steps.values():
        for _ in range(3):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repeats):
        for name, step in steps.items():
            times[name].append(microseconds(step, device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    count = sum(parameter.numel() for parameter in parameters.values())
    print(f"{len(parameters)} matrices, {count:,} parameters, {device}, torch {torch.__version__}")
    print(f"{'step':26}{'median µs':>12}{'best µs':>12}{'ratio':>8}")
    for name, median in medians.items():
        print(f"{name:26}{median:12,.0f}{min(times[name]):12,.0f}{median / medians['one by one, bf16']:8.2f}")


if __name__ == "__main__":
    main()

"""How far codes of Gaussian weights lie above the rate-distortion bound, by the states of their trellis.

    python benchmarks/trellis_gap.py [--weights 1000000] [--bits 3.4]

The gap is rate - ½ log2(variance / error). The rate is the entropy of the codes under one table for each grid, what a
static arithmetic coder reaches; under a single table in brackets. Seconds are of one thread, compiling left out.
"""

import argparse
import time

import numpy as np
import torch
from torch import Tensor

from paramgolf.quant.rate_distortion import Choices, PreparedMatrix, slope_of_bits
from paramgolf.trellis import PARITY_POLYNOMIALS, Trellis, odd_grid

ROWS = 2048


def entropy(codes: Tensor) -> float:
    """Bits a code under one table."""
    _, counts = codes.unique(return_counts=True)
    share = counts.double() / counts.sum()
    return -float((share * share.log2()).sum())


def measured(weight: Tensor, bits: float, choices: Choices) -> str:
    """A line of the table."""
    matrix = PreparedMatrix(weight, None, None, choices)
    slope = slope_of_bits([matrix], bits)
    matrix.at(slope)
    began = time.perf_counter()
    term = matrix.at(slope).term
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    dense = term.dense()
    decode = time.perf_counter() - began
    distance = float((dense - weight).double().square().mean() / weight.double().square().mean())
    odd = (
        odd_grid(term.codes, term.states)
        if isinstance(term, Trellis)
        else torch.zeros_like(term.codes, dtype=torch.bool)
    )
    rate = sum(entropy(term.codes[part]) * float(part.double().mean()) for part in (odd, ~odd) if part.any())
    over = 0.5 * np.log2(distance)
    cost, back = 1e9 * seconds / weight.numel(), 1e9 * decode / weight.numel()
    return f"{rate:6.3f} | {rate + over:6.4f} ({entropy(term.codes) + over:6.4f}) | {cost:6.0f} | {back:6.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=1_000_000)
    parser.add_argument("--bits", type=float, default=3.4)
    options = parser.parse_args()
    weight = torch.randn(ROWS, max(options.weights // ROWS, 1), generator=torch.Generator().manual_seed(0))
    print("states | choice | bits | gap, bits (one table) | encode, ns a weight | decode")
    for states in (1, *PARITY_POLYNOMIALS):
        for choose_rate in (False, True):
            line = measured(weight, options.bits, Choices(states=states, choose_rate=choose_rate))
            print(f"{states:4d} | {'error + bits' if choose_rate else 'error'} | {line}", flush=True)


if __name__ == "__main__":
    main()

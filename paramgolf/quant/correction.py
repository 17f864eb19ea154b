"""Low-rank factors of what quantization lost, and their codes (catalogue Q9, H24)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paramgolf.lowrank import WHOLE, Factor


class Factors(NamedTuple):
    """A product of low rank."""

    left: Tensor
    """(rows, rank)."""
    right: Tensor
    """(rank, columns), rows of norm 1."""


def best_factors(lost: Tensor, hessian: Tensor | None, rank: int) -> Factors:
    """The product A B nearest to (rows, columns) `lost`: least ‖E − A B‖², with `hessian` tr (E − AB) H (E − AB)ᵀ.

    By eigenvectors of the smaller of both squares, in double precision. `hessian` gets 1 % of its mean diagonal added.
    """
    exact = lost.double()
    root = None if hessian is None else hessian_root(hessian.double())
    seen = exact if root is None else exact @ root
    if seen.shape[0] <= seen.shape[1]:
        left = top_eigenvectors(seen @ seen.mT, rank)
        right = left.mT @ exact
    else:
        turned = top_eigenvectors(seen.mT @ seen, rank)
        left = seen @ turned
        right = turned.mT if root is None else torch.linalg.solve_triangular(root, turned.mT, upper=False, left=False)
    norms = right.norm(dim=1).clamp_min(1e-30)
    return Factors((left * norms).float(), (right / norms.unsqueeze(1)).float())


def hessian_root(hessian: Tensor) -> Tensor:
    """Lower L with L Lᵀ = H and 1 % of its mean diagonal."""
    mean = hessian.diagonal().mean().clamp_min(1e-30)
    return torch.linalg.cholesky(hessian + torch.diag(0.01 * mean.expand(len(hessian))))


def top_eigenvectors(square: Tensor, rank: int) -> Tensor:
    """(n, rank) of symmetric `square`, the strongest first; of both signs the one whose largest entry is positive."""
    vectors = torch.linalg.eigh(square).eigenvectors.flip(1)[:, :rank]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


def uneven_codes(matrix: Tensor, bits: int, group: int) -> Factor:
    """`matrix` on a grid without a middle: codes from −2^(bits−1) to 2^(bits−1) − 1, the largest magnitude of every
    `group` numbers half a step inside its ends. `group` must divide the numbers; `WHOLE`: one step for all."""
    numbers = matrix.numel() if group == WHOLE else group
    grouped = matrix.reshape(-1, numbers)
    most = 2 ** (bits - 1)
    scale = (grouped.abs().amax(1) / (most - 0.5)).half()
    return Factor(within(grouped, scale, -most, most - 1).view_as(matrix), scale.cpu(), group)


def even_codes(matrix: Tensor, bits: int) -> Factor:
    """`matrix` with one step a row and codes of ±(2^(bits−1) − 1)."""
    most = 2 ** (bits - 1) - 1
    scale = (matrix.abs().amax(1) / most).half()
    return Factor(within(matrix, scale, -most, most), scale.cpu(), matrix.shape[1])


def within(grouped: Tensor, scale: Tensor, least: int, most: int) -> Tensor:
    """Nearest codes of (groups, numbers) with steps (groups,), int8 on the CPU; zero where a step is."""
    step = scale.float().unsqueeze(1)
    return torch.where(step > 0, grouped / step, 0).round().clamp(least, most).to("cpu", torch.int8)


def weighed_loss(lost: Tensor, hessian: Tensor | None) -> float:
    """‖E‖², or tr E H Eᵀ."""
    return float((lost * (lost if hessian is None else lost @ hessian)).sum(dtype=torch.float64))


def window_sums(values: Tensor, width: int) -> Tensor:
    """Sums of every `width` neighbours of a vector."""
    until = F.pad(values.double().cumsum(0), (1, 0))
    return until[width:] - until[:-width]

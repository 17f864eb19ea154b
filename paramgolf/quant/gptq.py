"""Error feedback (GPTQ): round one column after another, and let those to come make up for what was lost.

With H = Σ x xᵀ of the inputs, H⁻¹ = Uᵀ U and U upper triangular, rounding column j of W to ŵ leaves e = (w − ŵ) / U_jj
and subtracts e · U_j,k from every later column k: the least Σ ‖(W − Ŵ) x‖² that the columns still free can reach.
Source: GPTQ, arXiv 2210.17323; quantization catalogue Q5; the factor without H⁻¹: PR #1948.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from paramgolf.errors import GolfError

RoundColumn = Callable[[Tensor, int], Tensor]
"""(rows,) values of a column and its number in the matrix -> (rows,) what is kept of them."""

MOST_DAMPING = 1e6
"""As a share of the mean diagonal, where no factorization can fail any more."""


class InverseFactor(NamedTuple):
    """What error feedback needs of a Hessian."""

    order: Tensor
    """(columns,) the columns in the order in which they are rounded."""
    upper: Tensor
    """(columns, columns) fp32 U with H⁻¹ = Uᵀ U, in that order."""

    @property
    def spread(self) -> Tensor:
        """(columns,) by column of the matrix, ℓ_j = 1 / U_jj: the input's deviation given the later ones (H17)."""
        spread = torch.empty_like(self.upper[0])
        spread[self.order] = 1 / self.upper.diagonal()
        return spread


def inverse_factor(hessian: Tensor, *, damping: float = 0.01, act_order: bool = True) -> InverseFactor:
    """The factor of (columns, columns) `hessian`, on its device.

    `damping`, a share of the mean diagonal, is added to the diagonal, ten times as much again while the matrix is not
    positive. Inputs that never came (a zero on the diagonal) count as independent of the others. `act_order`: the
    strongest inputs first. Raises `GolfError` when `hessian` is not finite.
    """
    exact = hessian.double()
    if not exact.isfinite().all():
        raise GolfError(
            "a Hessian of the calibration is not finite", fix="look for inputs that overflow: model.compute"
        )
    diagonal = exact.diagonal()
    mean = float(diagonal.mean()) if diagonal.numel() and float(diagonal.sum()) > 0 else 1.0
    exact = exact + torch.diag(torch.where(diagonal == 0, mean, 0.0))
    columns = torch.arange(len(exact), device=exact.device)
    order = exact.diagonal().argsort(descending=True, stable=True) if act_order else columns
    exact = exact[order][:, order]
    while True:
        # Flipping both ways turns the factor L of flip(H) = L Lᵀ into an upper M with H = M Mᵀ; then U = M⁻¹.
        damped = exact + torch.eye(len(exact), dtype=exact.dtype, device=exact.device) * (damping * mean)
        lower, info = torch.linalg.cholesky_ex(damped.flip(0, 1))
        if not int(info) or damping > MOST_DAMPING:
            break
        damping = max(10 * damping, 1e-6)
    unit = torch.eye(len(exact), dtype=exact.dtype, device=exact.device)
    upper = torch.linalg.solve_triangular(lower.flip(0, 1), unit, upper=True)
    return InverseFactor(order, upper.float())


def fed_back(matrix: Tensor, factor: InverseFactor, round_column: RoundColumn, *, block: int = 128) -> Tensor:
    """(rows, columns) what `round_column` keeps of each column of fp32 `matrix`, given what the earlier ones lost.

    `round_column` is called once a column, in the order of `factor`. Within `block` columns a loss is passed on at
    once, to those after the block in one matrix product: the size changes the time, not the outcome.
    """
    order, upper = factor
    # Columns lie in rows here, so that each is read and written in one piece.
    waiting = matrix.float().mT[order].contiguous()
    kept = torch.empty_like(waiting)
    numbers = order.tolist()
    pivots = upper.diagonal().tolist()
    for start in range(0, len(waiting), block):
        end = min(start + block, len(waiting))
        here, passed = waiting[start:end], upper[start:end]
        lost = torch.empty_like(here)
        for place in range(end - start):
            kept[start + place] = round_column(here[place], numbers[start + place])
            torch.sub(here[place], kept[start + place], out=lost[place])
            lost[place] /= pivots[start + place]
            here[place + 1 :].addr_(passed[place, start + place + 1 : end], lost[place], alpha=-1)
        if end < len(waiting):
            waiting[end:].addmm_(passed[:, end:].mT, lost, alpha=-1)
    back = torch.empty_like(kept)
    back[order] = kept
    return back.mT.contiguous()


def gptq_codes(
    weight: Tensor,
    hessian: Tensor,
    scale: Tensor,
    *,
    limit: int | Tensor,
    damping: float = 0.01,
    act_order: bool = True,
    block: int = 128,
) -> Tensor:
    """(rows, columns) whole numbers, fp32, within ±`limit` that make up `weight` on a grid, with error feedback.

    `scale` is the step of each row (rows,), or of each weight (rows, columns); `limit` may be given by column
    (columns,). Columns whose input never came become zero. Raises `GolfError` for a Hessian that is not finite.
    """
    rows, columns = weight.shape
    steps = (scale if scale.ndim == 2 else scale.unsqueeze(1)).float().expand(rows, columns)
    limits = torch.as_tensor(limit, dtype=torch.float32, device=weight.device).expand(columns)
    matrix = torch.where(hessian.diagonal() > 0, weight.float(), 0)
    if not off_diagonal(hessian):
        return codes_on(matrix, steps, limits)
    by_column = scale.ndim == 2 and scale.shape[1] > 1
    turned = steps.mT.contiguous() if by_column else steps[:, 0]
    bounds = limits.tolist()
    codes = torch.empty_like(matrix.mT, memory_format=torch.contiguous_format)

    def round_column(values: Tensor, column: int) -> Tensor:
        step = turned[column] if by_column else turned
        torch.div(values, step, out=codes[column])
        codes[column].nan_to_num_(nan=0.0).round_().clamp_(-bounds[column], bounds[column]).mul_(step > 0)
        return codes[column] * step

    fed_back(matrix, inverse_factor(hessian, damping=damping, act_order=act_order), round_column, block=block)
    return codes.mT.contiguous()


def off_diagonal(hessian: Tensor) -> bool:
    """Whether any two inputs go together; where none do, there is nothing to feed back."""
    return int(hessian.count_nonzero()) > int(hessian.diagonal().count_nonzero())


def codes_on(matrix: Tensor, steps: Tensor, limits: Tensor) -> Tensor:
    """(rows, columns) nearest whole multiples of `steps` (rows, columns) within ±`limits` (columns,)."""
    codes = torch.where(steps > 0, matrix / steps, 0).round()
    return torch.maximum(torch.minimum(codes, limits), -limits)

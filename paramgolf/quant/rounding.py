"""The arithmetic that quantizers share: quantiles of rows and nearest codes."""

from math import floor

import torch
from torch import Tensor


def row_quantile(matrix: Tensor, share: float) -> Tensor:
    """(rows,) quantile of every row, linear between the order statistics, for rows of any length.

    `torch.quantile` sorts whole rows, and up to some version refuses more than 16 M elements; quantiles near 1 need
    only the largest few of a row.
    """
    place = share * (matrix.shape[1] - 1)
    largest = matrix.topk(matrix.shape[1] - floor(place), dim=1).values
    below, above = largest[:, -1], largest[:, max(largest.shape[1] - 2, 0)]
    return below + (above - below) * (place - floor(place))


def nearest_codes(matrix: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    """(rows, columns) codes nearest to `matrix` on the grid of the fp16 (rows,) `scale`; zero where a scale is."""
    limit = 2 ** (bits - 1) - 1
    step = scale.float().unsqueeze(1)
    codes = torch.where(step > 0, matrix / step, 0).round().clamp(-limit, limit)
    return codes.to(torch.int8 if bits <= 8 else torch.int16)

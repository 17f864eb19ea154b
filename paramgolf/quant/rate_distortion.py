"""One matrix as codes that cost the least of error and bits together, error feedback included (catalogue H17 to H22).

A change d of row r costs a token g_r/2 · d H dᵀ nats; with error feedback that is g_r/2 · sum of l_j² e_rj², where e is
the error left at column j in the order of processing and l_j the diagonal of the Cholesky factor of H. At a slope of s
nats a bit every error is then worth the same when step_rj = sqrt(2 s · c / g_r) / l_j: for a plain grid high-rate
theory has c = 12 / (2 ln 2). Where steps are coarse, cheap codes are preferred at the same slope.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paramgolf.quant.rate_table import LEAST_RATIO, MOST_CODE, RATIO_PARTS, RATIOS, code_bits, mean_bits
from paramgolf.stepped import BASE_LIMIT, SHRINK_PARTS, Stepped, nearest_steps, step_values
from paramgolf.trellis import Trellis, state_entries

PLAIN_WORTH, TRELLIS_WORTH = 0.1155, 0.32
"""Squared steps that a bit is worth: 2 ln 2 / 12 by high-rate theory, and what loses least on Gaussian weights."""

COARSEST = 4.0
"""Deviations of a weight that its step is at most, about."""
MOST_OCTAVES = 15
"""That a row's step may lie above the base; a byte holds almost 16."""
BITS_IGNORED = 2.0**16
"""By how much errors outweigh bits where only errors choose."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What is made use of."""

    states: int = 1
    """Of the trellis; 1 for a plain grid."""
    rows: Literal["none", "deviation", "curvature"] = "none"
    """What the steps of rows follow: nothing, the deviation of the row, or its curvature."""
    columns: bool = False
    """Whether steps of columns follow the Cholesky factor."""
    choose_rate: bool = False
    """Whether bits count when a code is chosen."""
    feedback: bool = True
    """Whether errors are fed back."""
    recenter: bool = False
    """Whether points are refitted to what was rounded to them."""
    damping: float = 0.01
    """Added to the diagonal of the Hessian, relative to its mean."""


class Surroundings(NamedTuple):
    """What is known of a matrix beside its weights."""

    factor: Tensor
    """(columns, columns) fp32 upper U with Uᵀ U the inverse Hessian, in the order of processing."""
    root: Tensor
    """(columns, columns) fp32 inverse of `factor`: the Hessian is it times its transpose."""
    order: Tensor
    """(columns,) the column that comes at each place."""
    rows: Tensor
    """(rows,) fp64 curvature of each row."""


class CodedMatrix(NamedTuple):
    """A matrix as it is kept, and the bits that were expected of its codes."""

    term: Stepped
    bits: float


def surroundings(weight: Tensor, hessian: Tensor | None, rows: Tensor | None, damping: float) -> Surroundings:
    """Columns in falling order of the Hessian's diagonal, factored after damping; ones where nothing is known."""
    height, width = weight.shape
    curvature = torch.ones(height, dtype=torch.float64) if rows is None else rows.double().cpu()
    if hessian is None or width == 0:
        one = torch.eye(width)
        return Surroundings(one, one, torch.arange(width), curvature)
    diagonal = hessian.diagonal().double().cpu()
    order = diagonal.argsort(descending=True, stable=True)
    # H = M Mᵀ with M upper, by factoring H backwards: then U = M⁻¹, and no inverse of H is formed (PR #1948). A
    # dozen matrices are factored at once: what has been used goes.
    backwards = order.flip(0)
    damped = hessian.cpu()[backwards.unsqueeze(1), backwards].double()
    damped.diagonal().add_(max(damping * float(diagonal.mean()), 1e-30))
    backwards_root = torch.linalg.cholesky(damped)
    del damped
    root = backwards_root.flip(0, 1)
    del backwards_root
    factor = torch.linalg.solve_triangular(root, torch.eye(width, dtype=torch.float64), upper=True)
    return Surroundings(factor.float(), root.float(), order, curvature)


class StepPlan(NamedTuple):
    """Steps rounded to eighths of an octave."""

    base: float
    row_steps: Tensor | None
    column_steps: Tensor | None
    """In the order of the weight, not of processing."""


class StepShape(NamedTuple):
    """Unrounded steps at a slope of 1: base · rows · columns, the latter two with a geometric mean of 1."""

    base: float
    rows: Tensor
    columns: Tensor


def step_shape(weight: Tensor, known: Surroundings, choices: Choices) -> StepShape:
    """Steps that make every error worth the same, as far as `choices` lets them vary."""
    lengths = torch.empty(weight.shape[1], dtype=torch.float64)
    lengths[known.order] = known.root.diagonal().double()
    worth = PLAIN_WORTH if choices.states == 1 else TRELLIS_WORTH
    nats = usable(known.rows)
    by_row = nats.rsqrt() if choices.rows == "curvature" else nats.mean().rsqrt().expand(len(nats))
    if choices.rows == "deviation":
        deviation = weight.double().square().mean(1).sqrt()
        by_row = by_row * (deviation / deviation.square().mean().sqrt().clamp_min(1e-30)).clamp_min(1e-6)
    by_column = 1 / (lengths if choices.columns else lengths.square().mean().sqrt().expand(len(lengths)))
    row_middle, column_middle = (values.log().mean().exp() for values in (by_row, by_column))
    base = (2 / worth) ** 0.5 * float(row_middle * column_middle)
    return StepShape(base, by_row / row_middle, by_column / column_middle)


def usable(curvature: Tensor) -> Tensor:
    """`curvature` of rows, kept away from zero: a row that calibration never moved is not free."""
    return curvature.clamp_min(float(curvature.mean()) * 1e-6).clamp_min(1e-300)


def planned_steps(weight: Tensor, shape: StepShape, slope: float, choices: Choices) -> StepPlan:
    """The steps at `slope`, no row needing a code that a byte does not hold: its steps are then wider."""
    shape = bounded_shape(weight, shape, shape.base * slope**0.5)
    column_steps = nearest_steps(shape.columns) if choices.columns else None
    units = weight if column_steps is None else weight / step_values(column_steps)
    # Twice what there is, as errors are fed into it; a code of a trellis spans two steps.
    needed = units.abs().amax(1).double() * ((2 if choices.states == 1 else 1) / MOST_CODE)
    base = shape.base * slope**0.5
    if choices.rows == "none":
        return StepPlan(fitting_base(max(base, float(needed.max()))), None, column_steps)
    base = fitting_base(max(base, float(needed.max()) * 2.0**-MOST_OCTAVES))
    return StepPlan(base, nearest_steps(shape.rows.maximum(needed / base)), column_steps)


def bounded_shape(weight: Tensor, shape: StepShape, base: float) -> StepShape:
    """`shape` without steps far beyond the weights they are of, at `base`.

    Where calibration saw next to nothing of an input, or of an output's worth, the Hessian forgives any error; other
    text does not. Weights that are not worth a bit are zero with a step of some deviations as with a larger one.
    """
    by_row, by_column = (scale.double().clamp_min(1e-30) for scale in deviations(weight))
    row_share, column_share = shape.rows / by_row, shape.columns / by_column
    columns = shape.columns.minimum(COARSEST * by_column / (base * row_share.median()))
    rows = shape.rows.minimum(COARSEST * by_row / (base * column_share.median()))
    return shape._replace(rows=rows, columns=columns)


def fitting_base(base: float) -> float:
    """The fp32 number next to `base` that a term takes."""
    return float(torch.tensor(min(max(base, 2 / BASE_LIMIT), BASE_LIMIT / 2), dtype=torch.float32))


class PreparedMatrix:
    """A matrix with all that does not depend on the slope, to be coded at several."""

    def __init__(self, weight: Tensor, hessian: Tensor | None, rows: Tensor | None, choices: Choices) -> None:
        self.weight = weight
        self.choices = choices
        self.known = surroundings(weight, hessian, rows, choices.damping)
        self.empty = not weight.numel()

    def at(self, slope: float) -> CodedMatrix:
        """The matrix as stepped codes at `slope` nats a bit."""
        weight, choices = self.weight, self.choices
        if self.empty:
            nothing = Stepped(codes=weight.to(torch.int8), row_steps=None, column_steps=None, base=1.0)
            return CodedMatrix(nothing, 0.0)
        plan = planned_steps(weight, step_shape(weight, self.known, choices), slope, choices)
        row_step = torch.full((len(weight),), plan.base) * (
            1 if plan.row_steps is None else step_values(plan.row_steps)
        )
        column_step = torch.ones(weight.shape[1]) if plan.column_steps is None else step_values(plan.column_steps)
        codes, bits = choose_codes(weight, self.known, (row_step, column_step), slope, choices)
        term = Stepped(codes=codes, row_steps=plan.row_steps, column_steps=plan.column_steps, base=plan.base)
        if choices.states > 1:
            term = Trellis(**vars(term), states=choices.states)
        return CodedMatrix(recentered(term, weight, self.known) if choices.recenter else term, bits)

    def ratios(self) -> npt.NDArray[np.float64]:
        """Binary logarithms of deviation by step at a slope of 1, for some rows and columns."""
        shape = step_shape(self.weight, self.known, self.choices)
        parts = zip(deviations(self.weight), (shape.base * shape.rows, shape.columns), strict=True)
        by_row, by_column = (
            (scale / step)[:: max(len(step) // 128, 1)].clamp_min(1e-30).log2() for scale, step in parts
        )
        return by_row.unsqueeze(1).numpy() + by_column.numpy()


def choose_codes(
    weight: Tensor, known: Surroundings, steps: tuple[Tensor, Tensor], slope: float, choices: Choices
) -> tuple[Tensor, float]:
    """(rows, columns) int8 codes, and the bits expected of them."""
    # Imported late: numba is slow to import, and most commands quantize nothing.
    from paramgolf.quant.search import ColumnFacts, RowFacts, StateMachine, choose_columns

    row_step, column_step = steps
    order = known.order
    diagonal = known.factor.diagonal()
    # In bits: half of g_r l_j² step² nats, over nats a bit; or so many that bits are nothing beside errors.
    nats_a_bit = slope if choices.choose_rate else slope / BITS_IGNORED
    row_weight = (usable(known.rows) * row_step.double().square() / (2 * nats_a_bit)).float().numpy()
    column_weight = (column_step[order].double() / diagonal.double()).square().float().numpy()
    scale = deviations(weight)
    row_ratio = ((scale[0] / row_step).clamp_min(1e-30).log2() - LEAST_RATIO) * RATIO_PARTS
    column_ratio = (scale[1] / column_step)[order].clamp_min(1e-30).log2() * RATIO_PARTS
    table = code_bits(trellis=choices.states > 1).float().numpy()
    machine = state_entries(choices.states) if choices.states > 1 else (np.zeros((1, 2), np.int32),) * 2
    rows = RowFacts(row_step.numpy(), row_weight, row_ratio.numpy())
    # The plain copy in columns × rows: every column of it lies in one piece, and feedback adds whole columns.
    values = weight[:, order].T.contiguous().numpy().copy()
    factor = known.factor if choices.feedback else diagonal.diag()
    columns = ColumnFacts(column_step[order].numpy(), column_weight, column_ratio.numpy())
    codes, spent = choose_columns(values, factor.numpy(), rows, columns, table, StateMachine(*machine))
    found = torch.empty(weight.shape, dtype=torch.int8)
    found[:, order] = torch.from_numpy(codes).T
    return found, spent


def deviations(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(rows,) and (columns,): factors whose product is about the deviation of each weight from zero."""
    square = weight.square()
    whole = square.mean().clamp_min(1e-30) if weight.numel() else torch.tensor(1.0)
    return (square.mean(1) / whole.sqrt()).sqrt(), (square.mean(0) / whole.sqrt()).sqrt()


def recentered(term: Stepped, weight: Tensor, known: Surroundings) -> Stepped:
    """`term` with the base and the shrinkage that leave the least error, by least squares in these two."""
    signs = term.integers().sign().float() * unit_steps(term)
    heavy = usable(known.rows).sqrt().unsqueeze(1)
    whole, sign, wanted = (
        ((part.double() * heavy).float()[:, known.order] @ known.root).double().flatten()
        for part in (term.dense(), signs, weight)
    )
    products = torch.stack((whole @ whole, whole @ sign, sign @ sign, whole @ wanted, sign @ wanted)).tolist()
    both = products[0] * products[2] - products[1] ** 2
    if both <= 1e-9 * products[0] * products[2]:
        return term
    scale = (products[3] * products[2] - products[4] * products[1]) / both
    shift = -(products[4] * products[0] - products[3] * products[1]) / both
    if not 0.5 < scale < 2:
        return term
    shrink = min(max(round(SHRINK_PARTS * shift / scale), 0), SHRINK_PARTS - 1)
    if not shrink:
        scale = products[3] / products[0]
    return replace(term, base=float(torch.tensor(term.base * scale)), shrink=shrink)


def unit_steps(term: Stepped) -> Tensor:
    """(rows, columns) fp32: what an integer of 1 stands for before shrinking."""
    rows, columns = term.codes.shape
    by_row = torch.ones(rows) if term.row_steps is None else step_values(term.row_steps)
    by_column = torch.ones(columns) if term.column_steps is None else step_values(term.column_steps)
    return term.base * by_row.unsqueeze(1) * by_column


def slope_of_bits(matrices: Sequence[PreparedMatrix], bits: float) -> float:
    """The one slope at which `matrices` are expected to spend `bits` a weight, by the table of bits alone."""
    some = [(matrix.weight.numel(), matrix.ratios(), matrix.choices) for matrix in matrices if matrix.weight.any()]
    total = sum(weights for weights, _, _ in some)
    means = {states: mean_bits(code_bits(trellis=states > 1)).numpy() for states in {item[2].states for item in some}}
    ratios = LEAST_RATIO + np.arange(RATIOS) / RATIO_PARTS
    # Steps grow with the root of the slope.
    low, high = -150.0, 150.0
    for _ in range(40 if some else 0):
        middle = (low + high) / 2
        spent = sum(n * np.interp(at_one - middle / 2, ratios, means[c.states]).mean() for n, at_one, c in some)
        low, high = (middle, high) if spent > bits * total else (low, middle)
    return float(2**low) if some else 1.0

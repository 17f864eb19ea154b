"""How many bytes an artifact will have, before anything is trained.

Where a finished run was trained and exported by the same rules, its bits by stream hold for any model of them. Else
Gaussian weights are drawn at the size that training gives them and exported by the run's own quantizers and coder, a
few tensors of each shape standing for all.

Steps tied to a row's deviation (SDClip and what follows it) make that size nothing to the outcome: every matrix of a
real pr1855 under GPTQ and SDClip had the entropy of Gaussian weights to 0.3 %, but for three value projections (0.9 %).
Steps of a fixed width, as int8 rows have below a magnitude of one, take log2 of that size in bits. It follows from the
optimizer: how far momentum carries a walk, and how large its polynomials leave an update, give that of every matrix to
an eighth, 0.17 of 7 bits; embeddings are known to as much.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from paramgolf.artifact.arrangement import Expected, label_of, pieces_of
from paramgolf.artifact.container import pack
from paramgolf.artifact.header import ROLE_IDS, TermForm
from paramgolf.artifact.ledger import OVERHEAD, LedgerRow, artifact_ledger
from paramgolf.config import differences
from paramgolf.errors import UsageError
from paramgolf.folder import RunFolder
from paramgolf.lab.launch import run_of
from paramgolf.lab.results import past_runs
from paramgolf.model.gpt import GPT
from paramgolf.optim.adam import AdamConfig
from paramgolf.optim.groups import GROUP_OF, Group
from paramgolf.optim.muon import MuonConfig
from paramgolf.optim.orthogonalize import orthogonalize
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Role
from paramgolf.quant.slots import QuantItem
from paramgolf.run import Run
from paramgolf.stored import Piece, Stored, StreamKind, rows_and_columns

MATRIX_GROWTH, ADAM_GROWTH = 0.87, 0.8
"""Size of trained weights over that of the random walk that updates make of white gradients: real ones turn back.

Measured: for matrices 0.83 to 0.92 in the demo after 1,000 steps and 0.79 to 0.94 in pr1855 after 1,148, 0.87 in the
mean of either; for embeddings 0.71 and 0.88."""
LARGEST_SAMPLE = 512
"""Rows and columns at most of the matrix on which the size of an orthogonal update is tried."""
SAMPLE_WEIGHTS = 1 << 19
"""Weights of one shape and role that are drawn, at least, where there are so many."""
INDIFFERENT = ("name", "seed", "model.layers", "evaluate.protocol", "evaluate.batch_tokens")
"""Settings in which another run may differ and still tell bits by stream."""
SCHEDULE_POINTS = 400
"""Steps that the schedule is looked at."""


class ArtifactGuess(NamedTuple):
    """An expected size and where it comes from."""

    bytes: int
    basis: str


class Shape(NamedTuple):
    """Parameters that are alike."""

    role: Role
    shape: tuple[int, ...]
    copies: int
    rms: float
    """Root mean square of the weights when they start."""


def guess_artifact(run: Run, *, steps: int, runs: Path, code: int) -> ArtifactGuess:
    """The expected size of the artifact of `run` after `steps`; `code` bytes count against the same budget."""
    budget = run.contest.artifact_bytes - code
    if run.quant.fill or getattr(run.quant.allocate, "needs_curvature", False):
        return ArtifactGuess(budget, "export fills what the contest leaves beside the code")
    # One generator for all: tensors drawn alike would be repeats to a coder.
    generator = torch.Generator().manual_seed(run.seed)
    drawn = [draw(run, item, steps, generator) for item in alike(run)]
    like = newest_alike(run, runs)
    ratios = coded_shares(artifact_ledger(like.artifact.read_bytes())) if like else {}
    sizes = whole_sizes(drawn)
    if like and sizes.keys() <= ratios.keys():
        total = sum(ratios[label] * size for label, size in sizes.items())
        return ArtifactGuess(
            round(total), f"bits by stream of {like.path.name}, trained and exported by the same rules"
        )
    total = sampled_bytes(run, drawn)
    return ArtifactGuess(total, "Gaussian ones of a trained model's size, stored by the run's own quantizers and coder")


def alike(run: Run) -> Iterator[Shape]:
    """The parameters of `run` by role and shape; initial weights are made for one of each."""
    counts: dict[tuple[Role, tuple[int, ...]], int] = {}
    starts: dict[tuple[Role, tuple[int, ...]], float] = {}
    with torch.device("meta"):
        model = GPT(run.model)
    for module in model.modules():
        specs = getattr(module, "specs", {})
        for name, spec in specs.items():
            key = (spec.role, tuple(getattr(module, name).shape))
            counts[key] = counts.get(key, 0) + 1
            if key not in starts and math.prod(key[1]):
                tensor = torch.empty(key[1])
                spec.init(tensor)
                starts[key] = float(tensor.square().mean().sqrt())
    for (role, shape), count in counts.items():
        yield Shape(role, shape, count, starts.get((role, shape), 0.0))


def trained_rms(run: Run, item: Shape, steps: int) -> float:
    """Root mean square of the weights of `item` after `steps`: what is left of the start, and a correlated walk."""
    group = GROUP_OF[item.role]
    adam = {Group.TOKEN: run.optim.token, Group.HEAD: run.optim.head, Group.SCALAR: run.optim.scalar}
    config = run.optim.matrix if group is Group.MATRIX else adam[group]
    points = min(SCHEDULE_POINTS, max(steps, 1))
    stride = steps / points
    left, walked = item.rms**2, 0.0
    size = config.lr if isinstance(config, AdamConfig) else config.lr * direction_rms(config, item.shape)
    for number in range(points):
        step = number * stride
        scale = run.optim.schedule(Progress(fraction=number / points, step=round(step), left=steps - step))
        kept = (1 - scale * config.lr * config.weight_decay) ** (2 * stride)
        left *= kept
        together = 1.0 if isinstance(config, AdamConfig) else correlation_of_steps(config, step)
        walked = walked * kept + stride * (scale * size * together) ** 2
    growth = ADAM_GROWTH if isinstance(config, AdamConfig) else MATRIX_GROWTH
    return math.sqrt(left + growth**2 * walked)


def direction_rms(config: MuonConfig, shape: tuple[int, ...]) -> float:
    """Root mean square of an update of Muon at a rate of 1, tried on noise: its polynomials may leave a tenth."""
    rows, columns = rows_and_columns(shape)
    shrunk = max(rows, columns) / min(LARGEST_SAMPLE, max(rows, columns, 1))
    sample = (1, max(round(rows / shrunk), 1), max(round(columns / shrunk), 1))
    noise = torch.randn(sample, generator=torch.Generator().manual_seed(0))
    direction = orthogonalize(noise, config.quintics(config.steps), torch.float32)
    return float(direction.float().square().mean().sqrt()) * math.sqrt(max(1.0, rows / columns) / shrunk)


def correlation_of_steps(config: MuonConfig, step: float) -> float:
    """How much farther a walk gets whose steps are those of momentum on white gradients than one of unrelated steps.

    The sum of a step's correlations with all others: 1 / (1 - μ)² over the mean square of g + μ·buf, or of buf.
    """
    momentum = config.momentum_at(round(step))
    square = 1 / (1 - momentum**2)
    if config.nesterov:
        square = 1 + 2 * momentum + momentum**2 * square
    return math.sqrt(1 / square) / (1 - momentum)


class Drawn(NamedTuple):
    """Parameters that are alike with some that stand for them."""

    item: Shape
    shape: tuple[int, ...]
    """Of each that stands for them: all of a tensor, or a part of its rows."""
    weights: tuple[Tensor, ...]
    stored: tuple[Stored, ...]


@torch.no_grad()
def draw(run: Run, item: Shape, steps: int, generator: torch.Generator) -> Drawn:
    """Gaussian tensors that stand for `item`, as the run stores them."""
    size, shape = math.prod(item.shape), item.shape
    if size > SAMPLE_WEIGHTS and len(shape) == 2:
        shape = (max(SAMPLE_WEIGHTS // shape[1], 1), shape[1])
    copies = min(item.copies, max(SAMPLE_WEIGHTS // max(size, 1), 1))
    quantizer, rms = run.quant.quantizer(item.role), trained_rms(run, item, steps)
    hessian = torch.eye(shape[-1]) if quantizer.needs_hessian and shape else None
    weights = tuple(rms * torch.randn(shape, generator=generator) for _ in range(copies))
    return Drawn(item, shape, weights, tuple(quantizer(weight, hessian) for weight in weights))


def whole_sizes(drawn: Iterable[Drawn]) -> dict[tuple[str, str], float]:
    """Bytes before coding of all parameters, by role and kind of stream, as the ledger names them."""
    sizes: dict[tuple[str, str], float] = {}
    for each in drawn:
        rows, whole_rows = rows_and_columns(each.shape)[0], rows_and_columns(each.item.shape)[0]
        for stored in each.stored:
            for term in stored.terms:
                form = TermForm(term.identity, term.settings)
                for piece in pieces_of(form, each.shape):
                    by_row = len(piece.shape) > 1 or piece.shape == (rows,) or piece.kind is StreamKind.PACKED
                    share = each.item.copies / len(each.stored) * (whole_rows / max(rows, 1) if by_row else 1.0)
                    label = ledger_name(piece, each.item.role)
                    sizes[label] = sizes.get(label, 0.0) + share * piece.size
    return {label: size for label, size in sizes.items() if size}


def ledger_name(piece: Piece, role: Role) -> tuple[str, str]:
    """Role and kind of the stream that an array of a parameter of `role` lies in, as the ledger spells them."""
    shared = ROLE_IDS[label_of(piece, role).role]
    return shared.value if shared else "all", piece.kind.value


def coded_shares(ledger: Iterable[LedgerRow]) -> dict[tuple[str, str], float]:
    """What a byte of each stream came to by coding."""
    return {(row.group, row.kind): row.size / row.raw_size for row in ledger if row.raw_size and row.group != OVERHEAD}


def sampled_bytes(run: Run, drawn: Sequence[Drawn]) -> int:
    """The size of an artifact of which `drawn` is a part; what refinements add is counted as it is for the part."""
    items: list[QuantItem] = []
    stored: dict[str, Stored] = {}
    expected: dict[str, Expected] = {}
    for number, each in enumerate(drawn):
        role, quantizer = each.item.role, run.quant.quantizer(each.item.role)
        for copy, weight in enumerate(each.stored):
            name = f"{number}.{copy}"
            hessian = torch.eye(each.shape[-1]) if each.shape else None
            items.append(QuantItem(name, role, each.weights[copy], hessian, quantizer))
            stored[name] = weight
            expected[name] = Expected(each.shape, role)

    def packed(kept: Mapping[str, Stored]) -> bytes:
        return pack(kept, expected, coder=run.artifact.coder, digest=run.digest)

    plain = packed(stored)
    refined: Mapping[str, Stored] = stored
    for refinement in run.quant.refine:
        refined = refinement(items, refined, None, lambda kept: len(packed(kept)))
    ledger = artifact_ledger(plain)
    shares = coded_shares(ledger)
    header = sum(row.size for row in ledger if row.group == OVERHEAD)
    added = len(packed(refined)) - len(plain) if run.quant.refine else 0
    return header + added + round(sum(shares[label] * size for label, size in whole_sizes(drawn).items()))


def newest_alike(run: Run, runs: Path) -> RunFolder | None:
    """The newest finished run below `runs` that differs in nothing that matters to bits by stream."""
    fitting = []
    for past in past_runs(runs):
        folder = RunFolder(past.folder)
        if past.result is None or not folder.artifact.exists():
            continue
        try:
            kept = run_of(folder)
        except UsageError:  # of a version whose settings were others
            continue
        if all(change.path in INDIFFERENT for change in differences(kept, run)):
            fitting.append((folder.artifact.stat().st_mtime, folder))
    return max(fitting, key=lambda item: item[0])[1] if fitting else None

"""Curvature of the loss: how much an error in each weight costs, as rows times columns (catalogue H18, H19).

The loss of all tokens rises by g_r/2 · d H dᵀ when row r of a matrix is off by d: H = Σ x xᵀ over its inputs, g_r the
mean square of the loss's derivative by output r (Fisher information, in the Kronecker form of K-FAC, arXiv 1503.05671).
Targets are drawn from the model's own predictions, which makes the square of the gradient an unbiased measure of
curvature; for the head the mean over draws is known, p (1 - p). A tied embedding is also looked up: row v then adds its
frequency times the mean square of the gradient of what is looked up.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.errors import GolfError
from paramgolf.parts import Role, declared, frozen_weights
from paramgolf.quant.host_memory import give_back_memory
from paramgolf.quant.matrices import finite_total, head_name, hung, projections
from paramgolf.quant.slots import CalibratedModel

PASS_TOKENS = 16_384
"""Tokens of one backward pass: it runs uncompiled, so that an activation weighs more than in training."""
CPU_PASS_TOKENS = 2048
"""The same on a CPU, whose memory is what an export can be short of; rows are kept whole."""
LARGE_MODEL = 1 << 22
"""Weights from which on what a pass leaves is given back on a CPU."""
HEAD_LOGITS, CPU_HEAD_LOGITS = 1 << 25, 1 << 22
"""Numbers that are held at once, several times over, for the logits of some tokens."""


class Curvature(NamedTuple):
    """Of one weight: half of rows[r] · d hessian dᵀ nats is what a change d of row r adds to the loss of all tokens."""

    hessian: Tensor
    """(columns, columns) Σ x xᵀ."""
    rows: Tensor
    """(rows,) mean square of the derivative of a token's loss."""


class LookedUp(Protocol):
    """An embedding, as far as the measurement hangs itself into it."""

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, D)."""
        ...

    def head_bias(self) -> Tensor | None:
        """(V,), or something that can be added to (B, T, V) logits."""
        ...


class CurvatureWatch(nn.Module):
    """A `delta` that adds nothing and sums what it sees and what comes back."""

    def __init__(self, outputs: int, before: nn.Module | None) -> None:
        super().__init__()
        self.outputs = outputs
        self.before = before
        self.gram: Tensor | None = None
        self.squares: Tensor | None = None
        self.passes = 0
        """Inputs seen, a token counted once for every pass."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> zeros (..., out), or what the adapter before it adds."""
        flat = x.detach().reshape(-1, x.shape[-1]).float()
        gram = flat.mT @ flat
        self.gram = gram if self.gram is None else self.gram.add_(gram)
        self.passes += len(flat)
        probe = GradientProbe.apply(torch.zeros((), device=x.device, requires_grad=True), self, x)
        return probe if self.before is None else self.before(x) + probe

    def returned(self, gradient: Tensor) -> None:
        """Sum the squares of a gradient by the outputs."""
        squares = gradient.detach().reshape(-1, self.outputs).float().square().sum(0)
        self.squares = squares if self.squares is None else self.squares.add_(squares)

    def result(self, name: str) -> Curvature | None:
        """What was seen; None where no token came by."""
        if self.gram is None or self.squares is None:
            return None
        return Curvature(finite_total(name, self.gram.cpu()), finite_total(name, (self.squares / self.passes).cpu()))


class GradientProbe(torch.autograd.Function):
    """Zeros that hand their gradient to a watch; a leaf of their size would keep that until the graph is gone."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, watch: CurvatureWatch, x: Tensor) -> Tensor:
        """(), (..., in) -> (..., out); `anchor` is there to ask for a gradient."""
        ctx.watch = watch
        return x.new_zeros(()).expand(*x.shape[:-1], watch.outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        """Nothing goes further down."""
        ctx.watch.returned(*gradients)
        return None, None, None


class TableSums:
    """Sums over tokens that tell the curvature of the matrix that makes the logits and of the looked-up one."""

    def __init__(self, vocab: int, dim: int, device: torch.device) -> None:
        self.tokens = 0
        self.head_gram = torch.zeros(dim, dim, device=device)
        self.head_squares = torch.zeros(vocab, device=device)
        """Mean square of the derivative by each logit, summed."""
        self.expected = torch.zeros(vocab, device=device)
        """Probability given to each token, summed."""
        self.counts = torch.zeros(vocab, device=device)
        self.lookup_gram = torch.zeros(dim, dim, device=device)
        """δ δᵀ of the gradients by what was looked up."""

    def head(self) -> Curvature:
        """Of an output matrix of its own, one more expected token of each kind than the text held."""
        apiece = self.head_squares.sum() / self.expected.sum().clamp_min(1e-30)
        return Curvature(self.head_gram.cpu(), ((self.head_squares + apiece) / self.tokens).cpu())

    def lookup(self) -> Curvature:
        """Of a table that is only looked up; how often is told by the text and by the model in equal parts.

        One more of each than were counted: a token that a text of T tokens lacks may yet come once in T. Without that,
        8,192 tokens left rare rows of a vocabulary as large next to nothing, and their loss doubled.
        """
        return Curvature(self.lookup_gram.cpu(), ((self.counts + self.expected + 1) / (2 * self.tokens)).cpu())

    def tied(self) -> Curvature:
        """Of one matrix that is both: the rows of the sum, with the columns of its mean."""
        (head, rows), (lookup, uses) = self.head(), self.lookup()
        both = head * rows.mean() + lookup * uses.mean()
        scale = both.trace().clamp_min(1e-30)
        return Curvature(both, (rows * head.trace() + uses * lookup.trace()) / scale)


def rows_key(name: str) -> str:
    """Where the curvature of the rows of parameter `name` stands beside its Hessian."""
    return f"rows of {name}"


def collect_curvature(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """The curvature of every projection that a token reached, of the head and of the embedding.

    By parameter name the Hessian, by `rows_key` of it the rows'. Takes a forward and a backward pass of `batches`.
    Raises `GolfError` naming a parameter whose sums are not finite.
    """
    found = measured_curvature(model, (part for batch in batches for part in smaller(batch, pass_tokens(batch))))
    hessians = {name: curvature.hessian for name, curvature in found.items()}
    return hessians | {rows_key(name): curvature.rows for name, curvature in found.items()}


def pass_tokens(batch: Batch) -> int:
    """Tokens of one pass over `batch`."""
    if batch.ids.device.type != "cpu":
        return PASS_TOKENS
    return min(max(batch.ids.shape[1], CPU_PASS_TOKENS), PASS_TOKENS)


def smaller(batch: Batch, tokens: int) -> Iterator[Batch]:
    """`batch` in parts of about `tokens` at most; documents are cut where a part ends."""
    rows, length = batch.ids.shape
    for first in range(0, rows, max(tokens // length, 1)):
        some = slice(first, first + max(tokens // length, 1))
        for start in range(0, length, tokens):
            part = slice(start, start + tokens)
            edges = batch.cu_seqlens
            if edges is not None:
                edges = (edges.clamp(start, min(start + tokens, length)) - start).unique()
            yield Batch(batch.ids[some, part], batch.targets[some, part], edges, min(batch.max_seqlen, tokens))


def measured_curvature(model: nn.Module, batches: Iterable[Batch], *, seed: int = 0) -> dict[str, Curvature]:
    """The curvature of every projection that a token reached, of the head and of the embedding, by parameter name.

    Takes a forward and a backward pass of `batches`, which are on the model's device. Raises `GolfError` naming a
    parameter whose sums are not finite.
    """
    view = cast(CalibratedModel, model)
    head = head_name(model)
    weight = model.get_parameter(head)
    sums = TableSums(weight.shape[0], weight.shape[1], weight.device)
    generator = torch.Generator(weight.device).manual_seed(seed)
    # It costs a pass of the demo a third of its time, and one of pr1855 nothing.
    large = weight.device.type == "cpu" and sum(item.numel() for item in model.parameters()) >= LARGE_MODEL
    linears = projections(model)
    watches = {name: CurvatureWatch(linear.weight.shape[0], linear.delta) for name, linear in linears.items()}
    watched = partial(hung, linears, watches)
    with frozen_weights(model), torch.enable_grad():
        for batch in batches:
            with watched(), watched_lookup(view.embedding, batch.ids, sums):
                last = view.hidden(batch)
            last.backward(head_gradient(view, last.detach(), sums, generator, watched))
            # The next pass would begin beside what is left of this one's graph.
            del last
            if large:
                give_back_memory()
            sums.tokens += batch.ids.numel()
    found = {name: result for name, watch in watches.items() if (result := watch.result(name)) is not None}
    return found | table_curvature(model, head, sums)


def table_curvature(model: nn.Module, head: str, sums: TableSums) -> dict[str, Curvature]:
    """The curvature of the head and of the token embedding, which may be one."""
    roles = {name: role for name, _, role in declared(model)}
    if not sums.tokens:
        return {}
    if roles[head] is Role.EMBED:
        return {head: sums.tied()}
    tables = [name for name, role in roles.items() if role is Role.EMBED]
    return {head: sums.head()} | {name: sums.lookup() for name in tables[:1]}


def head_gradient(
    view: CalibratedModel,
    last: Tensor,
    sums: TableSums,
    generator: torch.Generator,
    watched: Callable[[], AbstractContextManager[None]],
) -> Tensor:
    """The gradient by `last` (B, T, D) of the summed loss of targets drawn from the model; adds to `sums`.

    Inside `watched`, projections before the head are watched too.
    """
    flat = last.reshape(1, -1, last.shape[-1])
    parts = []
    most = HEAD_LOGITS if flat.device.type != "cpu" else CPU_HEAD_LOGITS
    for part in flat.split(max(most // len(sums.counts), 1), dim=1):
        part = part.clone().requires_grad_()
        with watched(), probed_logits(view.embedding, part, len(sums.counts)) as probe:
            logits = view.logits(part)
            # Bounds of the logits work on each alone: the gradient of the sum is their slope.
            (bound,) = torch.autograd.grad(logits.sum(), probe, retain_graph=True)
        chances = logits.detach().softmax(-1)[0]
        if not chances.isfinite().all():
            raise GolfError(
                "the model's predictions are not finite on the text of the calibration",
                fix="look for activations that overflow; a run by the clock keeps its last good checkpoint",
            )
        sums.head_squares += (chances * (1 - chances) * bound[0].square()).sum(0)
        sums.expected += chances.sum(0)
        inputs = view.embedding.before_head(part.detach())[0].float()
        sums.head_gram += inputs.mT @ inputs
        drawn = chances.multinomial(1, generator=generator)[:, 0]
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits[0], drawn, reduction="sum"), part)
        parts.append(gradient)
    return torch.cat(parts, 1).view_as(last)


@contextmanager
def watched_lookup(embedding: object, ids: Tensor, sums: TableSums) -> Iterator[None]:
    """What is looked up carries a probe meanwhile, whose gradient `sums` takes."""
    table = cast(LookedUp, embedding)
    looked_up = table.embed
    # Where rows are projected once they are looked up, what comes back is brought to the rows themselves.
    onto_table = getattr(embedding, "onto_table", None)

    def returned(gradient: Tensor) -> None:
        flat = gradient.detach().reshape(-1, gradient.shape[-1]).float()
        if onto_table is not None:
            flat = onto_table(flat)
        sums.lookup_gram += flat.mT @ flat
        sums.counts += torch.bincount(ids.flatten(), minlength=len(sums.counts))

    def embed(ids: Tensor) -> Tensor:
        found = looked_up(ids)
        probe = torch.zeros_like(found).requires_grad_()
        probe.register_hook(returned)
        return found + probe

    table.embed = embed  # type: ignore[method-assign]
    try:
        yield
    finally:
        del table.embed


@contextmanager
def probed_logits(embedding: object, like: Tensor, vocab: int) -> Iterator[Tensor]:
    """Zeros that are added meanwhile to the (1, T, vocab) logits of `like` (1, T, D), before these are bounded."""
    table = cast(LookedUp, embedding)
    bias = table.head_bias()
    probe = like.new_zeros(1, like.shape[1], vocab, dtype=torch.float32).requires_grad_()
    table.head_bias = lambda: probe if bias is None else bias + probe  # type: ignore[method-assign]
    try:
        yield probe
    finally:
        del table.head_bias

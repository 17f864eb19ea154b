"""Low-rank adapters of test-time training: every row of a batch has its own, at every place where a layer runs.

Shapes: R rows (documents), T tokens, r rank. An adapter adds `scale · B A x` to what a module makes of `x`.
They hang on `Linear.delta`, beside the feed-forward and beside the head; taken off, the model is as it was.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.errors import UsageError
from paramgolf.evaluate.slots import LanguageModel
from paramgolf.parts import Linear, Role

AdapterTarget = Literal["q", "k", "v", "out", "mlp", "head"]
"""Where an adapter may hang: the projections of attention, the feed-forward as a whole, the logits."""

EVERY_TARGET: tuple[AdapterTarget, ...] = ("q", "k", "v", "out", "mlp", "head")


class AdapterShape(NamedTuple):
    """What adapters are made from."""

    rank: int
    alpha: float
    """The output is scaled by alpha / rank."""
    targets: tuple[AdapterTarget, ...]


class RowAdapters(nn.Module):
    """`scale · B A x`, one pair for every row and every pass of the layer it hangs on.

    The passes take turns: the first call of a forward pass is the layer's first, and so on round.
    """

    def __init__(
        self, sizes: tuple[int, int], rows: int, passes: int, shape: AdapterShape, device: torch.device
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.scale = shape.alpha / shape.rank
        self.turn = 0
        self.whole_a = [torch.empty(rows, shape.rank, sizes[0], device=device) for _ in range(passes)]
        self.whole_b = [torch.empty(rows, sizes[1], shape.rank, device=device) for _ in range(passes)]
        self.a: list[Tensor] = []
        self.b: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """(R, T, in) -> (R, T, out)."""
        turn = self.turn
        self.turn = (turn + 1) % len(self.a)
        inner = x @ self.a[turn].to(x.dtype).mT
        return (inner * self.scale) @ self.b[turn].to(x.dtype).mT

    @torch.no_grad()
    def start(self, generator: torch.Generator) -> None:
        """A uniform on ±1/sqrt(in), the same for every row; B zero, so that nothing is added."""
        for whole in self.whole_a:
            bound = self.sizes[0] ** -0.5
            whole.copy_(torch.empty(whole.shape[1:]).uniform_(-bound, bound, generator=generator))
        self.clear()

    @torch.no_grad()
    def clear(self) -> None:
        """B zero; A stays what it has learned (warm start, PR #1767)."""
        for whole in self.whole_b:
            whole.zero_()

    def take(self, rows: int) -> list[Tensor]:
        """The first `rows` rows, views of the whole, as what may learn; A of every pass, then B."""
        return [whole[:rows].detach().requires_grad_() for whole in (*self.whole_a, *self.whole_b)]

    def use(self, weights: list[Tensor]) -> None:
        """Compute with `weights` of `take`, from the first pass on."""
        self.a, self.b = weights[: len(self.whole_a)], weights[len(self.whole_a) :]
        self.turn = 0


class Aside(nn.Module):
    """A module with an adapter from its input to its output."""

    def __init__(self, inner: Any, delta: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.delta = delta

    def forward(self, x: Tensor) -> Tensor:
        """(R, T, D) -> (R, T, D)."""
        return self.inner(x) + self.delta(x)


class HeadAside(nn.Module):
    """An embedding whose head has an adapter: it rides on the bias, which is added to the logits in fp32."""

    def __init__(self, inner: Any, delta: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.delta = delta
        self.seen: Tensor | None = None

    def embed(self, ids: Tensor) -> Tensor:
        """As without an adapter."""
        return self.inner.embed(ids)

    def before_head(self, x: Tensor) -> Tensor:
        """As without an adapter; what the head will read is what the adapter reads."""
        self.seen = self.inner.before_head(x)
        return self.seen

    def head_weight(self) -> Tensor:
        """As without an adapter."""
        return self.inner.head_weight()

    def head_bias(self) -> Tensor:
        """(R, T, V): the bias, if there is one, and what the adapter adds.

        Asked before the head has read anything, it says no more than that there is a bias.
        """
        bias, seen = self.inner.head_bias(), self.seen
        if seen is None:
            return self.inner.head_weight().new_zeros(())
        self.seen = None
        added: Tensor = self.delta(seen).float()
        return added if bias is None else added + bias


class CallCount(nn.Module):
    """Stands where an adapter will hang and counts how often a forward pass comes by."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.width = 0

    def forward(self, x: Tensor) -> Tensor:
        """Adds nothing."""
        self.calls += 1
        self.width = x.shape[-1]
        return x.new_zeros(())


class AdapterPlace(NamedTuple):
    """A place where an adapter may hang."""

    hang: Callable[[nn.Module | None], None]
    """Hangs a module there; None takes it off."""
    sizes: tuple[int, int] | None
    """Channels in and out; None: out as many as come in."""


class Adapters:
    """The adapters of a model while they hang there. `adapted` makes them."""

    def __init__(self, deltas: Sequence[RowAdapters], places: Sequence[AdapterPlace], seed: int) -> None:
        self.deltas = deltas
        self.places = places
        self.seed = seed

    def start(self) -> None:
        """New adapters, always the same: A drawn, B zero."""
        generator = torch.Generator().manual_seed(self.seed)
        for delta in self.deltas:
            delta.start(generator)

    def clear(self) -> None:
        """B zero."""
        for delta in self.deltas:
            delta.clear()

    def hang(self) -> None:
        """Put them in their places."""
        for place, delta in zip(self.places, self.deltas, strict=True):
            place.hang(delta)

    def take_off(self) -> None:
        """Leave the model without them, so that it computes what it computed before."""
        for place in self.places:
            place.hang(None)

    def take(self, rows: int) -> list[Tensor]:
        """Work on the first `rows` rows; returns what may learn."""
        weights = [weight for delta in self.deltas for weight in delta.take(rows)]
        self.use(weights)
        return weights

    def use(self, weights: list[Tensor]) -> None:
        """Compute with `weights` of `take`. Inside a compiled function it makes them inputs of the graph, whose rows
        may vary; as parameters of modules, every number of rows would be a graph of its own."""
        first = 0
        for delta in self.deltas:
            last = first + 2 * len(delta.whole_a)
            delta.use(weights[first:last])
            first = last


@contextmanager
def adapted(
    model: LanguageModel, shape: AdapterShape, *, rows: int, device: torch.device, seed: int = 0
) -> Iterator[Adapters]:
    """Hang adapters of `shape` for `rows` rows on `model`; afterwards it is as it was.

    Raises `UsageError` when it has none of the targets.
    """
    found = spots(model, shape.targets)
    counts = counted_calls(model, found, device)
    passed = [(spot, sizes, calls) for spot, (sizes, calls) in zip(found, counts, strict=True) if calls]
    if not passed:
        raise UsageError(f"the model has nothing that adapters on {', '.join(shape.targets)} could hang on")
    deltas = [RowAdapters(sizes, rows, calls, shape, device) for _, sizes, calls in passed]
    adapters = Adapters(deltas, [spot for spot, _, _ in passed], seed)
    adapters.start()
    adapters.take(rows)
    try:
        adapters.hang()
        yield adapters
    finally:
        adapters.take_off()


@contextmanager
def kept_weights(model: LanguageModel) -> Iterator[None]:
    """Whatever is done to the model's weights meanwhile is undone."""
    parameters = list(model.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, weight in zip(parameters, before, strict=True):
                parameter.copy_(weight)
                parameter.grad = None


def spots(model: LanguageModel, targets: Sequence[AdapterTarget]) -> list[AdapterPlace]:
    """Where adapters on `targets` may hang. A module that several parents share is one place."""
    sites: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for name, child in parent.named_children():
            sites.setdefault(child, []).append((parent, name))
    found = []
    for child, places in sites.items():
        if isinstance(child, Linear) and child.specs["weight"].role is Role.ATTENTION and places[0][1] in targets:
            found.append(AdapterPlace(partial(setattr, child, "delta"), (child.weight.shape[1], child.weight.shape[0])))
        elif "mlp" in targets and holds_feed_forward(child):
            found.append(AdapterPlace(partial(hang_aside, child, places, Aside), None))
        elif "head" in targets and hasattr(child, "head_weight") and hasattr(child, "head_bias"):
            head: Any = child
            vocab, width = head.head_weight().shape
            found.append(AdapterPlace(partial(hang_aside, child, places, HeadAside), (width, vocab)))
    return found


def holds_feed_forward(module: nn.Module) -> bool:
    """Whether a module's own projections are those of a feed-forward."""
    return any(isinstance(inner, Linear) and inner.specs["weight"].role is Role.MLP for inner in module.children())


def hang_aside(
    child: nn.Module, places: Sequence[tuple[nn.Module, str]], around: type[Aside | HeadAside], delta: nn.Module | None
) -> None:
    """Put `around` with `delta` in the places of `child`, or `child` back without one."""
    standing = child if delta is None else around(child, delta)
    for parent, name in places:
        setattr(parent, name, standing)


def counted_calls(
    model: LanguageModel, found: Sequence[AdapterPlace], device: torch.device
) -> list[tuple[tuple[int, int], int]]:
    """For every spot its channels in and out, and how often one forward pass comes by."""
    counters = [CallCount() for _ in found]
    try:
        for spot, counter in zip(found, counters, strict=True):
            spot.hang(counter)
        with torch.no_grad():
            ids = torch.ones(1, 2, dtype=torch.int64, device=device)
            model.logits(model.hidden(Batch(ids, ids)))
    finally:
        for spot in found:
            spot.hang(None)
    return [(s.sizes or (c.width, c.width), c.calls) for s, c in zip(found, counters, strict=True)]

"""The places in the forward pass that a technique may fill, and what it gets there.

Shapes: B rows, T tokens, D model width, H query heads, K key/value heads, E head width, V vocabulary.
A filler is a frozen dataclass; `build` makes its module, or returns None where a layer has no use for it.
Modules that need the batch, the first embedding or something an earlier layer left get the `Pass`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.model.attention import HowToAttend, attend
from paramgolf.model.kernels.mixed_norm import Merge, Normed
from paramgolf.parts import Init, Linear, Part, Role, kaiming
from paramgolf.registry import technique

Half = Literal["attention", "mlp"]
"""The two sublayers of a block."""


class Dims(NamedTuple):
    """The sizes a technique may depend on."""

    vocab: int
    dim: int
    layers: int
    heads: int
    kv_heads: int
    context: int
    """Longest row the model will see, tokens."""
    places: int
    """Blocks that the longest order runs; more than `layers` with recurrence."""

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.heads


class ModelView(Protocol):
    """The configuration of a model, as a filler sees it that has a method `check(model)`.

    The model calls it when it is configured; it raises `ValueError` with the reason why the filler does not fit.
    """

    @property
    def dims(self) -> Dims:
        """Its sizes."""

    @property
    def fillers(self) -> Sequence[object]:
        """Everything in its slots, in order."""


@dataclass
class Pass:
    """What one forward pass has so far. Made anew for each, so nothing leaks between batches."""

    batch: Batch
    plan: HowToAttend
    x0: Tensor
    """(B, T, D) the normalized embedding that entered the first block."""
    notes: dict[str, Tensor] = field(default_factory=dict)
    """What a technique leaves for later layers, under a key of its own."""
    merge: Merge | list[Tensor] | None = None
    """What comes into the residual in front of the next block, or where it is kept: here the block does it itself."""
    ready: Normed | None = None
    """What a block has read last, where it was normalized in the same piece."""


class Tap(NamedTuple):
    """What attention leaves for the parts that rework its output."""

    x_BTD: Tensor
    """The block's normalized input; no more than the channels that gates read, where a kernel does all that follows."""
    v_BTKE: Tensor


class OnEmbed(Protocol):
    """`model.on_embed`, `model.on_input`: reworks embeddings before or after their norm, `(x_BTD, Pass) -> x_BTD`."""

    def build(self, dims: Dims) -> nn.Module | None: ...


class PerLayer(Protocol):
    """A filler built once a layer.

    `model.on_read`  `(x_BTD, Pass) -> x_BTD`       what a block reads of the residual
    `model.on_norm`  `(x_BTD) -> x_BTD`             after the norm before each half
    `model.on_qk`    `(q_BTHE, k_BTKE, Pass) -> same`
    `model.on_value` `(v_BTKE, x_BTD, Pass) -> v_BTKE`
    `model.on_heads` `(y_BTHE, Tap) -> y_BTHE`      between attention and its output projection
    """

    def build(self, dims: Dims, layer: int) -> nn.Module | None: ...


class OnBranch(Protocol):
    """`model.on_branch`: reworks what a half writes to the residual, `(y_BTD) -> y_BTD`."""

    def build(self, dims: Dims, layer: int, half: Half) -> nn.Module | None: ...


class OnStep(Protocol):
    """`model.on_step`: reworks the residual before each block, `(x_BTD, place, places, memory) -> x_BTD`.

    `place` counts the blocks run so far of `places`; `memory` is a list of the part's own, empty at
    the start of each forward pass.
    """

    def build(self, dims: Dims) -> nn.Module: ...


class Sublayers(Protocol):
    """One block seen from the stream: how it reads the residual, and its two halves."""

    def read_residual(self, x: Tensor, now: Pass) -> Tensor:
        """What the block takes the residual to be."""

    def attend(self, x: Tensor, now: Pass) -> Tensor:
        """Norm, attention, branch scaling: (B, T, D) -> what to add."""

    def think(self, x: Tensor) -> Tensor:
        """Norm, feed-forward, branch scaling: (B, T, D) -> what to add."""

    def attend_alone(self, x: Tensor, now: Pass) -> Tensor:
        """`attend` of `read_residual`, where nothing else is made of what was read."""

    def attended(self, x: Tensor, now: Pass) -> Tensor:
        """x + `attend` of x, in one piece where that can be."""

    def thought(self, x: Tensor) -> Tensor:
        """x + `think` of x, in one piece where that can be."""


class StreamModule(Part):
    """One residual lane, read and written by each half in turn; while alone, by `block.read_residual` alone."""

    fused = False
    """Whether a kernel may do its step."""

    def enter(self, layer: int, lanes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Before the block `layer`: where a lane may split."""
        return lanes

    def receive(self, lanes: tuple[Tensor, ...], rework: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        """Apply what `model.on_step` brings; by default to the first lane."""
        return (rework(lanes[0]), *lanes[1:])

    def run_block(self, layer: int, block: Sublayers, lanes: tuple[Tensor, ...], now: Pass) -> tuple[Tensor, ...]:
        """Run one block."""
        return (block.thought(block.attended(block.read_residual(lanes[0], now), now)),)

    def finish(self, lanes: tuple[Tensor, ...]) -> Tensor:
        """The residual that goes to the head."""
        return lanes[0]


class Stream(Protocol):
    """`model.stream`: how blocks read and write the residual."""

    def build(self, dims: Dims) -> StreamModule: ...


@technique("one_lane", fills="model.stream", source="He et al. 2016")
@dataclass(frozen=True, kw_only=True)
class OneLane:
    """The ordinary residual stream: attention, then feed-forward, each added to one lane."""

    def build(self, dims: Dims) -> StreamModule:
        """The lane has no parameters."""
        return StreamModule()


class Order(Protocol):
    """`model.order`: which layers run, in order, once `progress` (0..1) of training is done.

    An order only grows: it is the longest at progress 1. One that does not fit `layers` raises `ValueError`.
    """

    each_once: ClassVar[bool]
    """Whether it always is every layer once, from the first to the last."""

    def __call__(self, layers: int, progress: float) -> Sequence[int]: ...


@technique("straight", fills="model.order", source="Vaswani et al. 2017")
@dataclass(frozen=True, kw_only=True)
class Straight:
    """Each layer once."""

    each_once: ClassVar[bool] = True

    def __call__(self, layers: int, progress: float) -> Sequence[int]:
        return range(layers)


class Repeats(Protocol):
    """`model.repeats`: what runs when the order comes to a layer again, `(block, turn) -> block`; `turn` is 1 or more.

    Returns `block` itself, or a copy that shares the modules it does not want of its own. Until the order first
    comes to it, the model keeps the copy's weights equal to the block's.
    """

    def __call__(self, block: nn.Module, turn: int) -> nn.Module: ...


@technique("shared", fills="model.repeats", source="Dehghani et al. 2018, arXiv 1807.03819")
@dataclass(frozen=True, kw_only=True)
class Shared:
    """Every pass of a layer is the same block."""

    def __call__(self, block: nn.Module, turn: int) -> nn.Module:
        return block


class OnBlocks(Protocol):
    """`model.on_blocks`: replaces modules of finished blocks, where that needs to know their place."""

    def rework(self, blocks: Sequence[nn.Module]) -> None: ...


class OnReset(Protocol):
    """`model.on_reset`: reworks the initial weights, after every parameter has been initialized by itself."""

    def start(self, model: nn.Module) -> None: ...


class Penalty(Protocol):
    """`model.penalties`: what training adds to the objective, a function of the weights, `(model) -> scalar`."""

    def __call__(self, model: nn.Module) -> Tensor: ...


class AttentionCore(Protocol):
    """`model.attention`: `(q_BTHE, k_BTKE, v_BTKE, HowToAttend) -> y_BTHE`, built once a layer."""

    def build(self, dims: Dims, layer: int) -> nn.Module: ...


@technique("softmax_attention", fills="model.attention", source="Vaswani et al. 2017; GQA arXiv 2305.13245")
@dataclass(frozen=True, kw_only=True)
class SoftmaxAttention:
    """Causal softmax attention with grouped key/value heads over the whole row or document."""

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The same core for every layer."""
        return SoftmaxCore()


class SoftmaxCore(nn.Module):
    """Attention through whichever backend the pass has planned."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, how: HowToAttend) -> Tensor:
        """(B, T, H, E), (B, T, K, E) twice -> (B, T, H, E)."""
        return attend(q, k, v, how)


class Window(Protocol):
    """`model.window`: how many tokens a query of `layer` sees, itself included; 0: all before it."""

    def __call__(self, layers: int, layer: int) -> int: ...


class LinearMaker(Protocol):
    """`model.linear`: makes the projections of a block, so that low-bit training may replace them.

    One that trains ternary or binary weights has a property `low_bit` (`lowbit.LowBitFiller`).
    """

    def __call__(self, fan_in: int, fan_out: int, *, role: Role, init: Init) -> Linear: ...


@technique("dense_linear", fills="model.linear", source="none: the plain thing")
@dataclass(frozen=True, kw_only=True)
class DenseLinear:
    """Ordinary dense projections."""

    def __call__(self, fan_in: int, fan_out: int, *, role: Role, init: Init) -> Linear:
        return Linear(fan_in, fan_out, role=role, init=init)


class MatrixInit(Protocol):
    """`model.init`, `model.init_out`: fills a block's matrix in place."""

    def __call__(self, tensor: Tensor) -> object: ...


@technique("kaiming_init", fills="model.init*", source="He et al. 2015")
@dataclass(frozen=True, kw_only=True)
class KaimingInit:
    """The default of `nn.Linear`: uniform on ±1/sqrt(fan_in)."""

    def __call__(self, tensor: Tensor) -> object:
        return kaiming(tensor)


class Activation(Protocol):
    """`model.activation`: the elementwise function between the feed-forward's two projections.

    One that squares a rectifier has an attribute `squared_slope`, the slope of its negative side.
    """

    def __call__(self, x: Tensor) -> Tensor: ...


class Parameters(NamedTuple):
    """What a feed-forward is built from besides the sizes."""

    linear: LinearMaker
    init: MatrixInit
    init_out: MatrixInit
    activation: Activation
    fused: bool
    """Whether a kernel may do the feed-forward in one piece."""
    eight_bits: bool = False
    """Whether that kernel's first product is of 8-bit floats."""
    adds: bool = False
    """Whether the second product may add to the stream."""


class MLPBuilder(Protocol):
    """`model.mlp`: the second half of a block, `(x_BTD) -> y_BTD`, built once a layer."""

    def build(self, dims: Dims, layer: int, made_from: Parameters) -> nn.Module: ...


class EmbeddingModule(Protocol):
    """What `model.embedding` builds."""

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, D) fp32."""

    def before_head(self, x: Tensor) -> Tensor:
        """(B, T, D) -> what `head_weight` multiplies."""

    def head_weight(self) -> Tensor:
        """(V, D) or narrower."""

    def head_bias(self) -> Tensor | None:
        """(V) added to the logits in fp32, if there is one."""


class Embedding(Protocol):
    """`model.embedding`: token embedding and output projection."""

    def build(self, dims: Dims) -> EmbeddingModule: ...


class LogitMap(Protocol):
    """`model.softcap`: an elementwise map of the logits, fp32 in and out. One that learns also has `build`."""

    def __call__(self, logits: Tensor) -> Tensor: ...


@runtime_checkable
class LearnedLogitMap(Protocol):
    """A softcap with parameters, at its start what calling the filler itself gives."""

    def build(self) -> nn.Module:
        """The map, `(logits) -> logits`."""


class HeadModule(Protocol):
    """The head as an objective sees it."""

    def logits(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, V) fp32."""

    def nats(self, x: Tensor, targets: Tensor) -> Tensor:
        """(B, T, D), (B, T) -> (B, T) fp32 cost of each target."""


class Objective(Protocol):
    """`model.objective`: what training minimizes, a module `(x_BTD, head, batch) -> scalar`."""

    def build(self, dims: Dims) -> nn.Module: ...


@technique("mean_nats", fills="model.objective", source="none: the plain thing")
@dataclass(frozen=True, kw_only=True)
class MeanNats:
    """The mean cost of the next token."""

    def build(self, dims: Dims) -> nn.Module:
        """The mean has no parameters."""
        return MeanCost()


class MeanCost(nn.Module):
    """The mean over all targets, nats."""

    def forward(self, x: Tensor, head: HeadModule, batch: Batch) -> Tensor:
        """(B, T, D) -> scalar."""
        return head.nats(x, batch.targets).mean()

"""What a model is made of: sizes and slots."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from paramgolf.bounds import require_positive
from paramgolf.model.attention import WINDOWED, Backend
from paramgolf.model.embedding import TiedEmbedding
from paramgolf.model.fused import FUSED, Fused
from paramgolf.model.mlp import GELU, FeedForward
from paramgolf.model.slots import (
    Activation,
    AttentionCore,
    DenseLinear,
    Dims,
    Embedding,
    KaimingInit,
    LinearMaker,
    LogitMap,
    MatrixInit,
    MeanNats,
    MLPBuilder,
    Objective,
    OnBlocks,
    OnBranch,
    OneLane,
    OnEmbed,
    OnReset,
    OnStep,
    Order,
    Parameters,
    Penalty,
    PerLayer,
    Repeats,
    Shared,
    SoftmaxAttention,
    Straight,
    Stream,
    Window,
)


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The model. The default is a plain pre-norm transformer; techniques fill its slots."""

    vocab: int = 1024
    dim: int = 512
    layers: int = 9
    heads: int = 8
    kv_heads: int = 4
    """Key/value heads, each shared by heads / kv_heads queries (GQA)."""
    context: int = 1024
    """Longest row the model will be given, tokens."""
    backend: Backend = "auto"
    """Attention kernel; `auto` takes the fastest present."""
    fused: tuple[Fused, ...] = FUSED
    """Kernels of our own that a GPU may use where they fit the techniques chosen."""
    embedding: Embedding = TiedEmbedding()
    on_embed: tuple[OnEmbed, ...] = ()
    """On the raw embedding."""
    on_input: tuple[OnEmbed, ...] = ()
    """On the normalized embedding."""
    on_read: tuple[PerLayer, ...] = ()
    on_norm: tuple[PerLayer, ...] = ()
    on_qk: tuple[PerLayer, ...] = ()
    on_value: tuple[PerLayer, ...] = ()
    attention: AttentionCore = SoftmaxAttention()
    window: Window | None = None
    """How far back attention looks, by layer; none: as far as the row or document goes."""
    on_heads: tuple[PerLayer, ...] = ()
    mlp: MLPBuilder = FeedForward()
    activation: Activation = GELU()
    on_branch: tuple[OnBranch, ...] = ()
    on_step: tuple[OnStep, ...] = ()
    stream: Stream = OneLane()
    order: Order = Straight()
    repeats: Repeats = Shared()
    linear: LinearMaker = DenseLinear()
    init: MatrixInit = KaimingInit()
    """Of projections that read the residual."""
    init_out: MatrixInit = KaimingInit()
    """Of projections that write the residual."""
    on_blocks: tuple[OnBlocks, ...] = ()
    on_reset: tuple[OnReset, ...] = ()
    softcap: LogitMap | None = None
    objective: Objective = MeanNats()
    penalties: tuple[Penalty, ...] = ()

    def __post_init__(self) -> None:
        require_positive(self, "vocab", "dim", "layers", "heads", "kv_heads", "context")
        if self.dim % self.heads or self.heads % self.kv_heads:
            raise ValueError(f"{self.dim} channels, {self.heads} heads, {self.kv_heads} kv heads do not divide")
        if any(self.windows) and self.backend not in ("auto", *WINDOWED):
            raise ValueError(f"backend={self.backend} knows no windows; {', '.join(WINDOWED)} do")
        self.order(self.layers, 1.0)
        for filler in self.fillers:
            check = getattr(filler, "check", None)
            if check is not None:
                check(self)

    @property
    def fillers(self) -> list[Any]:
        """Every technique in a slot.

        One that may not fit the rest of the model has a method `check(config)`, which raises `ValueError` saying why.
        """
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        flat = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
        return [item for item in flat if dataclasses.is_dataclass(item)]

    @property
    def windows(self) -> tuple[int, ...]:
        """The attention window of every layer, tokens; 0: no limit."""
        rule = self.window
        return tuple(rule(self.layers, layer) if rule else 0 for layer in range(self.layers))

    @property
    def switches(self) -> tuple[float, ...]:
        """Shares of training after which some technique changes the compiled graph, ascending."""
        return tuple(sorted({at for filler in self.fillers for at in getattr(filler, "switches", ())}))

    @property
    def dims(self) -> Dims:
        """The sizes techniques may depend on."""
        places = len(self.order(self.layers, 1.0))
        return Dims(self.vocab, self.dim, self.layers, self.heads, self.kv_heads, self.context, places)

    @property
    def parameters(self) -> Parameters:
        """What the blocks' matrices are made from."""
        fused, eight_bits, adds = "feed_forward" in self.fused, "fp8" in self.fused, "sums" in self.fused
        return Parameters(self.linear, self.init, self.init_out, self.activation, fused, eight_bits, adds)

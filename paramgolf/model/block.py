"""One layer: attention and feed-forward, each with its norm, as the stream wants them."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.model.config import GPTConfig
from paramgolf.model.slots import Half, Pass, PerLayer, Sublayers, Tap
from paramgolf.parts import Part, Role, project_together


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x²) + eps) over the last axis, no gain, eps of the dtype."""
    return F.rms_norm(x, x.shape[-1:])


def built_for(fillers: tuple[PerLayer, ...], config: GPTConfig, layer: int) -> nn.ModuleList:
    """The modules that `fillers` want in `layer`, in order."""
    modules = (filler.build(config.dims, layer) for filler in fillers)
    return nn.ModuleList(module for module in modules if module is not None)


class Attention(Part):
    """Projections and slots around the attention core."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        dims = config.dims
        make = partial(config.linear, role=Role.ATTENTION)
        self.head_dim = dims.head_dim
        self.q = make(dims.dim, dims.dim, init=config.init)
        self.k = make(dims.dim, dims.kv_heads * dims.head_dim, init=config.init)
        self.v = make(dims.dim, dims.kv_heads * dims.head_dim, init=config.init)
        self.out = make(dims.dim, dims.dim, init=config.init_out)
        self.q.heads, self.k.heads, self.v.heads = dims.heads, dims.kv_heads, dims.kv_heads
        self.core = config.attention.build(dims, layer)
        self.window = config.windows[layer]
        self.on_qk = built_for(config.on_qk, config, layer)
        self.on_value = built_for(config.on_value, config, layer)
        self.on_heads = built_for(config.on_heads, config, layer)

    def forward(self, x: Tensor, now: Pass) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        rows, length, _ = x.shape
        projected = project_together(x, (self.q, self.k, self.v))
        q, k, v = (y.view(rows, length, -1, self.head_dim) for y in projected)
        for part in self.on_value:
            v = part(v, x, now)
        for part in self.on_qk:
            q, k = part(q, k, now)
        y = self.core(q, k, v, now.plan.within(self.window))
        for part in self.on_heads:
            y = part(y, Tap(x, v))
        return self.out(y.reshape(rows, length, -1))


class Block(Part):
    """A layer, handed to the stream as functions so that the stream decides what reads what."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.on_read = built_for(config.on_read, config, layer)
        self.on_norm = built_for(config.on_norm, config, layer)
        self.attention = Attention(config, layer)
        self.mlp = config.mlp.build(config.dims, layer, config.parameters)
        self.on_attention = self.branch(config, layer, "attention")
        self.on_mlp = self.branch(config, layer, "mlp")

    @staticmethod
    def branch(config: GPTConfig, layer: int, half: Half) -> nn.ModuleList:
        """The modules on what one half writes."""
        modules = (filler.build(config.dims, layer, half) for filler in config.on_branch)
        return nn.ModuleList(module for module in modules if module is not None)

    def sublayers(self, now: Pass) -> Sublayers:
        """This block's functions for one pass."""
        return Sublayers(partial(self.read, now=now), partial(self.attend, now=now), self.think)

    def read(self, x: Tensor, *, now: Pass) -> Tensor:
        """What the block takes the residual to be."""
        for part in self.on_read:
            x = part(x, now)
        return x

    def normed(self, x: Tensor) -> Tensor:
        """The residual normalized for a half."""
        x = rms_norm(x)
        for part in self.on_norm:
            x = part(x)
        return x

    def attend(self, x: Tensor, *, now: Pass) -> Tensor:
        """What attention writes."""
        y = self.attention(self.normed(x), now)
        for part in self.on_attention:
            y = part(y)
        return y

    def think(self, x: Tensor) -> Tensor:
        """What the feed-forward writes."""
        y = self.mlp(self.normed(x))
        for part in self.on_mlp:
            y = part(y)
        return y

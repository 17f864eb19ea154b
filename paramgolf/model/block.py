"""One layer: attention and feed-forward, each with its norm, as the stream wants them."""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.model.config import GPTConfig
from paramgolf.model.kernels import kernel_takes, sums_run
from paramgolf.model.kernels.eight_bits import eight_bit_product, takes_eight_bits
from paramgolf.model.kernels.mixed_norm import Merge, mixed_norm
from paramgolf.model.kernels.own_value import without_own_value
from paramgolf.model.kernels.query_key import Projected, queries_keys_values
from paramgolf.model.kernels.reworked_attention import SUMS_TURN, SUMS_WIDTH, attention_sums_run, reworked_attention
from paramgolf.model.kernels.stream_product import stream_product
from paramgolf.model.slots import Pass, SoftmaxCore, Tap
from paramgolf.parts import Part, Role, project_together, wide_matrix


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x²) + eps) over the last axis, no gain, eps of the dtype."""
    return F.rms_norm(x, x.shape[-1:])


def those_wanted(modules: Iterable[nn.Module | None]) -> nn.ModuleList:
    """Without the places of those that a layer has no use for."""
    return nn.ModuleList(module for module in modules if module is not None)


def power_of_two(count: int) -> bool:
    """Whether a kernel's tile can be `count` wide."""
    return count & (count - 1) == 0


def kinds(modules: nn.ModuleList) -> tuple[str, ...]:
    """What each module is to the kernels that do several at once; empty where it is nothing they know."""
    return tuple(getattr(module, "kernel_kind", "") for module in modules)


ONE_PASS_QK = ("norm", "rotation", "gain")
ONE_PASS_HEADS = ("own_value", "gate")
ONE_PASS_NORMS = ((), ("factor",))


class Attention(Part):
    """Projections and slots around the attention core."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        dims = config.dims
        make, role = config.linear, Role.ATTENTION
        self.dim, self.head_dim, self.kv_heads = dims.dim, dims.head_dim, dims.kv_heads
        self.q = make(dims.dim, dims.dim, role=role, init=config.init)
        self.k = make(dims.dim, dims.kv_heads * dims.head_dim, role=role, init=config.init)
        self.v = make(dims.dim, dims.kv_heads * dims.head_dim, role=role, init=config.init)
        self.out = make(dims.dim, dims.dim, role=role, init=config.init_out)
        self.q.heads, self.k.heads, self.v.heads = dims.heads, dims.kv_heads, dims.kv_heads
        self.core = config.attention.build(dims, layer)
        self.window = config.windows[layer]
        self.on_qk = those_wanted([filler.build(dims, layer) for filler in config.on_qk])
        self.on_value = those_wanted([filler.build(dims, layer) for filler in config.on_value])
        self.on_heads = those_wanted([filler.build(dims, layer) for filler in config.on_heads])
        self.one_pass_qk = (
            "queries_keys" in config.fused
            and kinds(self.on_qk) == ONE_PASS_QK
            and power_of_two(dims.head_dim)
            and power_of_two(cast(Any, self.on_qk[1]).channels)
        )
        self.spreads = (
            "groups" in config.fused
            and dims.heads != dims.kv_heads
            and isinstance(self.core, SoftmaxCore)
            and not self.on_value
        )
        self.eight_bits = "fp8" in config.fused
        self.adds = "sums" in config.fused
        self.one_pass_heads = (
            "heads" in config.fused and kinds(self.on_heads) == ONE_PASS_HEADS and power_of_two(dims.head_dim)
        )
        one_pass = self.spreads and self.one_pass_qk and self.one_pass_heads
        self.one_piece = (
            "attention" in config.fused
            and one_pass
            and dims.head_dim == SUMS_WIDTH
            and cast(Any, self.on_qk[1]).channels >= SUMS_TURN
        )

    def forward(
        self,
        x: Tensor,
        now: Pass,
        lead: Tensor | None = None,
        gain: Tensor | None = None,
        stream: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D), times `gain` (D), added to `stream`; gates read `lead`, where it comes apart."""
        if (y := self.at_once(x, now, x if lead is None else lead)) is None:
            q, k, v, tap = self.project(x, now)
            y = self.core(q, k, v, now.plan.within(self.window))
            y = self.rework(y, Tap(x if lead is None else lead, tap)).flatten(2)
        if stream is not None and self.adds and sums_run() and self.out.bare and kernel_takes(y):
            return stream_product(stream, y, self.out.matrix(y.dtype, gain))
        y = self.out(y) if gain is None else F.linear(y, self.out.matrix(y.dtype, gain))
        return y if stream is None else stream + y

    @property
    def lead(self) -> int:
        """How many leading channels of its input gates read, where a kernel does all that follows attention; else 0."""
        gate: Any = self.on_heads[1] if self.one_pass_heads else None
        return min(gate.aligned, self.dim) if gate is not None else 0

    def at_once(self, x: Tensor, now: Pass, lead: Tensor) -> Tensor | None:
        """(B, T, D) -> the heads side by side, (B, T, D), where one function does everything between; else None."""
        if not (self.one_piece and attention_sums_run() and self.projects_in_one_pass(x, now)):
            return None
        documents = getattr(now.plan.within(self.window), "documents", None)
        if documents is None:
            return None
        rotation: Any = self.on_qk[1]
        query: Any = self.on_qk[2]
        gate: Any = self.on_heads[1]
        wide, turn = self.wide(x), (rotation.cos, rotation.sin, query.gain)
        logits = gate.logits(Tap(lead, x))
        return reworked_attention(wide, turn, logits, self.kv_heads, documents, (gate.sharpness, gate.height))

    def projects_in_one_pass(self, x: Tensor, now: Pass) -> bool:
        """Whether a kernel does all that is between the wide product and attention."""
        bare = all(linear.bare for linear in (self.q, self.k, self.v))
        return self.one_pass_qk and kernel_takes(x) and bare and now.plan.places is None

    def wide(self, x: Tensor) -> Tensor:
        """(B, T, D) -> queries, keys and values side by side, (B, T, (H + 2K)·E)."""
        matrix = wide_matrix((self.q, self.k, self.v), x.dtype)
        return eight_bit_product(x, matrix) if self.eight_bits and takes_eight_bits(matrix) else F.linear(x, matrix)

    def project(self, x: Tensor, now: Pass) -> Projected:
        """(B, T, D) -> q (B, T, H, E), k and v (B, T, K, E) as the core takes them."""
        if one_pass := self.projects_in_one_pass(x, now):
            rotation: Any = self.on_qk[1]
            query: Any = self.on_qk[2]
            q, k, v, tap = queries_keys_values(
                self.wide(x),
                rotation.cos,
                rotation.sin,
                query.gain,
                self.kv_heads,
                tapped=len(self.on_heads) > 0,
                spread=self.spreads and getattr(now.plan, "takes_spread", False),
            )
        else:
            q, k, v = (y.unflatten(-1, (-1, self.head_dim)) for y in project_together(x, (self.q, self.k, self.v)))
            tap = v
        for part in self.on_value:
            tap = v = part(v, x, now)
        for part in () if one_pass else self.on_qk:
            q, k = part(q, k, now)
        return Projected(q, k, v, tap)

    def rework(self, y: Tensor, tap: Tap) -> Tensor:
        """(B, T, H, E) -> the same: what the parts on attention's output make of it."""
        if self.one_pass_heads and kernel_takes(y):
            gate: Any = self.on_heads[1]
            return without_own_value(y, tap.v_BTKE, gate.logits(tap), gate.sharpness, gate.height)
        for part in self.on_heads:
            y = part(y, tap)
        return y


class Block(Part):
    """A layer in pieces (`Sublayers`), so that the stream decides what reads what."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        dims = config.dims
        self.on_read = those_wanted([filler.build(dims, layer) for filler in config.on_read])
        self.on_norm = those_wanted([filler.build(dims, layer) for filler in config.on_norm])
        self.attention = Attention(config, layer)
        self.mlp = config.mlp.build(dims, layer, config.parameters)
        self.on_attention = those_wanted([filler.build(dims, layer, "attention") for filler in config.on_branch])
        self.on_mlp = those_wanted([filler.build(dims, layer, "mlp") for filler in config.on_branch])
        self.folds = "scales" in config.fused
        self.one_pass_read = (
            "mix" in config.fused and kinds(self.on_read) == ("mix",) and kinds(self.on_norm) in ONE_PASS_NORMS
        )

    def reads_at_once(self, x: Tensor) -> bool:
        """Whether a kernel does all of `read_residual` and the norm after it, a `now.merge` included."""
        return self.one_pass_read and kernel_takes(x)

    def read_residual(self, x: Tensor, now: Pass, *, goes_on: bool = True) -> Tensor:
        """What the block takes the residual to be, if that `goes_on`; else at least what `attend` knows it by."""
        if self.reads_at_once(x):
            mix: Tensor = cast(Any, self.on_read[0]).mix
            streams: tuple[Tensor, ...] = (x, now.x0)
            merge, now.merge = now.merge, None
            if isinstance(merge, Merge):
                streams, mix = (x, merge.joining, now.x0), torch.cat((mix[:1] * merge.share, mix[1:]))
            kept = isinstance(merge, list)
            now.ready = mixed_norm(streams, mix, self.factor, self.attention.lead, goes_on=goes_on, passes=kept)
            if isinstance(merge, list):
                merge.append(now.ready.passed)
            return now.ready.residual
        for part in self.on_read:
            x = part(x, now)
        return x

    def normed(self, x: Tensor) -> Tensor:
        """The residual normalized for a half."""
        x = rms_norm(x)
        for part in self.on_norm:
            x = part(x)
        return x

    def attend(self, x: Tensor, now: Pass, *, stream: Tensor | None = None) -> Tensor:
        """What attention writes, added to `stream` where one is given."""
        ready = now.ready if now.ready is not None and now.ready.residual is x else None
        normed = self.normed(x) if ready is None else ready.whole
        lead = ready.lead if ready is not None and self.attention.lead else None
        gain = self.folded(self.on_attention, x)
        if not len(self.on_attention) or (gain is not None and self.attention.out.bare):
            return self.attention(normed, now, lead, gain, stream)
        y = self.attention(normed, now, lead)
        for part in self.on_attention:
            y = part(y)
        return y if stream is None else stream + y

    def attended(self, x: Tensor, now: Pass) -> Tensor:
        """The residual and what attention writes."""
        return self.attend(x, now, stream=x)

    def attend_alone(self, x: Tensor, now: Pass) -> Tensor:
        """What attention writes of a residual that the block does not add to."""
        return self.attend(self.read_residual(x, now, goes_on=False), now)

    def think(self, x: Tensor, stream: Tensor | None = None) -> Tensor:
        """What the feed-forward writes, added to `stream` where one is given."""
        gain, mlp = self.folded(self.on_mlp, x), cast(Any, self.mlp)
        folds = getattr(mlp, "takes_gain", False) and mlp.folds()
        if folds and (gain is not None or not len(self.on_mlp)):
            return cast(Tensor, mlp(self.normed(x), gain, stream))
        y = self.mlp(self.normed(x))
        for part in self.on_mlp:
            y = part(y)
        return y if stream is None else stream + y

    def thought(self, x: Tensor) -> Tensor:
        """The residual and what the feed-forward writes."""
        return self.think(x, x)

    @property
    def factor(self) -> float:
        """What the norms of this layer are times, where that is all that is done to them."""
        return cast(Any, self.on_norm[0]).factor if self.on_norm else 1.0

    def folded(self, parts: nn.ModuleList, x: Tensor) -> Tensor | None:
        """The gain (D) that `parts` are, where the matrix before them may take it on."""
        if not self.folds or kinds(parts) != ("scale",) or not kernel_takes(x):
            return None
        return cast(Tensor, cast(Any, parts[0]).scale)

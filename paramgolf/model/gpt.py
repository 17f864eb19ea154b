"""The decoder: embed, run the layers in the given order, project to logits.

There is one forward pass: training, calibration, scoring and test-time training all run it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.errors import UsageError
from paramgolf.model.attention import plan
from paramgolf.model.block import Block, kinds, rms_norm, those_wanted
from paramgolf.model.config import GPTConfig
from paramgolf.model.kernels import kernel_takes
from paramgolf.model.kernels.eight_bits import takes_eight_bits
from paramgolf.model.kernels.softcapped_loss import head_nats
from paramgolf.model.slots import EmbeddingModule, LearnedLogitMap, Pass
from paramgolf.parts import Part


class GPT(Part):
    """A model of `config`. Call `reset` for initial weights; parameters are fp32."""

    embedding: EmbeddingModule

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.compute = torch.float32
        """dtype of the residual and of matrix products; the trainer sets bf16 on a GPU."""
        self.order = tuple(config.order(config.layers, 0.0))
        dims = config.dims
        self.embedding = config.embedding.build(dims)
        self.on_embed = those_wanted([filler.build(dims) for filler in config.on_embed])
        self.on_input = those_wanted([filler.build(dims) for filler in config.on_input])
        self.on_step = those_wanted([filler.build(dims) for filler in config.on_step])
        self.stream = config.stream.build(dims)
        self.stream.fused = "lanes" in config.fused
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        cap = config.softcap
        self.softcap = cap.build() if isinstance(cap, LearnedLogitMap) else cap
        self.objective = config.objective.build(dims)
        for filler in config.on_blocks:
            filler.rework(list(self.blocks))
        self.again = nn.ModuleDict(
            {
                f"{layer}_{turn}": block
                for layer, turn in turns(config.order(config.layers, 1.0))
                if turn and (block := config.repeats(self.blocks[layer], turn)) is not self.blocks[layer]
            }
        )
        """Blocks for further passes of a layer, by layer and turn, where they are not the layer's own."""

    @torch.no_grad()
    def reset(self) -> None:
        """Initial weights, from torch's global generator."""
        super().reset()
        for filler in self.config.on_reset:
            filler.start(self)
        self.prepare_repeats(())

    def at(self, progress: float) -> None:
        """Tell every part how much of training (0..1) is done. A change of order compiles a new graph."""
        if not self.config.order.each_once:
            self.order = tuple(self.config.order(self.config.layers, progress))
            self.prepare_repeats(self.order)
        for module in self.modules():
            if isinstance(module, Part) and module is not self:
                module.at(progress)

    @torch.no_grad()
    def prepare_repeats(self, order: Sequence[int]) -> None:
        """Keep the blocks of passes that `order` does not run equal to their layer's, from which they will start."""
        running = {f"{layer}_{turn}" for layer, turn in turns(order)}
        for name, block in self.again.items():
            if name not in running:
                of_layer = self.blocks[int(name.partition("_")[0])].parameters()
                pairs = [pair for pair in zip(block.parameters(), of_layer, strict=True) if pair[0] is not pair[1]]
                torch._foreach_copy_([own for own, _ in pairs], [other for _, other in pairs])

    def passes(self) -> Iterable[tuple[int, Block]]:
        """The number of each layer that runs, in order, and what runs then."""
        if self.config.order.each_once:
            return cast("Iterable[tuple[int, Block]]", enumerate(self.blocks))
        return [(layer, self.block(layer, turn)) for layer, turn in turns(self.order)]

    def block(self, layer: int, turn: int) -> Block:
        """What runs when the order comes to `layer` for the `turn`-th time, from 0."""
        name = f"{layer}_{turn}"
        return cast(Block, self.again[name] if name in self.again else self.blocks[layer])

    def hidden(self, batch: Batch) -> Tensor:
        """(B, T, D): the normalized residual that the head reads."""
        if batch.ids.shape[1] > self.config.context:
            raise UsageError(
                f"a row of {batch.ids.shape[1]} tokens does not fit model.context={self.config.context}",
                fix=f"--set model.context={batch.ids.shape[1]}",
            )
        x = self.embedding.embed(batch.ids).to(self.compute)
        now = Pass(batch, plan(self.config.backend, batch, self.config.windows), x)
        for part in self.on_embed:
            x = part(x, now)
        x = rms_norm(x)
        for part in self.on_input:
            x = part(x, now)
        now.x0 = x
        lanes: tuple[Tensor, ...] = (x,)
        memories: list[list[Tensor]] = [[] for _ in self.on_step]
        for place, (layer, block) in enumerate(self.passes()):
            lanes = self.stream.enter(layer, lanes)
            if kinds(self.on_step) == ("skip",) and len(lanes) == 1 and block.reads_at_once(lanes[0]):
                skips = cast(Any, self.on_step[0])
                now.merge = skips.pending(lanes[0], place, len(self.order), memories[0])
            else:
                for part, memory in zip(self.on_step, memories, strict=True):
                    lanes = self.stream.receive(lanes, lambda x: part(x, place, len(self.order), memory))  # noqa: B023
            lanes = self.stream.run_block(layer, block, lanes, now)
        return rms_norm(self.stream.finish(lanes))

    def logits(self, x: Tensor) -> Tensor:
        """(B, T, D) of `hidden` -> (B, T, V) fp32 logits, capped."""
        weight = self.embedding.head_weight()
        logits = F.linear(self.embedding.before_head(x), weight.to(x.dtype)).float()
        bias = self.embedding.head_bias()
        logits = logits if bias is None else logits + bias
        return logits if self.softcap is None else self.softcap(logits)

    def nats(self, x: Tensor, targets: Tensor) -> Tensor:
        """(B, T, D) of `hidden` and (B, T) targets -> (B, T) fp32 cost of each target in nats."""
        cap, bias = getattr(self.softcap, "tanh_cap", None), self.embedding.head_bias()
        if cap is not None and cap <= 60 and bias is None and "loss" in self.config.fused and kernel_takes(x):
            weight = self.embedding.head_weight().to(x.dtype)
            rows = self.embedding.before_head(x)
            eight_bits = "fp8" in self.config.fused and rows is x and takes_eight_bits(weight)
            return head_nats(rows.flatten(0, 1), weight, targets.flatten(), cap, eight_bits).view_as(targets)
        costs = F.cross_entropy(self.logits(x).flatten(0, 1), targets.flatten(), reduction="none")
        return costs.view(targets.shape)

    def forward(self, batch: Batch) -> Tensor:
        """The cost of every target, (B, T) fp32 nats."""
        return self.nats(self.hidden(batch), batch.targets)

    def loss(self, batch: Batch) -> Tensor:
        """What training minimizes, a scalar."""
        loss = self.objective(self.hidden(batch), self, batch)
        for penalty in self.config.penalties:
            loss = loss + penalty(self)
        return loss


def turns(order: Sequence[int]) -> list[tuple[int, int]]:
    """Each layer of `order` with how often it has come before."""
    return [(layer, list(order[:place]).count(layer)) for place, layer in enumerate(order)]


def parameter_count(model: nn.Module) -> int:
    """How many weights `model` has, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())

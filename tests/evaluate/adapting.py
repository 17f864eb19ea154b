"""A small model with everything adapters have to cope with, text of documents, and how protocols are run on them."""

import threading
from dataclasses import replace

import torch
from tiny import tiny_run
from torch import Tensor

from paramgolf.batch import BOS
from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.evaluate.slots import Bench, EvaluationProtocol
from paramgolf.model.gpt import GPT
from paramgolf.techniques.evaluate import SGDTTT, DistillTTT, LoraTTT, PhasedTTT
from paramgolf.techniques.model import Recurrence, SmearV2

VOCAB = 40
CONTEXT = 24
ADAPTERS = AdapterConfig(rank=3, alpha=6.0, documents=4, chunk=6, lr=0.02, weight_decay=0.1, beta2=0.99, shapes=2)
ADAPTING: dict[str, EvaluationProtocol] = {
    "cold": LoraTTT(adapters=replace(ADAPTERS, warm=False)),
    "warm": LoraTTT(adapters=ADAPTERS),
    "file_order": LoraTTT(adapters=replace(ADAPTERS, file_order=True)),
    "parts": LoraTTT(adapters=replace(ADAPTERS, part=20)),
    "short": LoraTTT(adapters=replace(ADAPTERS, short=("8:2", "20:4")), length=16),
    "remember": LoraTTT(adapters=replace(ADAPTERS, remember=True)),
    "remember_short": LoraTTT(adapters=replace(ADAPTERS, remember=True, short=("8:2", "20:4"), warm=False), length=16),
    "remember_phased": PhasedTTT(
        adapters=replace(ADAPTERS, remember=True, beta1=0.5), phases=2, prefix=6, lr=0.05, step_tokens=48
    ),
    "no_qv": LoraTTT(adapters=replace(ADAPTERS, targets=("k", "out", "mlp", "head"))),
    "phased": PhasedTTT(adapters=ADAPTERS, phases=2, prefix=6, lr=0.05, step_tokens=48),
    "sgd": SGDTTT(stride=8, chunk=48, epochs=2, rows=2, lr=0.05),
    "distill": DistillTTT(stride=8, chunk=48, epochs=1, rows=2, lr=0.05, weight=0.3),
}
LENGTHS = (5, 1, 40, 17, 2, 61, 33, 12, 9)


def adaptable_model(seed: int = 0) -> GPT:
    """Layers that run again, a smear, weights at which everything matters."""
    torch.manual_seed(seed)
    config = replace(tiny_run().model, vocab=VOCAB, context=96, layers=3, on_embed=(SmearV2(width=4),))
    model = GPT(replace(config, order=Recurrence(first=1, last=1, starts=(0.5,))))
    model.reset()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.at(1.0)
    return model


def text(lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> Tensor:
    """Documents of `lengths` tokens after their BOS."""
    draw = torch.Generator().manual_seed(seed)
    return torch.cat([torch.cat((torch.tensor([BOS]), torch.randint(2, VOCAB, (n,), generator=draw))) for n in lengths])


def bench_for(model: GPT, tokens: Tensor) -> Bench:
    return Bench(model, tokens, CONTEXT, torch.device("cpu"), 72, model=model, longest_row=96)


def costs_under(protocol: EvaluationProtocol, bench: Bench) -> Tensor:
    """(N - 1,) fp64 cost of every target, NaN where this rank scored none."""
    found = torch.full((len(bench.tokens) - 1,), torch.nan, dtype=torch.float64)
    for scored in protocol(bench):
        places = scored.positions[scored.counted]
        assert found[places].isnan().all(), "a target was counted twice"
        found[places] = scored.nats[scored.counted].double()
    return found


class Meeting:
    """Ranks as threads of one process: sums and means that wait for all."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.barrier = threading.Barrier(world, timeout=60)
        self.brought: list[Tensor] = [torch.empty(0)] * world

    def total(self, rank: int, tensor: Tensor) -> Tensor:
        self.brought[rank] = tensor
        self.barrier.wait()
        whole = torch.stack(self.brought).sum(0)
        self.barrier.wait()
        return whole

    def bench(self, alone: Bench, rank: int) -> Bench:
        def average(tensors: list[Tensor]) -> None:
            for tensor in tensors:
                tensor.copy_(self.total(rank, tensor.clone()) / self.world)

        return alone._replace(
            rank=rank, world=self.world, average=average, total=lambda tensor: self.total(rank, tensor.clone())
        )

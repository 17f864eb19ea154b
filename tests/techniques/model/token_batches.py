"""Small batches, passes and parts with random weights, for tests of single techniques."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

import paramgolf.techniques  # noqa: F401  fills the registry
from paramgolf.batch import BOS, Batch
from paramgolf.model.attention import plan
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.model.slots import Pass
from paramgolf.parts import Part

SMALL = GPTConfig(vocab=64, dim=32, layers=4, heads=4, kv_heads=2, context=48, backend="plain")
LENGTHS = (5, 1, 7)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def packed_documents(lengths: tuple[int, ...] = LENGTHS, *, seed: int = 0) -> Batch:
    """One row of documents, each with BOS first; every token but BOS at least 2."""
    ids = torch.randint(2, 64, (1, sum(lengths) + 1), generator=torch.Generator().manual_seed(seed))
    starts = torch.tensor([0, *lengths]).cumsum(0)
    ids[0, starts] = BOS
    return Batch(ids[:, :-1], ids[:, 1:], starts.to(torch.int32), max(lengths))


def plain_rows(rows: int = 2, length: int = 9, *, seed: int = 0) -> Batch:
    """Rows of one document that began before them."""
    ids = torch.randint(2, 64, (rows, length + 1), generator=torch.Generator().manual_seed(seed))
    return Batch(ids[:, :-1], ids[:, 1:])


def pass_of(batch: Batch, dim: int = 32) -> Pass:
    return Pass(batch, plan("plain", batch), random(*batch.ids.shape, dim, seed=99))


def has_predecessor(batch: Batch, row: int, place: int) -> bool:
    return place > 0 and int(batch.ids[row, place]) != BOS


def random_part(module: nn.Module | None, *, seed: int = 0) -> Any:
    """`module` with every parameter drawn anew."""
    assert isinstance(module, Part)
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed + number + 1))
    return module


def fresh(module: nn.Module | None, *, seed: int = 0) -> Any:
    """`module` as it starts."""
    assert isinstance(module, Part)
    torch.manual_seed(seed)
    module.reset()
    return module


def small_model(**slots: Any) -> GPT:
    """A model as it starts."""
    torch.manual_seed(0)
    model = GPT(dataclasses.replace(SMALL, **slots))
    model.reset()
    return model

"""Probe models built from the registry: small enough to build by the hundred, rich enough to show a fault."""

import dataclasses
import random
import typing
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import paramgolf.techniques  # noqa: F401  fills the registry
from paramgolf.batch import BOS, Batch
from paramgolf.config import field_types, fits
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.parts import declared
from paramgolf.registry import TECHNIQUES, Entry
from paramgolf.techniques.model import BranchScale, QKGain, QKNorm, Rope, UNetSkips, X0Mix

VOCAB = 64
PLAIN = GPTConfig(vocab=VOCAB, dim=32, layers=4, heads=4, kv_heads=2, context=48, backend="plain")
STACK = dataclasses.replace(
    PLAIN,
    on_read=(X0Mix(),),
    on_qk=(QKNorm(), Rope(), QKGain()),
    on_branch=(BranchScale(),),
    on_step=(UNetSkips(),),
)
"""The baseline's residual and attention, to which every technique is added."""


class Place(NamedTuple):
    """A technique in one of the fields it may fill."""

    entry: Entry
    field: str

    def __str__(self) -> str:
        return f"{self.field}={self.entry.name}"


def registered(slot: str) -> list[Any]:
    """The parameters of a test over every technique of `slot`."""
    found = [entry for entry in TECHNIQUES.values() if fits(entry.fills, slot)]
    return [pytest.param(entry, id=entry.name) for entry in found]


def model_places() -> list[Place]:
    """Every registered technique in every field of the model that takes it."""
    slots = field_types(GPTConfig)
    return [
        Place(entry, slot)
        for entry in TECHNIQUES.values()
        for slot in slots
        if entry.fills.startswith("model.") and fits(entry.fills, f"model.{slot}")
    ]


def with_technique(config: GPTConfig, place: Place) -> GPTConfig:
    """`config` with a technique at its defaults added to, or put into, its field."""
    filler: Any = place.entry.config()
    old = getattr(config, place.field)
    if typing.get_origin(field_types(GPTConfig)[place.field]) is tuple:
        filler = (*(other for other in old if type(other) is not type(filler)), filler)
    return dataclasses.replace(config, **{place.field: filler})


def together(places: list[Place]) -> GPTConfig:
    """The baseline's stack with all of `places`."""
    config = STACK
    for place in places:
        config = with_technique(config, place)
    return config


def samples(size: int, number: int, seed: int) -> list[tuple[str, GPTConfig]]:
    """Random combinations of techniques, the same in every run."""
    chosen, places = random.Random(seed), model_places()
    found: list[tuple[str, GPTConfig]] = []
    while len(found) < number:
        pick = chosen.sample(places, size)
        with suppress(ValueError):  # refused by the configuration: not a model
            found.append((" ".join(map(str, pick)), together(pick)))
    return found


def probe(config: GPTConfig, *, shaken: float = 0.3, seed: int = 0) -> GPT:
    """A model of `config`, halfway through training, with weights that hide nothing.

    At initialization zero projections and gates let nothing through; noise of `shaken` on every parameter does.
    """
    torch.manual_seed(seed)
    model = GPT(config)
    model.reset()
    model.at(0.5)
    shake(model, shaken)
    return model


@torch.no_grad()
def shake(model: GPT, amount: float, *, only: Iterable[str] | None = None) -> None:
    """Add noise of relative size `amount` to the parameters called `only`, or to all."""
    for name, parameter, _ in declared(model):
        if only is None or name in only:
            generator = torch.Generator().manual_seed(sum(name.encode()))
            spread = parameter.numel() ** -0.5 if parameter.ndim < 2 else parameter.shape[-1] ** -0.5
            parameter += amount * max(spread, 0.2) * torch.randn(parameter.shape, generator=generator)


def tokens(rows: int, length: int, *, seed: int = 0) -> Tensor:
    """(rows, length) ids, none of them BOS."""
    return torch.randint(2, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


def packed(lengths: tuple[int, ...], *, seed: int = 0) -> Batch:
    """Documents of `lengths` in one row, each with BOS first, offsets padded as the loader pads them."""
    stream = tokens(1, sum(lengths) + 1, seed=seed)
    ends = torch.tensor(lengths).cumsum(0)
    starts = torch.cat((torch.tensor([0]), ends[:-1]))
    stream[0, starts] = BOS
    edges = torch.cat((starts, ends[-1:].expand(3))).to(torch.int32)
    return Batch(stream[:, :-1], stream[:, 1:], edges, max(lengths))


@torch.no_grad()
def costs(model: GPT, batch: Batch) -> Tensor:
    """(B, T) nats."""
    return model(batch)

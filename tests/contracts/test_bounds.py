"""Numbers out of their range are refused when a technique is configured, or harmless: never NaN in training."""

import dataclasses
import typing
from contextlib import suppress
from typing import Any

import pytest
import torch
from probes import STACK, Place, model_places, tokens

from paramgolf.batch import Batch
from paramgolf.config import field_types
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.optim.adam import AdamConfig
from paramgolf.optim.groups import OptimConfig, Optimizer
from paramgolf.optim.muon import MuonConfig
from paramgolf.optim.schedule import Progress
from paramgolf.registry import TECHNIQUES

PLACES = [place for place in model_places() if {int, float} & set(field_types(place.entry.config).values())]


def odd_values(kind: Any) -> list[Any]:
    return {int: [0, -1], float: [0.0, -0.5]}.get(kind, [])


def odd_configs(kind: type[Any]) -> list[Any]:
    """Every configuration of `kind` with one odd number that it does not refuse."""
    found = []
    for field, of in field_types(kind).items():
        for value in odd_values(of):
            with suppress(ValueError):
                found.append(kind(**{field: value}))
    return found


def in_stack(place: Place, filler: Any) -> GPTConfig:
    """The probe stack with `filler`; raises `ValueError` where the model refuses it."""
    old = getattr(STACK, place.field)
    if typing.get_origin(field_types(GPTConfig)[place.field]) is tuple:
        filler = (*(other for other in old if type(other) is not type(filler)), filler)
    return dataclasses.replace(STACK, **{place.field: filler})


def stays_finite(config: GPTConfig, optim: OptimConfig) -> None:
    torch.manual_seed(0)
    model = GPT(config)
    model.reset()
    optimizer = Optimizer(model, optim)
    for step, fraction in enumerate((0.0, 0.9)):
        progress = Progress(fraction, step, 10.0)
        model.at(fraction)
        optimizer.look(progress)
        loss = model.loss(Batch(tokens(2, 24), tokens(2, 24, seed=1)))
        assert loss.isfinite()
        loss.backward()
        optimizer.step(progress)
        optimizer.zero_grad()
        bad = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
        assert not bad, f"{bad[0]} after step {step + 1}"


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_odd_numbers_of_a_technique_of_the_model(place: Place):
    for filler in odd_configs(place.entry.config):
        try:
            config = in_stack(place, filler)
        except ValueError:
            continue
        stays_finite(config, OptimConfig())


def optimizers() -> list[Any]:
    """Every odd setting of the optimizer that is not refused."""
    found = [OptimConfig(matrix=odd) for odd in odd_configs(MuonConfig)]
    found += [OptimConfig(token=odd) for odd in odd_configs(AdamConfig)]
    slots = ("schedule", "average", "look_ahead", "on_update", "on_direction")
    for entry in TECHNIQUES.values():
        slot = entry.fills.removeprefix("optim.")
        for odd in odd_configs(entry.config) if slot in slots else ():
            found.append(dataclasses.replace(OptimConfig(), **{slot: (odd,) if slot.startswith("on_") else odd}))
    return found


@pytest.mark.parametrize("optim", optimizers(), ids=repr)
def test_odd_numbers_of_the_optimizer(optim: OptimConfig):
    stays_finite(STACK, optim)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(AdamConfig, {"beta2": 1.0}), (AdamConfig, {"lr": -0.1}), (MuonConfig, {"momentum": 1.0})],
)
def test_what_cannot_train_is_refused(kind: type[Any], settings: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(settings))):
        kind(**settings)

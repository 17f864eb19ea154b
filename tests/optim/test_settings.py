"""The settings as a user spells them."""

from dataclasses import dataclass

import pytest

from paramgolf.config import from_toml, overridden, to_toml
from paramgolf.errors import UsageError
from paramgolf.optim.groups import OptimConfig
from paramgolf.techniques.optim import Constant, Warmdown


@dataclass(frozen=True, kw_only=True)
class Holder:
    optim: OptimConfig = OptimConfig()


def test_settings_by_dotted_path() -> None:
    lines = ["optim.schedule=warmdown", "optim.schedule.floor=0.1", "optim.matrix.lr=0.026", "optim.clip=0.3"]
    config = overridden(Holder(), [*lines, "optim.matrix.precision=float32"]).optim
    assert Holder().optim.schedule == Constant()
    assert config.schedule == Warmdown(floor=0.1)
    assert (config.matrix.lr, config.clip, config.matrix.precision) == (0.026, 0.3, "float32")


def test_settings_survive_the_way_through_toml() -> None:
    config = overridden(Holder(), ["optim.schedule=warmdown_steps", "optim.token.beta2=0.99"])
    assert from_toml(Holder, to_toml(config)) == config


@pytest.mark.parametrize(
    "line", ["optim.schedule.floor=0.1", "optim.matrix.precision=fp8", "optim.schedule=classic_quintic"]
)
def test_impossible_settings_are_refused(line: str) -> None:
    with pytest.raises(UsageError):
        overridden(Holder(), [line])


def test_a_value_out_of_range_is_refused_with_its_name() -> None:
    with pytest.raises(UsageError, match="floor=2"):
        overridden(Holder(), ["optim.schedule=warmdown", "optim.schedule.floor=2"])

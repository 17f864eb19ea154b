"""AdamW for everything that is not a matrix inside a block: torch's own, one fused kernel a group."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paramgolf.bounds import require_not_negative, require_shares


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Settings of one AdamW group."""

    lr: float = 0.04
    """Learning rate."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the root of the mean square."""
    weight_decay: float = 0.0
    """Decoupled: each step multiplies the parameter by 1 − lr·weight_decay."""

    def __post_init__(self) -> None:
        require_shares(self, "beta1", "beta2")
        require_not_negative(self, "lr", "eps", "weight_decay")


class AdamGroup(NamedTuple):
    """Parameters with common settings."""

    config: AdamConfig
    parameters: Mapping[str, Tensor]
    rate: Tensor
    """Learning rate of the next step (0-d)."""


class Adam:
    """State of AdamW over named groups of named parameters, all on one device.

    Parameters and moments are fp32 (the records keep the embedding's in bf16; training catalogue §3.3).
    State exists from the start, so that a snapshot before the first step is complete. A parameter
    without a gradient is left alone.
    """

    groups: list[AdamGroup]

    def __init__(self, groups: Mapping[str, tuple[AdamConfig, Mapping[str, Tensor]]]) -> None:
        self.names = [name for name, (_, parameters) in groups.items() if parameters]
        self.groups = [made_group(config, parameters) for config, parameters in groups.values() if parameters]
        options = [
            {
                "params": list(group.parameters.values()),
                "lr": group.rate,
                "betas": (group.config.beta1, group.config.beta2),
                "eps": group.config.eps,
                "weight_decay": group.config.weight_decay,
                "capturable": group.rate.is_cuda,
            }
            for group in self.groups
        ]
        self.inner = torch.optim.AdamW(options, fused=True) if options else None
        for group in self.groups:
            for name, parameter in group.parameters.items():
                self.begin(name, parameter)

    def begin(self, name: str, parameter: Tensor) -> None:
        """Give `parameter` the state that torch would make at its first step."""
        assert self.inner is not None
        assert parameter.dtype == torch.float32, f"{name} is {parameter.dtype}; AdamW keeps fp32 masters"
        self.inner.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def step_groups(self, *, scale: float, kept: Tensor | None = None) -> None:
        """Update every parameter by its gradient; `scale` multiplies each group's learning rate.

        A gradient is multiplied by `kept` (0-d) first, in place.
        """
        if self.inner is None:
            return
        if kept is not None:
            owned = (parameter for group in self.groups for parameter in group.parameters.values())
            if gradients := [parameter.grad for parameter in owned if parameter.grad is not None]:
                torch._foreach_mul_(gradients, kept)
        for group in self.groups:
            group.rate.fill_(group.config.lr * scale)
        self.inner.step()

    def state(self) -> dict[str, Tensor]:
        """All state, parameter by parameter, not copied."""
        if self.inner is None:
            return {}
        return {
            f"{kind}/{name}": tensor
            for group in self.groups
            for name, parameter in group.parameters.items()
            for kind, tensor in self.inner.state[parameter].items()
        }


def made_group(config: AdamConfig, parameters: Mapping[str, Tensor]) -> AdamGroup:
    """A group, its learning rate beside its parameters."""
    return AdamGroup(config, parameters, torch.tensor(config.lr, device=next(iter(parameters.values())).device))

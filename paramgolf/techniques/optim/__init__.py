"""Techniques of the optimizer, one file each."""

from paramgolf.techniques.optim.warmdown import Warmdown as Warmdown
from paramgolf.techniques.optim.warmdown_steps import WarmdownSteps as WarmdownSteps

"""Techniques of the optimizer, one file each; the plain ones lie in the stage."""

from paramgolf.optim.constant_rate import Constant as Constant
from paramgolf.optim.orthogonalize import ClassicQuintic as ClassicQuintic
from paramgolf.techniques.optim.warmdown import Warmdown as Warmdown
from paramgolf.techniques.optim.warmdown_steps import WarmdownSteps as WarmdownSteps

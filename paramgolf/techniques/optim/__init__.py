"""Techniques of the optimizer, one file each; the plain ones lie in the stage."""

from paramgolf.optim.constant_rate import Constant as Constant
from paramgolf.optim.orthogonalize import ClassicQuintic as ClassicQuintic
from paramgolf.techniques.optim.cautious_decay import CautiousDecay as CautiousDecay
from paramgolf.techniques.optim.decay_taper import DecayTaper as DecayTaper
from paramgolf.techniques.optim.ema import EMA as EMA
from paramgolf.techniques.optim.ema_horizons import EMAHorizons as EMAHorizons
from paramgolf.techniques.optim.ema_nesterov import EMANesterov as EMANesterov
from paramgolf.techniques.optim.normuon import NorMuon as NorMuon
from paramgolf.techniques.optim.per_head import PerHead as PerHead
from paramgolf.techniques.optim.polar_express import PolarExpress as PolarExpress
from paramgolf.techniques.optim.row_norm import RowNorm as RowNorm
from paramgolf.techniques.optim.swa import SWA as SWA
from paramgolf.techniques.optim.tail_blend import TailBlend as TailBlend
from paramgolf.techniques.optim.warmdown import Warmdown as Warmdown
from paramgolf.techniques.optim.warmdown_steps import WarmdownSteps as WarmdownSteps

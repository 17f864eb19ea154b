"""Quantizers: one technique, one file."""

from paramgolf.quant.plain_values import PlainValues as PlainValues
from paramgolf.techniques.quant.absmax_clip import AbsmaxClip as AbsmaxClip
from paramgolf.techniques.quant.adaptive_clip import AdaptiveClip as AdaptiveClip
from paramgolf.techniques.quant.awq_lite import AWQLite as AWQLite
from paramgolf.techniques.quant.binary import Binary as Binary
from paramgolf.techniques.quant.equal_slope import EqualSlope as EqualSlope
from paramgolf.techniques.quant.gptq import GPTQ as GPTQ
from paramgolf.techniques.quant.hessian_sd_clip import HessianSDClip as HessianSDClip
from paramgolf.techniques.quant.int8_rows import Int8Rows as Int8Rows
from paramgolf.techniques.quant.lqer import LQER as LQER
from paramgolf.techniques.quant.mixed_bits import MixedBits as MixedBits
from paramgolf.techniques.quant.quantile_search import QuantileSearch as QuantileSearch
from paramgolf.techniques.quant.rate_distortion import RateDistortion as RateDistortion
from paramgolf.techniques.quant.row_grid import RowGridCodes as RowGridCodes
from paramgolf.techniques.quant.sd_clip import SDClip as SDClip
from paramgolf.techniques.quant.selective_pruning import SelectivePruning as SelectivePruning
from paramgolf.techniques.quant.self_generated import SelfGenerated as SelfGenerated
from paramgolf.techniques.quant.small_int8 import SmallInt8 as SmallInt8
from paramgolf.techniques.quant.ternary import Ternary as Ternary

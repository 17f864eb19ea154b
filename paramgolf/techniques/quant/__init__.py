"""Quantizers: one technique, one file."""

from paramgolf.quant.plain_values import PlainValues as PlainValues
from paramgolf.techniques.quant.binary import Binary as Binary
from paramgolf.techniques.quant.int8_rows import Int8Rows as Int8Rows
from paramgolf.techniques.quant.ternary import Ternary as Ternary

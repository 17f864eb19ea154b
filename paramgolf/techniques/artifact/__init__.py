"""Coders of artifacts: one technique, one file."""

from paramgolf.artifact.zlib_coder import ZlibCoder as ZlibCoder
from paramgolf.techniques.artifact.brotli_coder import BrotliCoder as BrotliCoder
from paramgolf.techniques.artifact.lrzip_coder import LrzipCoder as LrzipCoder
from paramgolf.techniques.artifact.lzma_coder import LzmaCoder as LzmaCoder
from paramgolf.techniques.artifact.mixing_coder import MixingCoder as MixingCoder
from paramgolf.techniques.artifact.zstd_coder import ZstdCoder as ZstdCoder

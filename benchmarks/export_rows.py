"""The exports that export_pipelines.py sets side by side: published ones, ours, and both with one idea changed."""

from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from record_coder import record_coder

from paramgolf.artifact.slots import Coder

NO_REWORK = ("quant.refine=none", "quant.allocate=none")
MATRICES = ("attention", "mlp", "embed")
INT8 = tuple(setting for slot in MATRICES for setting in (f"quant.{slot}=int8_rows", f"quant.{slot}.keep=0"))
LITE = tuple(
    setting
    for slot, bits in (("attention", 6), ("mlp", 6), ("embed", 8))
    for setting in (f"quant.{slot}=row_grid", f"quant.{slot}.bits={bits}", f"quant.{slot}.clip=quantile_search")
)
RECORD = tuple(
    setting
    for slot, bits, sigmas in (("attention", 6, 13.0), ("mlp", 6, 11.5), ("embed", 7, 14.0))
    for setting in (
        f"quant.{slot}=gptq",
        f"quant.{slot}.bits={bits}",
        f"quant.{slot}.clip=sd_clip",
        f"quant.{slot}.clip.sigmas={sigmas}",
    )
)
RECORD += ("quant.allocate=none", "quant.refine=lqer", "quant.gate=small_int8")
ROUNDED = tuple(setting.replace("=gptq", "=row_grid") for setting in RECORD)
UNORDERED = tuple(f"quant.{slot}.act_order=false" for slot in MATRICES)
OURS = tuple(
    setting
    for slot in MATRICES
    for setting in (
        f"quant.{slot}=rate_distortion",
        f"quant.{slot}.states=256",
        f"quant.{slot}.rows=curvature",
        f"quant.{slot}.columns=true",
        f"quant.{slot}.choose_rate=true",
        f"quant.{slot}.recenter=true",
    )
)
OURS += (
    "quant.allocate=equal_slope",
    "quant.order_units=true",
    "quant.refine=none",
    "quant.gate=small_int8",
    "quant.scale=small_int8",
)
OUR_CODER = "mixing"


def without(name: str) -> tuple[str, ...]:
    """Our settings with one of every matrix's changed to `name=value`."""
    return (*OURS, *(f"quant.{slot}.{name}" for slot in MATRICES))


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One line of a table."""

    name: str
    settings: tuple[str, ...]
    """Over the run's own configuration."""
    bytes_of: str = ""
    """The pipeline whose bytes this one is brought to."""
    loss_of: str = ""
    """The pipeline whose loss this one is brought to."""
    coder: Coder | None = None
    """In place of the one that the settings name."""


RECORD_NAME, AT_BYTES = "record", "ours at the record's bytes"
PIPELINES = (
    Pipeline(name=AT_BYTES, settings=(*OURS, f"artifact.coder={OUR_CODER}"), bytes_of=RECORD_NAME),
    Pipeline(
        name="ours at the record's loss",
        settings=(*OURS, f"artifact.coder={OUR_CODER}"),
        bytes_of=AT_BYTES,
        loss_of=RECORD_NAME,
    ),
    Pipeline(name="record's codes, our coder", settings=(*RECORD, f"artifact.coder={OUR_CODER}")),
    Pipeline(name="int8 row + zlib", settings=(*INT8, *NO_REWORK, "artifact.coder=zlib")),
    Pipeline(name="GPTQ-lite int6 + zstd", settings=(*LITE, *NO_REWORK, "artifact.coder=zstd")),
    Pipeline(name="GPTQ-lite int6 + lzma", settings=(*LITE, *NO_REWORK, "artifact.coder=lzma")),
    Pipeline(name="record's codes, brotli", settings=(*RECORD, "artifact.coder=brotli")),
)
OUR_ABLATIONS = (
    ("ours, rows by deviation", without("rows=deviation")),
    ("ours, embedding's rows by deviation", (*OURS, "quant.embed.rows=deviation")),
    ("ours, one step for all columns", without("columns=false")),
    ("ours without choice by rate", without("choose_rate=false")),
    ("ours without centroids", without("recenter=false")),
    ("ours without error feedback", without("feedback=false")),
    ("ours, hidden units as trained", (*OURS, "quant.order_units=false")),
    ("ours, vectors in fp16", (*OURS, "quant.scale=plain_values", "quant.scale.bits=16")),
    ("ours, LQER too", (*OURS, "quant.refine=lqer")),
    ("ours, trellis of 64", without("states=64")),
    ("ours, trellis of 8", without("states=8")),
    ("ours, trellis of 4", without("states=4")),
    ("ours without trellis", without("states=1")),
)
RECORD_ABLATIONS = (
    ("record without error feedback", ROUNDED),
    ("record without LQER", (*RECORD, "quant.refine=none")),
    ("record, LQER weighted", (*RECORD, "quant.refine.lqer.weighted=true")),
    ("record, AWQ-lite too", (*RECORD, "quant.refine=awq_lite,lqer")),
    ("record, adaptive clip", (*RECORD, "quant.allocate=adaptive_clip")),
    ("record, columns as they come", (*RECORD, *UNORDERED)),
    ("record, steps of 4 bits", (*RECORD, *(f"quant.{slot}.mantissa=4" for slot in MATRICES))),
    ("record, steps of 2 bits", (*RECORD, *(f"quant.{slot}.mantissa=2" for slot in MATRICES))),
)
ABLATIONS = tuple(
    Pipeline(name=name, settings=(f"artifact.coder={OUR_CODER}", *settings), bytes_of=bytes_of)
    for rows, bytes_of in ((OUR_ABLATIONS, RECORD_NAME), (RECORD_ABLATIONS, ""))
    for name, settings in rows
)
"""Each with one idea changed; those that take longest first, as they may be shared out among processes."""


def record_pipeline() -> Pipeline:
    """What the record's authors shipped, under their own coder or what stands in for it here."""
    coder, told = record_coder()
    return Pipeline(name=f"{RECORD_NAME} ({told})", settings=RECORD, coder=coder)


def add_source_options(parser: ArgumentParser) -> None:
    """What says which trained model is exported: fields of `Source`."""
    parser.add_argument("run", help="folder of a run, or with --weights a preset")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--data")
    parser.add_argument("--data-root", type=Path, default=Path("data"))

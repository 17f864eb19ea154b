"""Export pipelines side by side on one trained checkpoint, weights only, each by the exact round trip.

    python benchmarks/export_pipelines.py runs/FOLDER
    python benchmarks/export_pipelines.py pr1855@h100 --weights FILE.safetensors --data FOLDER --tokens 100000

Bits per byte lost is over the trained weights, on all of the validation text or the first --tokens of it; seconds to
encode are quantization and coding, those to decode from bytes to a model's weights; memory is the peak of the process
while it encodes, and what it held before. Hessians are collected once, before. Rows come in the order of what they
decide, progress on the other stream. A row that was measured is kept in pipelines.jsonl of --folder and not measured
again (--fresh does), so that a run that was cut off goes on. The ablations follow, with their loss brought to the bytes
of the record pipeline at a factor of 4 for a bit a weight.
"""

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from record_coder import record_coder

from paramgolf.artifact.container import pack, unpack
from paramgolf.artifact.ledger import artifact_ledger
from paramgolf.artifact.slots import Coder
from paramgolf.config import source
from paramgolf.errors import GolfError
from paramgolf.events import append, read_events
from paramgolf.lab.analysis.calibration import calibrated
from paramgolf.lab.analysis.points import point_key
from paramgolf.lab.analysis.subject import Source, export_settings, open_subject
from paramgolf.lab.analysis.workbench import Workbench
from paramgolf.quant.budget import quantize_to_budget
from paramgolf.quant.plan import quantize
from paramgolf.run import Run
from paramgolf.stored import Stored
from paramgolf.train.distributed import Place, pick_device

BEGAN = time.perf_counter()
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
LOSS_TRIES = 4
"""Exports at most on the way to a loss."""
LOSS_AIM, LOSS_NEAR = 0.99, 0.97
"""Of the loss that is to be reached: where to aim, and from where on it counts as reached."""


def without(name: str, *settings: str) -> tuple[str, ...]:
    """Our settings with one of every matrix's changed to `name=value`."""
    return (*OURS, *(f"quant.{slot}.{name}" for slot in MATRICES), *settings)


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
ABLATIONS = (
    Pipeline(name="record without error feedback", settings=ROUNDED),
    Pipeline(name="record without LQER", settings=(*RECORD, "quant.refine=none")),
    Pipeline(name="record, LQER weighted", settings=(*RECORD, "quant.refine.lqer.weighted=true")),
    Pipeline(name="record, AWQ-lite too", settings=(*RECORD, "quant.refine=awq_lite,lqer")),
    Pipeline(name="record, adaptive clip", settings=(*RECORD, "quant.allocate=adaptive_clip")),
    Pipeline(name="record, columns as they come", settings=(*RECORD, *UNORDERED)),
    Pipeline(name="ours without trellis", settings=without("states=1"), bytes_of=RECORD_NAME),
    Pipeline(name="ours, trellis of 8", settings=without("states=8"), bytes_of=RECORD_NAME),
    Pipeline(name="ours, trellis of 64", settings=without("states=64"), bytes_of=RECORD_NAME),
    Pipeline(name="ours, rows by deviation", settings=without("rows=deviation"), bytes_of=RECORD_NAME),
    Pipeline(name="ours, one step for all columns", settings=without("columns=false"), bytes_of=RECORD_NAME),
    Pipeline(name="ours without choice by rate", settings=without("choose_rate=false"), bytes_of=RECORD_NAME),
    Pipeline(name="ours without centroids", settings=without("recenter=false"), bytes_of=RECORD_NAME),
    Pipeline(name="ours without error feedback", settings=without("feedback=false"), bytes_of=RECORD_NAME),
    Pipeline(
        name="ours, vectors in fp16",
        settings=(*OURS, "quant.scale=plain_values", "quant.scale.bits=16"),
        bytes_of=RECORD_NAME,
    ),
    Pipeline(name="ours, LQER too", settings=(*OURS, "quant.refine=lqer"), bytes_of=RECORD_NAME),
)


class Row(NamedTuple):
    """What a pipeline came to."""

    name: str
    bytes: int
    lost: float
    encode_seconds: float
    decode_seconds: float
    encode_mib: int
    held_mib: int
    not_codes: int
    """Bytes of everything but codes."""


class Quantized(NamedTuple):
    """Stored weights, which rows that differ in their coder only share."""

    spelled: str
    stored: Mapping[str, Stored]
    seconds: float
    lost: float | None
    artifact: bytes | None
    """Written on the way to a number of bytes, under the coder that was asked for."""


class Ruler:
    """Measures pipelines on one checkpoint."""

    def __init__(self, bench: Workbench, *, fresh: bool) -> None:
        self.bench = bench
        self.path = bench.subject.folder / "pipelines.jsonl"
        self.known: dict[str, Row] = {}
        self.kept: Quantized | None = None
        if self.path.exists() and not fresh:
            for record in read_events(self.path):
                if all(name in record for name in Row._fields):
                    self.known[record["key"]] = Row(*(record[name] for name in Row._fields))

    def row(self, pipeline: Pipeline, done: Mapping[str, Row]) -> Row:
        """The row of `pipeline`; `done` has those it may be brought to."""
        run = export_settings(self.bench.subject.run, pipeline.settings)
        coder = pipeline.coder or run.artifact.coder
        if pipeline.loss_of:
            return self.at_loss(run, pipeline.name, done[pipeline.loss_of], done[pipeline.bytes_of])
        if pipeline.bytes_of:
            return self.measured(run, pipeline.name, budget=done[pipeline.bytes_of].bytes, coder=coder)
        return self.measured(run, pipeline.name, coder=coder)

    def at_loss(self, run: Run, name: str, goal: Row, start: Row) -> Row:
        """The fewest bytes found at which `run` loses no more than `goal`; `start` is `run` at other bytes."""
        slope = -2 * math.log(2) * 8 / self.bench.subject.params
        tries = [start]
        for _ in range(LOSS_TRIES):
            fine = [row for row in tries if row.lost <= goal.lost]
            coarse = [row for row in tries if row.lost > goal.lost]
            if fine and coarse:
                below, above = min(fine, key=lambda row: row.bytes), max(coarse, key=lambda row: row.bytes)
                share = math.log(goal.lost * LOSS_AIM / max(below.lost, 1e-6)) / math.log(
                    above.lost / max(below.lost, 1e-6)
                )
                budget = below.bytes + share * (above.bytes - below.bytes)
            else:
                nearest = min(tries, key=lambda row: abs(math.log(max(row.lost, 1e-6) / goal.lost)))
                budget = nearest.bytes + math.log(goal.lost * LOSS_AIM / max(nearest.lost, 1e-6)) / slope
            row = self.measured(run, name, budget=round(budget), coder=run.artifact.coder)
            tries.append(row)
            if goal.lost * LOSS_NEAR <= row.lost <= goal.lost:
                break
        fitting = [row for row in tries if row.lost <= goal.lost]
        return min(fitting or tries, key=lambda row: row.bytes)._replace(name=name)

    def quantized(self, run: Run, coder: Coder, budget: int | None) -> Quantized:
        """The stored weights of the export of `run`, made once for rows that follow one another."""
        subject = self.bench.subject
        asks = budget is not None or run.quant.allocate is not None
        spelled = f"{source(run.quant)} {coder if asks else ''} {budget}"
        if self.kept is not None and self.kept.spelled == spelled:
            return self.kept
        self.kept = None
        hessians = calibrated(subject, run.quant, self.bench.calibration_tokens)
        model, digest = subject.load_trained(), subject.run.digest
        say(f"quantizing{'' if budget is None else f' to {budget:,} bytes'}")

        written: tuple[Mapping[str, Stored], bytes] = {}, b""

        def size(stored: Mapping[str, Stored]) -> int:
            nonlocal written
            if stored is not written[0]:
                written = stored, pack(stored, self.bench.expected, coder=coder, digest=digest)
                say(f"a try has {len(written[1]):,} bytes")
            return len(written[1])

        began = time.perf_counter()
        if budget is None:
            stored = quantize(model, run.quant, hessians, budget_bytes=run.contest.artifact_bytes, size=size)
        else:
            stored = quantize_to_budget(model, run.quant, hessians, budget_bytes=budget, size=size)
        artifact = written[1] if asks and stored is written[0] else None
        return Quantized(spelled, stored, time.perf_counter() - began, None, artifact)

    def measured(self, run: Run, name: str, *, coder: Coder, budget: int | None = None) -> Row:
        """The row of the export of `run` under `coder`, brought to `budget` bytes if there are any."""
        subject = self.bench.subject
        key = point_key(subject.fingerprint, f"{source(run.quant)} {coder} {budget} {self.bench.calibration_tokens}")
        if key in self.known:
            return self.known[key]._replace(name=name)
        say(name)
        exact = self.bench.exact_bpb()
        forget_peak()
        held = peak_mib()
        made = self.quantized(run, coder, budget)
        began = time.perf_counter()
        artifact = made.artifact or pack(made.stored, self.bench.expected, coder=coder, digest=subject.run.digest)
        encode_seconds, encode_mib = made.seconds + time.perf_counter() - began, peak_mib()
        say(f"{len(artifact):,} bytes in {encode_seconds:.1f} s")
        began = time.perf_counter()
        decoded = unpack(artifact, self.bench.expected, digest=subject.run.digest, coders=(coder,))
        dense = {name: weight.dense() for name, weight in decoded.items()}
        decode_seconds = time.perf_counter() - began
        del dense
        say(f"decoded in {decode_seconds:.1f} s; scoring")
        lost = self.bench.score(decoded) - exact if made.lost is None else made.lost
        self.kept = made._replace(lost=lost)
        codes = sum(row.size for row in artifact_ledger(artifact, (coder,)) if row.kind == "codes")
        times = (encode_seconds, decode_seconds)
        row = Row(name, len(artifact), lost, *times, encode_mib, held, len(artifact) - codes)
        append(self.path, json.dumps({"key": key, **row._asdict()}) + "\n")
        self.known[key] = row
        return row


def say(text: str) -> None:
    """Tell how far it is, on the stream that is not the table's."""
    print(f"[{time.perf_counter() - BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


def forget_peak() -> None:
    """Let the peak of memory begin at what the process holds now, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> int:
    """The most memory the process has held, MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def table(title: str, ruler: Ruler, pipelines: Sequence[Pipeline], done: dict[str, Row]) -> None:
    """Measure and print `pipelines`; what cannot be made is named and left out."""
    print(f"\n{title}", flush=True)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for pipeline in pipelines:
        try:
            row = ruler.row(pipeline, done)
        except GolfError as error:
            print(f"| {pipeline.name} | not here: {error.cause} |" + " |" * (len(HEAD) - 2), flush=True)
            continue
        done.setdefault(pipeline.name, row)
        print(f"| {' | '.join(told_row(row, done[RECORD_NAME], ruler.bench.subject.params))} |", flush=True)


HEAD = (
    "pipeline",
    "bytes",
    "of record",
    "bpb lost",
    "of record",
    "at its bytes",
    "encode s",
    "decode s",
    "MiB",
    "held before",
    "not codes",
)


def told_row(row: Row, record: Row, weights: int) -> tuple[str, ...]:
    """The cells of `row`."""
    fair = row.lost * 4 ** (8 * (row.bytes - record.bytes) / weights)
    return (
        row.name,
        f"{row.bytes:,}",
        f"{row.bytes / record.bytes:.4f}",
        f"{row.lost:+.5f}",
        f"{row.lost / record.lost:.3f}",
        f"{fair:+.5f}",
        f"{row.encode_seconds:.1f}",
        f"{row.decode_seconds:.1f}",
        f"{row.encode_mib:,}",
        f"{row.held_mib:,}",
        f"{row.not_codes:,}",
    )


def parsed_options() -> Any:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run, or with --weights a preset")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--data")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tokens", type=int, help="of the validation text; all of it by default")
    parser.add_argument("--calibration-tokens", type=int, help="of training text; as many as the run takes by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", action="append", default=[], help="a part of the names of the rows to measure")
    parser.add_argument("--folder", type=Path, help="for Hessians and measured rows; a folder of the run by default")
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Measure and print both tables."""
    options = parsed_options()
    asked = Source(options.run, options.weights, tuple(options.settings), options.data, options.data_root, options.runs)
    subject = open_subject(asked, Place(pick_device(options.device)), tokens=options.tokens)
    if options.folder is not None:
        subject = replace(subject, folder=options.folder)
    subject.folder.mkdir(parents=True, exist_ok=True)
    bench = Workbench(subject=subject, calibration_tokens=options.calibration_tokens, told=lambda step: say(step.label))
    ruler, done = Ruler(bench, fresh=options.fresh), dict[str, Row]()
    say("scoring the trained weights")
    print(f"{subject.run.name}, {subject.params:,} parameters, {len(subject.validation.target_bytes):,} tokens scored")
    print(f"trained weights: {bench.exact_bpb():.5f} bpb; device {subject.validation.place.device}", flush=True)

    def chosen(pipelines: tuple[Pipeline, ...]) -> list[Pipeline]:
        return [p for p in pipelines if not options.only or any(part in p.name for part in options.only)]

    coder, told = record_coder()
    record = Pipeline(name=f"record ({told})", settings=RECORD, coder=coder)
    done[RECORD_NAME] = ruler.row(record, done)
    table("Pipelines", ruler, [record, *chosen(PIPELINES)], done)
    if not options.no_ablations:
        ours = f"artifact.coder={OUR_CODER}"
        ablations = tuple(replace(item, settings=(ours, *item.settings)) for item in ABLATIONS)
        table("Ablations", ruler, chosen(ablations), done)


if __name__ == "__main__":
    main()

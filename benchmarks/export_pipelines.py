"""Export pipelines side by side on one trained checkpoint, weights only, each by the exact round trip.

    python benchmarks/export_pipelines.py runs/FOLDER
    python benchmarks/export_pipelines.py pr1855@h100 --weights FILE.safetensors --data FOLDER --tokens 100000

Bits per byte lost is over the trained weights, on all of the validation text or the first --tokens of it; seconds to
encode are quantization and coding, those to decode from bytes to a model's weights; memory is the peak of the process
while it does either. Hessians are collected once, before. A row that was measured is kept in pipelines.jsonl of the
analysis folder and not measured again (--fresh does). The ablations follow, with their loss brought to the bytes of the
record pipeline at a factor of 4 for a bit a weight.
"""

import argparse
import json
import math
import resource
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from paramgolf.artifact.container import pack, unpack
from paramgolf.artifact.slots import Coder, StreamPart
from paramgolf.config import source
from paramgolf.errors import UsageError
from paramgolf.events import append, read_events
from paramgolf.lab.analysis.calibration import calibrated
from paramgolf.lab.analysis.points import point_key
from paramgolf.lab.analysis.subject import Source, export_settings, open_subject
from paramgolf.lab.analysis.workbench import Workbench
from paramgolf.quant.budget import quantize_to_budget
from paramgolf.quant.plan import quantize
from paramgolf.run import Run
from paramgolf.stored import Stored, StreamKind
from paramgolf.techniques.artifact import BrotliCoder
from paramgolf.train.distributed import Place, pick_device

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
        f"quant.{slot}.states=8",
        f"quant.{slot}.rows=curvature",
        f"quant.{slot}.columns=true",
        f"quant.{slot}.choose_rate=true",
        f"quant.{slot}.recenter=true",
    )
)
OURS += ("quant.allocate=equal_slope", "quant.refine=none", "quant.gate=small_int8")
OUR_CODER = "mixing"


def without(name: str, *settings: str) -> tuple[str, ...]:
    """Our settings with one of every matrix's changed to `name=value`."""
    return (*OURS, *(f"quant.{slot}.{name}" for slot in MATRICES), *settings)


@dataclass(frozen=True, kw_only=True)
class LrzipCoder:
    """What the record did with codes: each matrix transposed, those of a shape together, through `lrzip -z -L 9`.

    Its similarity sort is left out (C1: it wins less than its stored permutation costs). Everything else goes through
    brotli, as there.
    """

    identity: ClassVar[int] = 250

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data` compressed."""
        if not codes_only(parts):
            return BrotliCoder().encode(data)
        groups: dict[tuple[int, ...], list[bytes]] = {}
        place = 0
        for part in parts:
            matrix = np.frombuffer(data, np.uint8, part.piece.size, place).reshape(part.piece.shape)
            groups.setdefault(part.piece.shape, []).append(np.ascontiguousarray(matrix.T).tobytes())
            place += part.piece.size
        blobs = [lrzip(b"".join(group)) for group in groups.values()]
        return b"".join(len(blob).to_bytes(4, "little") + blob for blob in blobs)

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """The `size` bytes that `encode` got."""
        if not codes_only(parts):
            return BrotliCoder().decode(data, size)
        shapes = list(dict.fromkeys(part.piece.shape for part in parts))
        whole: dict[tuple[int, ...], bytes] = {}
        place = 0
        for shape in shapes:
            length = int.from_bytes(data[place : place + 4], "little")
            whole[shape] = lrzip(data[place + 4 : place + 4 + length], "-d")
            place += 4 + length
        places, found = dict.fromkeys(shapes, 0), []
        for part in parts:
            shape, start = part.piece.shape, places[part.piece.shape]
            matrix = np.frombuffer(whole[shape], np.uint8, part.piece.size, start).reshape(shape[::-1])
            found.append(np.ascontiguousarray(matrix.T).tobytes())
            places[shape] += part.piece.size
        return b"".join(found)


def codes_only(parts: Sequence[StreamPart]) -> bool:
    """Whether `parts` are matrices of one-byte codes."""
    return bool(parts) and all(part.piece.kind is StreamKind.CODES and len(part.piece.shape) == 2 for part in parts)


def lrzip(data: bytes, *options: str) -> bytes:
    """`data` through the program of that name. Raises `UsageError` when it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given", Path(folder) / "made"
        given.write_bytes(data)
        mode = options or ("-z", "-L", "9")
        try:
            subprocess.run(["lrzip", "-q", "-f", *mode, "-o", made, given], check=True, capture_output=True)
        except FileNotFoundError:
            raise UsageError("lrzip is not installed", fix="apt-get install lrzip") from None
        return made.read_bytes()


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


PIPELINES = (
    Pipeline(name="int8 row + zlib", settings=(*INT8, *NO_REWORK, "artifact.coder=zlib")),
    Pipeline(name="GPTQ-lite int6 + zstd", settings=(*LITE, *NO_REWORK, "artifact.coder=zstd")),
    Pipeline(name="GPTQ-lite int6 + lzma", settings=(*LITE, *NO_REWORK, "artifact.coder=lzma")),
    Pipeline(name="record", settings=RECORD, coder=LrzipCoder()),
    Pipeline(name="record's codes, brotli", settings=(*RECORD, "artifact.coder=brotli")),
    Pipeline(name="record's codes, our coder", settings=(*RECORD, f"artifact.coder={OUR_CODER}")),
    Pipeline(name="ours at the record's loss", settings=(*OURS, f"artifact.coder={OUR_CODER}"), loss_of="record"),
    Pipeline(name="ours at the record's bytes", settings=(*OURS, f"artifact.coder={OUR_CODER}"), bytes_of="record"),
)
ABLATIONS = (
    Pipeline(name="record without error feedback", settings=ROUNDED),
    Pipeline(name="record without LQER", settings=(*RECORD, "quant.refine=none")),
    Pipeline(name="record, LQER weighted", settings=(*RECORD, "quant.refine.lqer.weighted=true")),
    Pipeline(name="record, AWQ-lite too", settings=(*RECORD, "quant.refine=awq_lite,lqer")),
    Pipeline(name="record, adaptive clip", settings=(*RECORD, "quant.allocate=adaptive_clip")),
    Pipeline(name="record, columns as they come", settings=(*RECORD, *UNORDERED)),
    Pipeline(name="ours without trellis", settings=without("states=1"), bytes_of="record"),
    Pipeline(name="ours, trellis of 4", settings=without("states=4"), bytes_of="record"),
    Pipeline(name="ours, rows by deviation", settings=without("rows=deviation"), bytes_of="record"),
    Pipeline(name="ours, one step for all columns", settings=without("columns=false"), bytes_of="record"),
    Pipeline(name="ours without choice by rate", settings=without("choose_rate=false"), bytes_of="record"),
    Pipeline(name="ours without centroids", settings=without("recenter=false"), bytes_of="record"),
    Pipeline(name="ours without error feedback", settings=without("feedback=false"), bytes_of="record"),
    Pipeline(name="ours, LQER too", settings=(*OURS, "quant.refine=lqer"), bytes_of="record"),
)


class Row(NamedTuple):
    """What a pipeline came to."""

    name: str
    bytes: int
    lost: float
    encode_seconds: float
    decode_seconds: float
    encode_mib: int
    decode_mib: int


class Ruler:
    """Measures pipelines on one checkpoint."""

    def __init__(self, bench: Workbench, *, fresh: bool) -> None:
        self.bench = bench
        self.fresh = fresh
        self.path = bench.subject.folder / "pipelines.jsonl"
        self.known: dict[str, Row] = {}
        if self.path.exists():
            for record in read_events(self.path):
                self.known[record["key"]] = Row(*(record[name] for name in Row._fields))

    def row(self, pipeline: Pipeline, done: Mapping[str, Row]) -> Row:
        """The row of `pipeline`; `done` has those it may be brought to."""
        run = export_settings(self.bench.subject.run, pipeline.settings)
        coder = pipeline.coder or run.artifact.coder
        if pipeline.bytes_of:
            return self.measured(run, pipeline.name, budget=done[pipeline.bytes_of].bytes, coder=coder)
        if pipeline.loss_of:
            return self.at_loss(run, pipeline.name, done[pipeline.loss_of])
        return self.measured(run, pipeline.name, coder=coder)

    def at_loss(self, run: Run, name: str, goal: Row) -> Row:
        """The fewest bytes found at which `run` loses no more than `goal`: a search along a factor of 4 a bit."""
        weights, budget = self.bench.subject.params, goal.bytes
        best: Row | None = None
        over = 0
        for _ in range(5):
            row = self.measured(run, f"{name} ({budget:,})", budget=budget, coder=run.artifact.coder)
            good = row.lost <= goal.lost
            if good and (best is None or row.bytes < best.bytes):
                best = row
            over = max(over, 0 if good else row.bytes)
            bits = math.log(max(row.lost, 1e-6) / goal.lost, 4)
            wanted = row.bytes + round(weights / 8 * bits) + 1000
            if best is not None and (abs(wanted - row.bytes) < 20_000 or best.bytes - over < 20_000):
                break
            budget = wanted if best is None else min(max(wanted, over + 5_000), best.bytes - 5_000)
        return (best or row)._replace(name=name)

    def measured(self, run: Run, name: str, *, coder: Coder, budget: int | None = None) -> Row:
        """The row of the export of `run` under `coder`, brought to `budget` bytes if there are any."""
        subject = self.bench.subject
        spelled = f"{source(run.quant)} {coder} {budget} {self.bench.calibration_tokens}"
        key = point_key(subject.fingerprint, spelled)
        if key in self.known and not self.fresh:
            return self.known[key]._replace(name=name)
        hessians = calibrated(subject, run.quant, self.bench.calibration_tokens)
        exact = self.bench.exact_bpb()
        model, digest = subject.load_trained(), subject.run.digest

        def size(stored: Mapping[str, Stored]) -> int:
            return len(pack(stored, self.bench.expected, coder=coder, digest=digest))

        forget_peak()
        began = time.perf_counter()
        own = run.contest.artifact_bytes
        if budget is None:
            stored = quantize(model, run.quant, hessians, budget_bytes=own, size=size)
        else:
            stored = quantize_to_budget(model, run.quant, hessians, budget_bytes=budget, size=size)
        artifact = pack(stored, self.bench.expected, coder=coder, digest=digest)
        encode_seconds, encode_mib = time.perf_counter() - began, peak_mib()
        del stored
        forget_peak()
        began = time.perf_counter()
        decoded = unpack(artifact, self.bench.expected, digest=digest, coders=(coder,))
        dense = {name: weight.dense() for name, weight in decoded.items()}
        decode_seconds, decode_mib = time.perf_counter() - began, peak_mib()
        del dense
        lost = self.bench.score(decoded) - exact
        row = Row(name, len(artifact), lost, encode_seconds, decode_seconds, encode_mib, decode_mib)
        append(self.path, json.dumps({"key": key, **row._asdict()}) + "\n")
        self.known[key] = row
        return row


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


def table(title: str, ruler: Ruler, pipelines: tuple[Pipeline, ...], done: dict[str, Row]) -> None:
    """Measure and print `pipelines`; what the program does not have yet is named and left out."""
    print(f"\n{title}", flush=True)
    head = ("pipeline", "bytes", "of record", "bpb lost", "at its bytes", "encode s", "decode s", "MiB enc", "MiB dec")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for pipeline in pipelines:
        try:
            row = ruler.row(pipeline, done)
        except UsageError as error:
            print(f"| {pipeline.name} | not here: {error.cause} |" + " |" * (len(head) - 2), flush=True)
            continue
        done[pipeline.name] = row
        print(f"| {' | '.join(told_row(row, done['record'], ruler.bench.subject.params))} |", flush=True)


def told_row(row: Row, record: Row, weights: int) -> tuple[str, ...]:
    """The cells of `row`."""
    fair = row.lost * 4 ** (8 * (row.bytes - record.bytes) / weights)
    return (
        row.name,
        f"{row.bytes:,}",
        f"{row.bytes / record.bytes:.4f}",
        f"{row.lost:+.5f}",
        f"{fair:+.5f}",
        f"{row.encode_seconds:.1f}",
        f"{row.decode_seconds:.1f}",
        f"{row.encode_mib:,}",
        f"{row.decode_mib:,}",
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
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Measure and print both tables."""
    options = parsed_options()
    asked = Source(options.run, options.weights, tuple(options.settings), options.data, options.data_root, options.runs)
    subject = open_subject(asked, Place(pick_device(options.device)), tokens=options.tokens)
    bench = Workbench(subject=subject, calibration_tokens=options.calibration_tokens)
    ruler, done = Ruler(bench, fresh=options.fresh), dict[str, Row]()
    print(f"{subject.run.name}, {subject.params:,} parameters, {len(subject.validation.target_bytes):,} tokens scored")
    print(f"trained weights: {bench.exact_bpb():.5f} bpb; device {subject.validation.place.device}", flush=True)

    def chosen(pipelines: tuple[Pipeline, ...]) -> tuple[Pipeline, ...]:
        return tuple(p for p in pipelines if not options.only or any(part in p.name for part in options.only))

    record = next(pipeline for pipeline in PIPELINES if pipeline.name == "record")
    done["record"] = ruler.row(record, done)
    table("Pipelines", ruler, chosen(PIPELINES), done)
    if not options.no_ablations:
        coder = f"artifact.coder={OUR_CODER}"
        ablations = tuple(replace(item, settings=(coder, *item.settings)) for item in ABLATIONS)
        table("Ablations", ruler, chosen(ablations), done)


if __name__ == "__main__":
    main()

"""Export pipelines side by side on one trained checkpoint, weights only, each by the exact round trip.

    python benchmarks/export_pipelines.py runs/FOLDER
    python benchmarks/export_pipelines.py pr1855@h100 --weights FILE.safetensors --data FOLDER --tokens 100000
    for i in 1 2 3 4; do CUDA_VISIBLE_DEVICES=$((i - 1)) python benchmarks/export_pipelines.py ... --part $i/4 & done
    wait
    python benchmarks/export_pipelines.py ... --table

Bits per byte lost is over the trained weights, on all of the validation text or the first --tokens of it; seconds to
encode are quantization and coding, those to decode from bytes to a model's weights; memory is the peak of the process
while it encodes, and what it held before. Hessians are collected once, before. Rows come in the order of what they
decide, progress on the other stream. A row that was measured is kept in pipelines.jsonl of --folder and not measured
again (--fresh does), so that a run that was cut off goes on. The ablations follow, with their loss brought to the bytes
of the record pipeline at a factor of 4 for a bit a weight.

Parts are processes that share one --folder and the machine's cores: each takes the next row that nobody has measured or
is measuring, until there is none. --table prints what is in the folder and measures nothing.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from export_rows import ABLATIONS, PIPELINES, RECORD, RECORD_NAME, Pipeline, add_source_options, record_pipeline
from filelock import FileLock, Timeout
from process_memory import forget_peak, peak_mib
from record_coder import GroupedCoder

from paramgolf.artifact.container import pack, unpack
from paramgolf.artifact.ledger import artifact_ledger
from paramgolf.artifact.slots import Coder
from paramgolf.config import source
from paramgolf.errors import GolfError
from paramgolf.events import append, end_last_line, read_events
from paramgolf.lab.analysis.calibration import calibrated
from paramgolf.lab.analysis.points import point_key
from paramgolf.lab.analysis.subject import Source, Subject, export_settings, fingerprint_of, open_subject
from paramgolf.lab.analysis.workbench import Workbench
from paramgolf.quant.budget import quantize_to_budget
from paramgolf.quant.plan import quantize
from paramgolf.run import Run
from paramgolf.stored import Stored
from paramgolf.train.distributed import Place, pick_device

BEGAN = time.perf_counter()
LOSS_TRIES = 4
"""Exports at most on the way to a loss."""
LOSS_AIM, LOSS_NEAR = 0.99, 0.97
"""Of the loss that is to be reached: where to aim, and from where on it counts as reached."""


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


class NotMeasured(GolfError):
    """A row that is not in the folder, where nothing is to be measured."""


class Ruler:
    """Measures pipelines on one checkpoint."""

    def __init__(self, bench: Workbench, *, fresh: bool = False, measures: bool = True) -> None:
        self.bench = bench
        self.fresh = fresh
        self.measures = measures
        self.path = bench.subject.folder / "pipelines.jsonl"
        self.known: dict[str, Row] = {}
        self.kept: Quantized | None = None
        end_last_line(self.path)
        self.read()

    def read(self) -> None:
        """Learn the rows that are in the file by now."""
        if self.path.exists() and not self.fresh:
            for record in read_events(self.path):
                if all(name in record for name in Row._fields):
                    self.known[record["key"]] = Row(*(record[name] for name in Row._fields))

    def lock(self, what: str, *, waits: bool = True) -> FileLock:
        """To be held while `what` is measured; raises `Timeout` where it does not wait and another process holds it."""
        folder = self.bench.subject.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / point_key(self.bench.subject.fingerprint, what), timeout=-1 if waits else 0)

    def row(self, pipeline: Pipeline) -> Row:
        """The row of `pipeline`."""
        run = export_settings(self.bench.subject.run, pipeline.settings)
        coder = pipeline.coder or run.artifact.coder
        if pipeline.loss_of:
            return self.at_loss(run, pipeline.name, self.named(pipeline.loss_of), self.named(pipeline.bytes_of))
        budget = self.named(pipeline.bytes_of).bytes if pipeline.bytes_of else None
        return self.measured(run, pipeline.name, budget=budget, coder=coder)

    def named(self, name: str) -> Row:
        """The row that others are brought to."""
        return self.record() if name == RECORD_NAME else self.row(next(p for p in PIPELINES if p.name == name))

    def record(self) -> Row:
        """The record's row; one that another machine measured through lrzip holds where that does not run."""
        run = export_settings(self.bench.subject.run, RECORD)
        return self.known.get(self.key(run, GroupedCoder(), None)) or self.row(record_pipeline())

    def key(self, run: Run, coder: Coder, budget: int | None) -> str:
        """Tells apart whatever makes the row of the export of `run` another."""
        spelled = f"{source(run.quant)} {coder} {budget} {self.bench.calibration_tokens}"
        return point_key(self.bench.subject.fingerprint, spelled)

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
        key = self.key(run, coder, budget)
        if key not in self.known:
            if not self.measures:
                raise NotMeasured("not measured")
            with self.lock(key):
                self.read()
                if key not in self.known:
                    row = self.freshly_measured(run, name, coder=coder, budget=budget)
                    append(self.path, json.dumps({"key": key, **row._asdict()}) + "\n")
                    self.known[key] = row
        return self.known[key]._replace(name=name)

    def freshly_measured(self, run: Run, name: str, *, coder: Coder, budget: int | None) -> Row:
        """As `measured`, whatever is known."""
        subject = self.bench.subject
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
        return Row(name, len(artifact), lost, *times, encode_mib, held, len(artifact) - codes)


def say(text: str) -> None:
    """Tell how far it is, on the stream that is not the table's."""
    print(f"[{time.perf_counter() - BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


def table(title: str, ruler: Ruler, pipelines: Sequence[Pipeline], *, waits: bool) -> None:
    """Measure and print `pipelines`; what cannot be made is named and left out, and so is what another part makes."""
    record, weights = ruler.record(), ruler.bench.subject.params
    print(f"\n{title}\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    print(f"| {' | '.join(told_row(record, record, weights))} |", flush=True)
    for pipeline in pipelines:
        try:
            with ruler.lock(pipeline.name, waits=waits):
                row = ruler.row(pipeline)
        except Timeout:
            say(f"{pipeline.name}: another part is at it")
            continue
        except GolfError as error:
            cause = error.cause if isinstance(error, NotMeasured) else f"not here: {error.cause}"
            print(f"| {pipeline.name} | {cause} |" + " |" * (len(HEAD) - 2), flush=True)
            continue
        print(f"| {' | '.join(told_row(row, record, weights))} |", flush=True)


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
    add_source_options(parser)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tokens", type=int, help="of the validation text; all of it by default")
    parser.add_argument("--calibration-tokens", type=int, help="of training text; as many as the run takes by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", action="append", default=[], help="a part of the names of the rows to measure")
    parser.add_argument("--folder", type=Path, help="for Hessians and measured rows; a folder of the run by default")
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--part", type=part_of, help="as 2/4: one of four processes that share the rows and the cores")
    parser.add_argument("--table", action="store_true", help="print what has been measured")
    options = parser.parse_args()
    if options.fresh and (options.part or options.table):
        parser.error("--fresh is for one process that measures; give the parts another --folder")
    return options


def part_of(told: str) -> tuple[int, int]:
    """(number, parts) of a text such as 2/4."""
    number, _, parts = told.partition("/")
    if not (number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{told!r} is not one of 1/4, 2/4, 3/4 and 4/4")
    return int(number), int(parts)


def keep_to_share(number: int, parts: int) -> None:
    """Leave the cores of the other parts to them, where the system can (Linux)."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    share = cores[(number - 1) * len(cores) // parts : number * len(cores) // parts] or cores
    os.sched_setaffinity(0, share)
    torch.set_num_threads(len(share))


def scored_elsewhere(subject: Subject) -> Subject:
    """`subject` under the fingerprint of the device that the rows in its folder come from."""
    for device in ("cuda", "cpu"):
        validation = replace(subject.validation, place=Place(torch.device(device)))
        fingerprint = fingerprint_of(subject.weights_digest, validation)
        there = replace(subject, validation=validation, fingerprint=fingerprint)
        if Workbench(subject=there).exact_known() is not None:
            return there
    raise GolfError("nothing of this checkpoint and text is in the folder", evidence=str(subject.folder))


def main() -> None:
    """Measure and print both tables."""
    options = parsed_options()
    if options.part is not None:
        keep_to_share(*options.part)
    asked = Source(options.run, options.weights, tuple(options.settings), options.data, options.data_root, options.runs)
    place = Place(torch.device("cpu") if options.table else pick_device(options.device))
    subject = open_subject(asked, place, tokens=options.tokens)
    if options.folder is not None:
        subject = replace(subject, folder=options.folder)
    subject.folder.mkdir(parents=True, exist_ok=True)
    if options.table:
        subject = scored_elsewhere(subject)
    bench = Workbench(subject=subject, calibration_tokens=options.calibration_tokens, told=lambda step: say(step.label))
    ruler = Ruler(bench, fresh=options.fresh, measures=not options.table)
    print(f"{subject.run.name}, {subject.params:,} parameters, {len(subject.validation.target_bytes):,} tokens scored")
    print(f"trained weights: {bench.exact_bpb():.5f} bpb; device {subject.validation.place.device}", flush=True)

    def chosen(pipelines: tuple[Pipeline, ...]) -> list[Pipeline]:
        return [p for p in pipelines if not options.only or any(part in p.name for part in options.only)]

    waits = options.part is None
    table("Pipelines", ruler, chosen(PIPELINES), waits=waits)
    if not options.no_ablations:
        table("Ablations", ruler, chosen((PIPELINES[0], *ABLATIONS)), waits=waits)


if __name__ == "__main__":
    main()

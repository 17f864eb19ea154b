"""Time of a training step, everything included, for several settings of one preset; medians in one process.

    python benchmarks/step_time.py baseline --data data/corpus_sp1024 --variant "" --variant model.backend=flash

Each `--variant` is a space-separated list of overrides, after those of `--common`; `--gains` measures what each
optimization adds to those before it. `--profile FILE` writes where the device's time goes in the last variant.
Of one step more, on a GPU: how long its kernels take together, how many there are, and how long the device pauses
between them and waits (`device_time.py`). Kernels of that one step, after a wait, may run at a higher clock.
`--ahead 3` compiles the variants in three processes at a time before the first is timed: they find each other's kernels
on the disk. Each holds a model on the device.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from device_time import DEVICE_TIME_HEADING, device_time_of, kernel_table, profiled

from paramgolf import techniques  # noqa: F401  (fills the registry)
from paramgolf.config import overridden
from paramgolf.data.dataset import open_dataset
from paramgolf.model.fused import FUSED
from paramgolf.optim.groups import Optimizer
from paramgolf.presets import preset
from paramgolf.run import Run
from paramgolf.stages import attention_backend, fresh_model
from paramgolf.train.clock import Clock
from paramgolf.train.distributed import Place, placed
from paramgolf.train.loop import Trainer

GAINS = (
    "model.backend=flex model.fused=none",
    "model.fused=none",
    "model.fused=loss",
    "model.fused=loss,feed_forward",
    "model.fused=loss,feed_forward,queries_keys",
    "model.fused=loss,feed_forward,queries_keys,heads",
    "model.fused=loss,feed_forward,queries_keys,heads,scales",
    "model.fused=loss,feed_forward,queries_keys,heads,scales,mix",
    "model.fused=loss,feed_forward,queries_keys,heads,scales,mix,lanes",
    "model.fused=loss,feed_forward,queries_keys,heads,scales,mix,lanes,groups",
    "model.fused=loss,feed_forward,queries_keys,heads,scales,mix,lanes,groups,attention",
    "",
    "train.record=true",
    f"train.record=true model.fused={','.join(FUSED)},fp8",
)
"""From FlexAttention and the compiler's kernels to everything, one optimization more in each."""

REPORT = {"flat": "train.record=true", "looped": "train.record=true model.order.starts=0.0,0.0"}
"""The steps of a record that loops some layers after a while, before and after."""


def trainer_of(run: Run, folder: Path, place: Place) -> Trainer:
    model = fresh_model(run, place)
    optimizer = Optimizer(model, run.optim, compiled=run.train.compile and place.device.type == "cuda")
    micro = run.train.batch_tokens // run.train.accumulation(place.world)
    shards = open_dataset(folder, run.data.variant).train
    sizes = {"tokens": micro, "seq_len": run.train.seq_len, "rank": place.rank, "world": place.world}
    loader = run.data.loader.build(shards, seed=run.seed, **sizes)
    return Trainer(run.train, model, optimizer, loader, Clock(run.train, 1e9), place)


def step_times(trainer: Trainer, steps: int) -> list[float]:
    """Milliseconds of each step. On a GPU from step end to step end, the host running ahead as it does in training."""
    on_gpu = trainer.place.device.type == "cuda"
    marks = [device_mark() if on_gpu else time.perf_counter()]
    for _ in range(steps):
        trainer.advance()
        marks.append(device_mark() if on_gpu else time.perf_counter())
    trainer.place.synchronize()
    pairs = pairwise(marks)
    return [a.elapsed_time(b) if on_gpu else 1000 * (b - a) for a, b in pairs]


def device_mark() -> Any:
    """An event of the device's clock, set where the stream is now."""
    mark = torch.cuda.Event(enable_timing=True)
    mark.record()
    return mark


def profiled_step(trainer: Trainer) -> Any:
    """The profile of one step."""

    def step() -> None:
        trainer.advance()
        trainer.place.synchronize()

    return profiled(step, trainer.place.device.type)


def compile_ahead(options: argparse.Namespace, variants: Sequence[str]) -> None:
    """Run every variant once for its compiled kernels, `options.ahead` at a time; one that fails will say so later."""
    began = time.perf_counter()
    same = [sys.executable, __file__, options.preset, "--data", str(options.data), "--common", options.common]

    def work(variant: str) -> int:
        command = [*same, "--steps", "1", "--variant", variant]
        return subprocess.run(command, capture_output=True, check=False).returncode

    with ThreadPoolExecutor(options.ahead) as pool:
        failed = sum(code != 0 for code in pool.map(work, variants))
    print(f"compiled ahead in {time.perf_counter() - began:.0f} s, {failed} of {len(variants)} failed", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--variant", action="append", default=[])
    parser.add_argument("--common", default="")
    parser.add_argument("--gains", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--report", type=Path, help="folder: flat and looped steps, and where the time of each goes")
    parser.add_argument("--ahead", type=int, default=0, help="compile the variants first, so many at a time")
    options = parser.parse_args()
    report = tuple(REPORT.values()) if options.report else ()
    variants = (*(GAINS if options.gains else ()), *report, *options.variant) or ("",)
    if options.ahead:
        compile_ahead(options, variants)
    heading = f"{'variant':48} {'backend':>8} {'ms/step':>9} {'/65,536':>8} {'spread':>7} {'MiB':>7} {'compile s':>9}"
    print(heading, DEVICE_TIME_HEADING)
    with placed() as place:
        for number, variant in enumerate(variants, 1):
            run = overridden(preset(options.preset), f"{options.common} {variant}".split())
            torch._dynamo.reset()
            if place.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            trainer = trainer_of(run, options.data, place)
            began = time.perf_counter()
            for _ in range(3):
                trainer.advance()
            place.synchronize()
            compiled = time.perf_counter() - began
            times = step_times(trainer, options.steps)
            median = statistics.median(times)
            spread = (max(times) - min(times)) / median
            memory = torch.cuda.max_memory_allocated() >> 20 if place.device.type == "cuda" else 0
            per = median * 65_536 / (run.train.batch_tokens / place.world)
            backend = attention_backend(run, place)
            row = f"{variant or '(preset)':48} {backend:>8} {median:9.2f} {per:8.2f} {spread:7.1%}"
            kind, profile = place.device.type, profiled_step(trainer)
            print(f"{row} {memory:7d} {compiled:9.1f} {device_time_of(profile)}", flush=True)
            if options.profile and number == len(variants):
                options.profile.write_text(kernel_table(profile, kind))
            if variant in report:
                name = next(name for name, settings in REPORT.items() if settings == variant)
                (options.report / f"{name}.txt").write_text(kernel_table(profile, kind))


if __name__ == "__main__":
    main()

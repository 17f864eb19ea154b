"""One process against several at the same global batch: the same losses, and how much faster.

    python benchmarks/two_gpus.py pr1855 --data data/english8192 --processes 1,2 --steps 30 \
        --set train.batch_tokens=196608 --set train.device_tokens=98304
    python benchmarks/two_gpus.py demo --data DATA --set data.loader=sequential --processes 1,1,2 --device cpu

Each entry of `--processes` is a run of its own under torchrun, from the same weights and the same text; every loss is
compared with the first entry's; an entry given twice shows how far two runs of the same thing go apart. Of the loaders
sequential and packed give every number of ranks the same text; shuffled and coprime share shards out. `ms/step` is the
median after compiling, everything included, for every stretch of training that runs a graph of its own. `own` is
forward and backward of one step on each rank alone: what the slowest rank makes the others wait. `mean` is what
gradients' means over ranks cost alone, host and device, with the rate it comes to; `agree` one decision that all ranks
take together.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from paramgolf.data.dataset import open_dataset
from paramgolf.events import Events
from paramgolf.lab.launch import asked_run
from paramgolf.optim.groups import Optimizer
from paramgolf.provenance import device_name, peak_memory_mib
from paramgolf.run import Run
from paramgolf.stages import fresh_model
from paramgolf.train.clock import Clock
from paramgolf.train.distributed import Place, average_over_ranks, placed
from paramgolf.train.loop import Trainer


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one run showed on one rank."""

    world: int
    accumulation: int
    losses: list[float]
    step_ms: list[float]
    """Of each step but the first."""
    stretches: list[int]
    """Steps (from 0) at which another graph comes in, the first being 0."""
    own_ms: float
    """Of this rank, without waiting for others."""
    mean_ms: float
    agree_ms: float
    compile_seconds: float
    peak_mib: int
    device: str
    peers: bool
    """Whether the first two devices reach each other's memory."""
    gradient_bytes: int

    def stretch_ms(self, place: int) -> float:
        """Median of the steps of one stretch."""
        ends = [*self.stretches[1:], len(self.losses)]
        steps = range(max(self.stretches[place], 1), ends[place])
        return statistics.median(self.step_ms[step - 1] for step in steps)


def trainer_of(run: Run, folder: Path, place: Place) -> Trainer:
    model = fresh_model(run, place)
    on_gpu = place.device.type == "cuda"
    optimizer = Optimizer(model, run.optim, compiled=run.train.compile and on_gpu, ranks=place)
    loader = run.data.loader.build(
        open_dataset(folder, run.data.variant).train,
        tokens=run.train.batch_tokens // run.train.accumulation(place.world),
        seq_len=run.train.seq_len,
        rank=place.rank,
        world=place.world,
        seed=run.seed,
    )
    return Trainer(run.train, model, optimizer, loader, Clock(run.train, 1e9), place)


def stepped(trainer: Trainer, steps: int) -> tuple[list[float], list[float]]:
    """Losses of `steps` steps and the milliseconds between their ends, the host a step ahead as in training."""
    losses, ends = [], []
    for number in range(steps):
        trainer.advance()
        if number:
            losses.append(trainer.finished_loss(trainer.step - 2))
            ends.append(time.perf_counter())
    losses.append(trainer.finished_loss(trainer.step - 1))
    ends.append(time.perf_counter())
    return losses, [1000 * (after - before) for before, after in pairwise(ends)]


def stretches(trainer: Trainer, steps: int) -> list[int]:
    """Steps at which another graph comes in; those that the run is too short for are left out."""
    begins = sorted({math.ceil(round(fraction * steps, 9)) for fraction in trainer.phases()})
    return [step for step in begins if step < steps - 1 and step != 1]


def own_micro_steps(trainer: Trainer) -> None:
    """Forward and backward of one step as the last one ran, its gradients dropped."""
    phase = (trainer.model.order, len(trainer.model.config.switches))
    for _ in range(trainer.accumulation):
        batch = trainer.loader.next().to(trainer.place.device)
        trainer.micro_step.accumulate(batch, share=trainer.accumulation, phase=phase)
    trainer.optimizer.zero_grad()


def median_ms(place: Place, work: Callable[[], Any], times: int = 15) -> float:
    """Of `work` alone, waited for."""
    taken = []
    for _ in range(times):
        place.barrier()
        place.synchronize()
        began = time.perf_counter()
        work()
        place.synchronize()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def worker(options: argparse.Namespace) -> None:
    """One rank of one run."""
    run = asked_run(options.preset, (*options.settings, "train.by=steps", f"train.steps={options.steps}"))
    with placed(options.device) as place:
        trainer = trainer_of(run, options.data, place)
        began = time.perf_counter()
        if place.device.type == "cuda":
            trainer.warm_up(Events())
        compile_seconds = time.perf_counter() - began
        losses, step_ms = stepped(trainer, options.steps)
        own_ms = median_ms(place, lambda: own_micro_steps(trainer), times=5 if place.device.type == "cpu" else 15)
        gradients = [torch.zeros_like(weight) for weight in trainer.optimizer.parameters.values()]
        found = Measured(
            world=place.world,
            accumulation=trainer.accumulation,
            losses=losses,
            step_ms=step_ms,
            stretches=stretches(trainer, options.steps),
            own_ms=own_ms,
            mean_ms=median_ms(place, lambda: average_over_ranks(gradients, place.world)),
            agree_ms=median_ms(place, lambda: place.agree([0.0, 1.0])),
            compile_seconds=compile_seconds,
            peak_mib=peak_memory_mib(place.device)[0],
            device=device_name(place.device),
            peers=torch.cuda.device_count() > 1 and torch.cuda.can_device_access_peer(0, 1),
            gradient_bytes=sum(gradient.nbytes for gradient in gradients),
        )
        options.worker.with_suffix(f".{place.rank}").write_text(json.dumps(asdict(found)))


def measured(processes: int, into: Path) -> list[Measured]:
    """One run of `processes` ranks: what each of them showed."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    subprocess.run(
        [*launcher, __file__, *sys.argv[1:], "--worker", str(into)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    )
    return [Measured(**json.loads(into.with_suffix(f".{rank}").read_text())) for rank in range(processes)]


def report(found: list[list[Measured]], tokens: int, shown: int) -> None:
    """Losses beside one another, then the speeds of every stretch, then where the time goes."""
    runs = [ranks[0] for ranks in found]
    first = runs[0]
    print(f"{'step':>5}" + "".join(f" {f'{run.world} proc.':>11} {'difference':>11}" for run in runs))
    last = len(first.losses) - 1
    for step in sorted({*range(min(shown, last + 1)), *range(0, last, max(1, last // 5)), last}):
        cells = [f" {run.losses[step]:11.6f} {difference(run, first, step):11.1e}" for run in runs]
        print(f"{step + 1:5d}" + "".join(cells))
    rows = [("from step", "processes", "ms/step", "tokens/s", "ratio")]
    for place, begin in enumerate(first.stretches):
        for run in runs:
            step_ms = run.stretch_ms(place)
            ratio = first.stretch_ms(place) / step_ms
            rows.append(
                (f"{begin + 1}", f"{run.world}", f"{step_ms:.2f}", f"{1000 * tokens / step_ms:,.0f}", f"{ratio:.3f}")
            )
    table(rows)
    parts: list[tuple[str, ...]] = [
        ("processes", "micro-steps", "largest diff.", "own ms", "mean ms", "mean GB/s", "agree ms", "MiB", "warm-up s")
    ]
    for run, ranks in zip(runs, found, strict=True):
        largest = max(difference(run, first, step) for step in range(last + 1))
        own = " / ".join(f"{rank.own_ms:.1f}" for rank in ranks)
        rate = f"{run.gradient_bytes / run.mean_ms / 1e6:.1f}" if run.world > 1 else ""
        begun = (f"{run.world}", f"{run.accumulation}", f"{largest:.1e}", own, f"{run.mean_ms:.2f}", rate)
        parts.append((*begun, f"{run.agree_ms:.2f}", f"{run.peak_mib:,}", f"{run.compile_seconds:.1f}"))
    table(parts)
    peers = ", peers reach each other's memory" if first.peers else ""
    print(f"\n{tokens:,} tokens a step over all processes, {first.device}{peers}, torch {torch.__version__}")


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))


def difference(run: Measured, first: Measured, step: int) -> float:
    """Relative, of one step's loss."""
    return abs(run.losses[step] - first.losses[step]) / abs(first.losses[step])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--processes", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--show", type=int, default=10, help="first steps to show")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    run = asked_run(options.preset, tuple(options.settings))
    with tempfile.TemporaryDirectory() as folder:
        runs = [measured(count, Path(folder) / f"{turn}.json") for turn, count in enumerate(options.processes)]
    report(runs, run.train.batch_tokens, options.show)


if __name__ == "__main__":
    main()

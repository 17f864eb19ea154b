"""The ladder: presets trained in the proxy contest, one process a GPU, and a table of what each reached before export.

    python benchmarks/ladder.py --data ROOT --gpus 4         # the published milestones, 3 seeds of the last two
    python benchmarks/ladder.py --data ROOT pr1855 "pr1855 optim.average=none" --seeds 1337,42
    python benchmarks/ladder.py --data ROOT baseline pr1855 --horizons 0.25,0.5,2,4
    python benchmarks/ladder.py --data ROOT --table          # what is there so far

A rung is a preset with overrides; `@h100` is added to its name (`--proxy none`: not). `--set` holds for every rung.
ROOT is a prepared folder, or holds several, and `data.variant` of the preset chooses. A finished run is not repeated
(remove its folder to make it again), an unfinished one goes on from its checkpoint: repeat the command until the table
is whole. Nothing is exported or adapted. All rungs are scored alike, on the whole validation text, by the averaged
weights where a run keeps an average: `documents` each by itself in windows side by side, `contiguous` windows side by
side whatever they hold; `weights` is `documents` of the weights themselves. While one run is scored on a GPU the next
one compiles there; its clock starts when the GPU is its own.

`--horizons`: beside the preset's own average of the weights, or where it has none that of pr1855, others are kept
that forget so many times slower, and each is scored. One moves 12 bytes a weight, by count 0.15 ms for 36 million.
"""

import argparse
import json
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from gpu_turns import Turns, environment, visible_gpus
from ladder_rows import HEAD, ROW, Job, Row, line, table

from paramgolf.data.dataset import is_prepared, open_dataset
from paramgolf.errors import DataError, UsageError
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.evaluation import Contiguous
from paramgolf.evaluate.slots import EvaluationProtocol
from paramgolf.events import Event, read_events
from paramgolf.lab.launch import Launch, session
from paramgolf.presets import preset
from paramgolf.provenance import device_name, git_commit
from paramgolf.run import Run
from paramgolf.stages import Trained, train_stage
from paramgolf.techniques.optim import EMA
from paramgolf.techniques.optim.ema_horizons import HorizonAverager
from paramgolf.train.distributed import placed
from paramgolf.validation import Validation

LADDER = ("baseline", "pr414", "pr549", "pr1218", "pr1394", "pr1493", "pr1855")
OWN, NONE = "1", "none"
"""Names of two averages: the preset's own, and the weights themselves."""
HEAD_START = 20.0
"""Seconds after which a second process comes to a GPU, so that runs begin in their order."""


def horizon(run: Run) -> float:
    """Steps over which the average of `run` forgets; that of pr1855 in the proxy contest where it keeps none."""
    average = run.optim.average or preset("pr1855@h100").optim.average
    if not isinstance(average, EMA):
        raise UsageError(f"--horizons are of an EMA, and {run.name} keeps {average}", fix="leave the rung out")
    return 1.0 / (1.0 - average.decay)


def kept_averages(run: Run, factors: Sequence[float]) -> tuple[str, ...]:
    """Settings that keep the average of `run` and those that forget `factors` times as slowly."""
    steps = [max(horizon(run) * factor, 1.0) for factor in (1.0, *factors)]
    return ("optim.average=ema_horizons", f"optim.average.steps={','.join(f'{value:.6g}' for value in steps)}")


def variant_folder(root: Path, variant: str) -> Path:
    """`root` or the folder in it that holds data of `variant`."""
    for home in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        if is_prepared(home):
            try:
                name = open_dataset(home, variant).name
            except (UsageError, DataError):
                continue
            if name == variant or name.endswith(f"_{variant}"):
                return home
    raise DataError(f"{root} holds no data of variant {variant}", fix=f"paramgolf data prepare --variant {variant}")


def made(job: Job, options: argparse.Namespace, gpu: str, last_start: float) -> None:
    """Train and score one run in this process, when its GPU is free, but not after `last_start` (Unix time, 0: any)."""
    turns = Turns(options.out, gpu)
    turns.compiling.acquire()
    try:
        if job.row(options.out) is None and not 0.0 < last_start < time.time():
            train_and_score(job, options, turns)
    finally:
        turns.over()


def train_and_score(job: Job, options: argparse.Namespace, turns: Turns) -> None:
    """Leave the row of `job` in the folder of its run."""
    run = job.run
    launch = Launch(
        preset=run.name,
        settings=(*job.overrides, *(kept_averages(run, options.horizons) if options.horizons else ())),
        seed=job.seed,
        data=str(variant_folder(options.data, run.data.variant)),
        data_root=options.data,
        runs=options.out,
        resume="auto",
    )
    with placed(options.device) as place, session(launch, place, (told, turns.heard)) as ready:
        validation = Validation.of(ready.run, ready.dataset, place, ready.events)
        trained = train_stage(ready, validation)
        # From the events: a training that was finished by another process is only loaded here.
        peak = max((e["peak_mib"] for e in read_events(ready.folder.events) if e["event"] == "trained"), default=0)
        began = time.perf_counter()
        averages = scores(trained, options.horizons, validation, Documents())
        shown = OWN if ready.run.optim.average and run.optim.average else NONE
        contiguous = scores(trained, (), validation, Contiguous())
        row = Row(
            rung=job.rung,
            seed=job.seed,
            settings=list(job.settings),
            proxy=job.proxy,
            digest=run.digest,
            documents=averages[shown],
            contiguous=contiguous[shown],
            weights=averages[NONE],
            averages=averages,
            steps=trained.outcome.steps,
            step_ms=trained.outcome.step_ms,
            train_seconds=trained.outcome.seconds,
            batch_tokens=run.train.batch_tokens,
            params=sum(weight.numel() for weight in trained.model.parameters()),
            peak_mib=peak,
            warmup_seconds=trained.outcome.warmup_seconds,
            validation_seconds=time.perf_counter() - began,
            val_bytes=int(validation.target_bytes.sum()),
            dataset=ready.dataset.name,
            device=device_name(place.device),
            commit=git_commit(),
        )
        ready.folder.write_json(ready.folder.path / ROW, asdict(row))
    if not options.keep:
        shutil.rmtree(ready.folder.checkpoint, ignore_errors=True)


def scores(
    trained: Trained, factors: Sequence[float], validation: Validation, protocol: EvaluationProtocol
) -> dict[str, float]:
    """Bits per byte of the weights themselves and of every average that was kept."""
    found = {NONE: validation.score(trained.model, protocol).tally.bits_per_byte}
    averager = trained.optimizer.averager
    for place, factor in enumerate((1.0, *factors) if averager else ()):
        with averager.apply(place) if isinstance(averager, HorizonAverager) else trained.optimizer.averaged():
            found[f"{factor:g}"] = validation.score(trained.model, protocol).tally.bits_per_byte
    return found


def told(event: Event) -> None:
    """Progress, into the log of the run."""
    if event["event"] in ("started", "warmed_up", "resumed", "trained"):
        print(json.dumps(event), flush=True)
    elif event["event"] == "step":
        print(f"{event['train_seconds']:7.1f} s  step {event['step']}  loss {event['loss']:.4f}", flush=True)


def planned(options: argparse.Namespace) -> list[Job]:
    """Every run that is asked for: of the last two rungs with `--last-seeds`."""
    rungs = options.rungs or list(LADDER)
    wanted = [rung for rung in rungs if not options.only or rung.split()[0] in options.only]
    seeds = {rung: options.last_seeds if rung in rungs[-2:] else options.seeds for rung in wanted}
    most = max((len(chosen) for chosen in seeds.values()), default=0)
    # First one seed of every rung: an unfinished ladder still says something. The newest come first: they compile
    # longest, and their other seeds find that done.
    return [
        Job(rung=rung, seed=chosen[turn], settings=tuple(options.settings), proxy=options.proxy)
        for turn in range(most)
        for rung, chosen in reversed(seeds.items())
        if turn < len(chosen)
    ]


def carried_out(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Make the runs, each in a process of its own: on every GPU one that trains and one that compiles or is scored."""
    gpus = visible_gpus(options.gpus)
    free: queue.Queue[tuple[str, float]] = queue.Queue()
    for wait in (0.0, HEAD_START) if options.gpus else (0.0,):
        for gpu in gpus:
            free.put((gpu, wait))
    running: set[subprocess.Popen[bytes]] = set()
    last_start = time.time() + options.until if options.until else 0.0

    def one(job: Job) -> None:
        gpu, wait = free.get()
        time.sleep(wait)
        try:
            log = options.out / f"{job.run.name}_{job.run.digest}_s{job.seed}.log"
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", job.rung, str(job.seed), gpu]
            with log.open("ab") as file:
                process = subprocess.Popen(
                    [*command, f"{last_start}"], stdout=file, stderr=file, env=environment(gpu, options.gpus)
                )
                running.add(process)
                code = process.wait()
            row = job.row(options.out)
            print(line(row) if row else f"{job.rung} {job.seed}: exit code {code}, {log}", flush=True)
        finally:
            free.put((gpu, 0.0))

    pool = ThreadPoolExecutor(free.qsize())
    try:
        for done in [pool.submit(one, job) for job in jobs]:
            done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()  # what trains saves itself after its step
        pool.shutdown()


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def factors(text: str) -> list[float]:
    return [float(word) for word in text.split(",") if float(word) != 1.0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rungs", nargs="*", help='"PRESET [path=value ...]"; none: the published milestones')
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/ladder"))
    parser.add_argument(
        "--gpus", type=int, default=0, help="runs at a time, one a GPU; 0: one at a time, device as found"
    )
    parser.add_argument("--seeds", type=numbers, default=[1337])
    parser.add_argument("--last-seeds", type=numbers, help="of the last two rungs; without rungs 1337,42,7")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="presets of the list to run now")
    parser.add_argument("--proxy", default="h100")
    parser.add_argument("--horizons", type=factors, default=[], help="also keep averages of so many times the horizon")
    parser.add_argument("--until", type=float, default=0.0, help="seconds after which no further run is begun")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints of finished runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--table", action="store_true", help="only show what there is")
    parser.add_argument("--worker", nargs=4, metavar=("RUNG", "SEED", "GPU", "LAST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.last_seeds = options.last_seeds or (options.seeds if options.rungs else [1337, 42, 7])
    options.out.mkdir(parents=True, exist_ok=True)
    if options.worker:
        rung, seed, gpu, last_start = options.worker
        job = Job(rung=rung, seed=int(seed), settings=tuple(options.settings), proxy=options.proxy)
        made(job, options, gpu, float(last_start))
        return
    jobs = planned(options)
    if not options.table:
        print(HEAD)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        carried_out([job for job in jobs if job.row(options.out) is None], options)
        print()
    table(jobs, options.rungs or LADDER, options.out)


if __name__ == "__main__":
    main()

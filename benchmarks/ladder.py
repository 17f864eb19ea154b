"""The ladder: presets trained in the proxy contest, one process a GPU, and a table of what each reached before export.

    python benchmarks/ladder.py --data ROOT --gpus 4         # the published milestones, 3 seeds of the last two
    python benchmarks/ladder.py --data ROOT pr1855 "pr1855 optim.average=none" --seeds 1337,42
    python benchmarks/ladder.py --data ROOT --table          # what is there so far

A rung is a preset with overrides; `@h100` is added to its name (`--proxy none`: not). `--set` holds for every rung.
ROOT is a prepared folder, or holds several, and `data.variant` of the preset chooses. A finished run is not repeated
(remove its folder to make it again), an unfinished one goes on from its checkpoint: repeat the command until the table
is whole. Nothing is exported or adapted: `bpb` is the raw validation of a run, of the averaged weights where it keeps
an average, of documents where it packs them, else of windows side by side; `weights` is that of the weights themselves.
`--protocol` scores all alike, and with `--keep` does so again from the checkpoints of runs that are there.
"""

import argparse
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from paramgolf.bundle.significance import below_others, spread
from paramgolf.data.dataset import is_prepared, open_dataset
from paramgolf.errors import DataError, UsageError
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.evaluation import Contiguous
from paramgolf.evaluate.slots import EvaluationProtocol
from paramgolf.events import read_events
from paramgolf.lab.launch import Launch, asked_run, session
from paramgolf.provenance import device_name, git_commit
from paramgolf.run import Run
from paramgolf.stages import train_stage
from paramgolf.train.distributed import placed
from paramgolf.validation import Validation

LADDER = ("baseline", "pr414", "pr549", "pr1218", "pr1394", "pr1493", "pr1855")
ROW = "ladder.json"
"""In a run's folder once it is scored."""
PROTOCOLS: dict[str, EvaluationProtocol] = {"documents": Documents(), "contiguous": Contiguous()}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one run came to."""

    rung: str
    seed: int
    settings: list[str]
    proxy: str
    protocol: str
    digest: str
    bpb: float
    weights_bpb: float
    steps: int
    step_ms: float
    train_seconds: float
    batch_tokens: int
    params: int
    peak_mib: int
    warmup_seconds: float
    validation_seconds: float
    val_bytes: int
    dataset: str
    device: str
    commit: str

    @property
    def tokens_per_second(self) -> float:
        """At the median step."""
        return 1000 * self.batch_tokens / self.step_ms if self.step_ms else 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run to be made. It is known by these words: code and configuration may have moved since."""

    rung: str
    seed: int
    settings: tuple[str, ...]
    proxy: str
    protocol: str

    @property
    def run(self) -> Run:
        preset = self.rung.split()[0]
        named = preset if self.proxy == "none" or "@" in preset else f"{preset}@{self.proxy}"
        return asked_run(named, self.overrides, self.seed)

    @property
    def overrides(self) -> tuple[str, ...]:
        return (*self.settings, *self.rung.split()[1:])

    def row(self, out: Path) -> Row | None:
        """The outcome, if the run has been made; of several the newest."""
        for path in sorted(out.glob(f"*_s{self.seed}*/{ROW}"), key=lambda path: path.stat().st_mtime, reverse=True):
            row = Row(**json.loads(path.read_text()))
            same = (row.rung, row.seed, tuple(row.settings), row.proxy, row.protocol)
            if same == tuple(asdict(self).values()):
                return row
        return None


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


def made(job: Job, options: argparse.Namespace) -> Row:
    """Train and score one run in this process."""
    run = job.run
    launch = Launch(
        preset=run.name,
        settings=job.overrides,
        seed=job.seed,
        data=str(variant_folder(options.data, run.data.variant)),
        data_root=options.data,
        runs=options.out,
        resume="auto",
    )
    with placed(options.device) as place, session(launch, place, (told,)) as ready:
        validation = Validation.of(ready.run, ready.dataset, place, ready.events)
        protocol = PROTOCOLS.get(job.protocol, validation.plain)
        trained = train_stage(ready, validation)
        # From the events: a training that was finished by another process is only loaded here.
        events = read_events(ready.folder.events)
        peak = max((event["peak_mib"] for event in events if event["event"] == "trained"), default=0)
        began = time.perf_counter()
        weights = validation.score(trained.model, protocol).tally
        averaged = weights
        if ready.run.optim.average:
            with trained.optimizer.averaged():
                averaged = validation.score(trained.model, protocol).tally
        row = Row(
            rung=job.rung,
            seed=job.seed,
            settings=list(job.settings),
            proxy=job.proxy,
            protocol=job.protocol,
            digest=ready.run.digest,
            bpb=averaged.bits_per_byte,
            weights_bpb=weights.bits_per_byte,
            steps=trained.outcome.steps,
            step_ms=trained.outcome.step_ms,
            train_seconds=trained.outcome.seconds,
            batch_tokens=ready.run.train.batch_tokens,
            params=sum(weight.numel() for weight in trained.model.parameters()),
            peak_mib=peak,
            warmup_seconds=trained.outcome.warmup_seconds,
            validation_seconds=time.perf_counter() - began,
            val_bytes=weights.bytes,
            dataset=ready.dataset.name,
            device=device_name(place.device),
            commit=git_commit(),
        )
        ready.folder.write_json(ready.folder.path / ROW, asdict(row))
    if not options.keep:
        shutil.rmtree(ready.folder.checkpoint, ignore_errors=True)
    return row


def told(event: dict[str, object]) -> None:
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
        Job(
            rung=rung,
            seed=chosen[turn],
            settings=tuple(options.settings),
            proxy=options.proxy,
            protocol=options.protocol,
        )
        for turn in range(most)
        for rung, chosen in reversed(seeds.items())
        if turn < len(chosen)
    ]


def carried_out(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Make the runs, each in a process of its own, as many at a time as there are GPUs."""
    free: queue.Queue[int] = queue.Queue()
    for gpu in range(max(options.gpus, 1)):
        free.put(gpu)
    began = time.perf_counter()

    def one(job: Job) -> None:
        gpu = free.get()
        try:
            if options.until and time.perf_counter() - began > options.until:
                return
            log = options.out / f"{job.run.name}_{job.run.digest}_s{job.seed}.log"
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)} if options.gpus else None
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", job.rung, str(job.seed)]
            with log.open("ab") as file:
                code = subprocess.run(command, stdout=file, stderr=file, env=environment).returncode
            row = job.row(options.out)
            shown = line(row) if row else f"{job.rung} {job.seed}: exit code {code}, {log}"
            print(shown, flush=True)
        finally:
            free.put(gpu)

    pool = ThreadPoolExecutor(max(options.gpus, 1))
    try:
        for done in [pool.submit(one, job) for job in jobs]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)


HEAD = (
    f"{'rung':28} {'seed':>5} {'bpb':>8} {'weights':>8} {'steps':>6} {'ms/step':>8} {'tokens/s':>10} {'params':>11}"
    f" {'MiB':>7} {'warm-up':>8} {'scoring':>8}"
)


def line(row: Row) -> str:
    """A row of the table."""
    return (
        f"{row.rung:28} {row.seed:5d} {row.bpb:8.5f} {row.weights_bpb:8.5f} {row.steps:6,d} {row.step_ms:8.2f}"
        f" {row.tokens_per_second:10,.0f} {row.params:11,d} {row.peak_mib:7,d} {row.warmup_seconds:8.1f}"
        f" {row.validation_seconds:8.1f}"
    )


def summary(rows: Iterable[Row]) -> list[str]:
    """Mean and deviation of each rung, and whether the last is better than the one before it."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.rung, []).append(row.bpb)
    lines = []
    for rung, values in scores.items():
        found = spread(values)
        deviation = "" if found.deviation is None else f"  ± {found.deviation:.5f}"
        lines.append(f"{rung:28} {found.mean:.5f}{deviation}  ({found.number} seeds)")
    if len(scores) > 1:
        (before, theirs), (last, ours) = list(scores.items())[-2:]
        outcome = below_others(ours, theirs)
        gain = statistics.fmean(theirs) - statistics.fmean(ours)
        test = f"Welch t = {outcome.t:.2f}, one-sided p = {outcome.p:.4f}" if outcome.p is not None else "too few seeds"
        lines.append(f"{last} below {before} by {gain:+.5f}: {test}")
    return lines


def table(jobs: Sequence[Job], out: Path) -> None:
    """Everything that has been made, in the order of the ladder."""
    rungs = list(dict.fromkeys(job.rung for job in jobs))
    ordered = sorted(jobs, key=lambda job: rungs.index(job.rung))
    rows = [row for job in ordered if (row := job.row(out))]
    print(HEAD)
    for row in rows:
        print(line(row))
    if rows:
        print("\n" + "\n".join(summary(rows)))
        print(f"\n{rows[0].device}, commits {', '.join(sorted({row.commit for row in rows}))}")
    for job in ordered:
        row = job.row(out)
        if row and row.digest != job.run.digest:
            print(f"made with another configuration than today's: {job.rung}, seed {job.seed}, {row.digest}")
    if len({row.val_bytes for row in rows}) > 1:
        print("NOT ONE VALIDATION TEXT:", {row.dataset: row.val_bytes for row in rows})
    if len(rows) < len(jobs):
        print(f"{len(jobs) - len(rows)} of {len(jobs)} runs are not finished")


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


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
    parser.add_argument("--protocol", choices=("own", *PROTOCOLS), default="own")
    parser.add_argument("--until", type=float, default=0.0, help="seconds after which no further run is begun")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints of finished runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--table", action="store_true", help="only show what there is")
    parser.add_argument("--worker", nargs=2, metavar=("RUNG", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.last_seeds = options.last_seeds or (options.seeds if options.rungs else [1337, 42, 7])
    if options.worker:
        rung, seed = options.worker
        made(
            Job(
                rung=rung,
                seed=int(seed),
                settings=tuple(options.settings),
                proxy=options.proxy,
                protocol=options.protocol,
            ),
            options,
        )
        return
    jobs = planned(options)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.table:
        print(HEAD)
        carried_out([job for job in jobs if job.row(options.out) is None], options)
        print()
    table(jobs, options.out)


if __name__ == "__main__":
    main()

"""Rows of the ladder: the runs that are asked for, what each came to, and the table of all."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from paramgolf.bundle.significance import below_others, spread
from paramgolf.lab.launch import asked_run
from paramgolf.run import Run

ROW = "ladder.json"
"""In a run's folder once it is scored."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one run came to."""

    rung: str
    seed: int
    settings: list[str]
    proxy: str
    digest: str
    documents: float
    """Bits per byte, as the two below."""
    contiguous: float
    weights: float
    averages: dict[str, float]
    """`documents` of every average that was kept, by how many times as slowly as the preset's own it forgets."""
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

    @property
    def run(self) -> Run:
        name = self.rung.split()[0]
        named = name if self.proxy == "none" or "@" in name else f"{name}@{self.proxy}"
        return asked_run(named, self.overrides, self.seed)

    @property
    def overrides(self) -> tuple[str, ...]:
        return (*self.settings, *self.rung.split()[1:])

    def row(self, out: Path) -> Row | None:
        """The outcome, if the run has been made; of several the newest."""
        for path in sorted(out.glob(f"*_s{self.seed}*/{ROW}"), key=lambda path: path.stat().st_mtime, reverse=True):
            found = json.loads(path.read_text())
            if found.keys() != Row.__dataclass_fields__.keys():  # of an earlier version of this script
                continue
            row = Row(**found)
            if (row.rung, row.seed, tuple(row.settings), row.proxy) == tuple(asdict(self).values()):
                return row
        return None


HEAD = (
    f"{'rung':28} {'seed':>5} {'documents':>9} {'contiguous':>10} {'weights':>8} {'steps':>6} {'ms/step':>8}"
    f" {'tokens/s':>9} {'params':>11} {'MiB':>7} {'warm-up':>8} {'scoring':>8}"
)


def line(row: Row) -> str:
    """A row of the table."""
    return (
        f"{row.rung:28} {row.seed:5d} {row.documents:9.5f} {row.contiguous:10.5f} {row.weights:8.5f} {row.steps:6,d}"
        f" {row.step_ms:8.2f} {row.tokens_per_second:9,.0f} {row.params:11,d} {row.peak_mib:7,d}"
        f" {row.warmup_seconds:8.1f} {row.validation_seconds:8.1f}"
    )


def summary(rows: Iterable[Row]) -> list[str]:
    """Mean and deviation of each rung, and whether the last is better than the one before it."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.rung, []).append(row.documents)
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


def table(jobs: Sequence[Job], rungs: Sequence[str], out: Path) -> None:
    """Everything that has been made, in the order of `rungs`."""
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
    horizons = list(dict.fromkeys(name for row in rows if len(row.averages) > 2 for name in row.averages))
    if horizons:
        print(f"\n{'documents, by horizon':28} {'seed':>5} " + " ".join(f"{name:>8}" for name in horizons))
    for row in rows if horizons else ():
        print(f"{row.rung:28} {row.seed:5d} " + " ".join(f"{row.averages.get(n, math.nan):8.5f}" for n in horizons))
    texts = {row.dataset: row.val_bytes for row in rows}
    if len(set(texts.values())) > 1:
        print(f"validation bytes differ, by what tokenizers drop (unknown characters count none): {texts}")
    if len(rows) < len(jobs):
        print(f"{len(jobs) - len(rows)} of {len(jobs)} runs are not finished")

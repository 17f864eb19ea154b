"""Runs the checks on whatever of a target is there."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paramgolf.contest import Contest
from paramgolf.data.tokenizers import Tokenizer
from paramgolf.errors import GolfError, UsageError
from paramgolf.registry import nearest
from paramgolf.verify.byte_accounting import BYTES, ByteClaim, check_bytes, check_official_bytes
from paramgolf.verify.causality import CAUSALITY, check_causality
from paramgolf.verify.containment import CONTAINMENT, Sizes, check_sizes, check_watched
from paramgolf.verify.contamination import CONTAMINATION, check_contamination
from paramgolf.verify.coverage import COVERAGE, check_coverage
from paramgolf.verify.document_isolation import ISOLATION, check_isolation
from paramgolf.verify.margin import MARGIN, check_margin
from paramgolf.verify.normalization import NORMALIZATION, check_normalization
from paramgolf.verify.predictor import Ints, Predictor, TokenStream
from paramgolf.verify.probe import Probe
from paramgolf.verify.reproduction import REPRODUCTION, Claimed, Replayed, check_reproduction
from paramgolf.verify.ruling import Judgement, Ruling, Verdict, failed, skipped
from paramgolf.verify.time_budget import TIMES, Spent, check_times
from paramgolf.verify.update_order import UPDATE_ORDER, check_update_order
from paramgolf.verify.watch import Watched, watching

CHECKS = (
    CAUSALITY,
    NORMALIZATION,
    UPDATE_ORDER,
    COVERAGE,
    ISOLATION,
    BYTES,
    CONTAINMENT,
    TIMES,
    CONTAMINATION,
    REPRODUCTION,
    MARGIN,
)
"""The checks in the order of the report; the first ten are those of every target, the last needs a score to beat."""
SHORT_NAMES = {
    "causality": CAUSALITY,
    "normalization": NORMALIZATION,
    "update": UPDATE_ORDER,
    "coverage": COVERAGE,
    "isolation": ISOLATION,
    "bytes": BYTES,
    "artifact": CONTAINMENT,
    "times": TIMES,
    "contamination": CONTAMINATION,
    "reproduction": REPRODUCTION,
    "margin": MARGIN,
}
"""What a check is called on the command line."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that is known of a target; what is None was not there, and checks that need it say so."""

    target: str
    kind: str
    contest: Contest
    predictor: Predictor | None = None
    stream: TokenStream | None = None
    """What the predictor is probed on."""
    own_files: Collection[Path] = ()
    """Files that the predictor may read while it scores: those in the counted bytes."""
    unwatched: Sequence[Path] = ()
    """Folders of ours that may be read meanwhile."""
    heard: Watched = field(default_factory=Watched)
    """What was heard while the predictor was loaded."""
    tokens: Ints | None = None
    """(N,) the whole validation stream."""
    tokenizer: Tokenizer | None = None
    bytes_claim: ByteClaim | None = None
    claimed_tokens: int | None = None
    """Targets that the claim is about, where `tokens` are not here."""
    sizes: tuple[Sizes, ...] = ()
    """One for each seed that has files."""
    spent: tuple[Spent, ...] = ()
    train: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    claimed: Claimed | None = None
    replay: Callable[[], Replayed] | None = None
    replay_files: Collection[Path] = ()
    """Files that scoring again may read: validation shards and the tokenizer."""
    scores: tuple[float, ...] = ()
    """Bits per byte by seed."""
    best: tuple[float, ...] = ()
    """The score to beat: of each seed, or one mean."""
    bytes_per_token: float | None = None
    facts: tuple[tuple[str, str], ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    """Check -> why it cannot be made on this kind of target."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard the judge looks."""

    cuts: int = 8
    """Places at which the stream is changed."""
    enumeration_seconds: float = 60.0
    """For putting every token of the vocabulary in a target's place."""
    enumeration_places: int = 3
    """At how many targets."""
    seed: int = 0
    only: tuple[str, ...] = ()
    """Checks to make, by short name; empty: all."""
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.only, *self.skip):
            if name not in SHORT_NAMES:
                raise UsageError(
                    f"no check is called {name!r}{nearest(name, SHORT_NAMES)}", evidence=", ".join(SHORT_NAMES)
                )

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the checks to make, in order."""
        chosen = {SHORT_NAMES[name] for name in self.only} or set(CHECKS)
        return tuple(name for name in CHECKS if name in chosen - {SHORT_NAMES[name] for name in self.skip})


def judge(case: Case, effort: Effort | None = None, told: Callable[[str], None] = lambda check: None) -> Judgement:
    """Make every check that `case` has something for; `told` hears the name of each before it begins."""
    effort = effort or Effort()
    began = time.perf_counter()
    wanted = effort.wanted
    rulings: list[Ruling] = []
    with watching(case.unwatched) as watched:
        for name, check in probes(case, effort).items():
            if name in wanted:
                told(name)
                rulings += attempted(name, check)
    for name, check in inspections(case, watched).items():
        if name in wanted:
            told(name)
            rulings += attempted(name, check)
    rulings.sort(key=lambda ruling: CHECKS.index(ruling.check))
    return Judgement(
        target=case.target,
        kind=case.kind,
        rulings=tuple(rulings),
        seconds=time.perf_counter() - began,
        facts=case.facts,
    )


Check = Callable[[], list[Ruling]]


def probes(case: Case, effort: Effort) -> dict[str, Check]:
    """The checks that run the predictor."""
    names = (CAUSALITY, NORMALIZATION, UPDATE_ORDER, COVERAGE, ISOLATION)
    if case.predictor is None or case.stream is None:
        missing = "there is nothing here that can be run: give a run's folder, or module:Predictor with --data"
        return {name: lambda name=name: [skipped(name, case.missing.get(name, missing))] for name in names}  # type: ignore[misc]
    probe = Probe(predictor=case.predictor, stream=case.stream, cuts=effort.cuts, seed=effort.seed)
    return {
        CAUSALITY: lambda: check_causality(probe),
        NORMALIZATION: lambda: check_normalization(
            probe, places=effort.enumeration_places, seconds=effort.enumeration_seconds
        ),
        UPDATE_ORDER: lambda: check_update_order(probe),
        COVERAGE: lambda: check_coverage(probe),
        ISOLATION: lambda: check_isolation(probe),
    }


def inspections(case: Case, watched: Watched) -> dict[str, Check]:
    """The checks that look at files, numbers and what was heard while the predictor ran."""

    def of_bytes() -> list[Ruling]:
        if case.bytes_claim is not None and case.claimed_tokens is not None and case.tokens is None:
            return check_official_bytes(case.bytes_claim, case.claimed_tokens)
        if case.tokens is None or case.tokenizer is None or case.bytes_claim is None:
            return [skipped(BYTES, case.missing.get(BYTES, "no count of bytes is claimed, or no tokenizer is known"))]
        return check_bytes(case.tokens, case.tokenizer, case.bytes_claim)

    def of_artifact() -> list[Ruling]:
        found = [ruling for sizes in case.sizes for ruling in check_sizes(sizes, case.contest)]
        if case.predictor is not None:
            found += check_watched(case.heard.plus(watched), case.own_files, case.val)
        return found or [skipped(CONTAINMENT, case.missing.get(CONTAINMENT, "there is no artifact here"))]

    def of_times() -> list[Ruling]:
        found = [ruling for spent in case.spent for ruling in check_times(spent, case.contest)]
        return found or [skipped(TIMES, case.missing.get(TIMES, "there are neither events nor logs here"))]

    def of_training_text() -> list[Ruling]:
        if not case.train or not case.val:
            missing = "the training shards are not here: name the data by --data"
            return [skipped(CONTAMINATION, case.missing.get(CONTAMINATION, missing))]
        return check_contamination(case.train, case.val)

    def of_reproduction() -> list[Ruling]:
        if case.replay is None or case.claimed is None:
            missing = "there is no artifact that could be scored again, or no score is stated"
            return [skipped(REPRODUCTION, case.missing.get(REPRODUCTION, missing))]
        again = case.replay()
        beyond = check_watched(again.watched, (*case.own_files, *case.replay_files))
        return [*check_reproduction(again, case.claimed), *(r for r in beyond if r.verdict is not Verdict.PASSED)]

    return {
        BYTES: of_bytes,
        CONTAINMENT: of_artifact,
        TIMES: of_times,
        CONTAMINATION: of_training_text,
        REPRODUCTION: of_reproduction,
        MARGIN: lambda: check_margin(case.scores, case.best, case.bytes_per_token),
    }


def attempted(name: str, check: Check) -> list[Ruling]:
    """The rulings of `check`; an error that has a cause and evidence of its own is a failure of the target."""
    try:
        return check()
    except GolfError as error:
        rules = {CONTAINMENT: ("self_contained",), REPRODUCTION: ("reproduction",), BYTES: ("bytes_true",)}
        return [failed(name, error.cause, error.evidence, *rules.get(name, ()))]

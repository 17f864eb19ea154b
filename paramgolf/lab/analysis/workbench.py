"""The workbench: exports of one trained model, each measured by the exact round trip through its artifact's bytes."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from paramgolf.artifact.arrangement import Expected
from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.artifact.slots import Coder
from paramgolf.config import source
from paramgolf.errors import GolfError
from paramgolf.lab.analysis.calibration import calibrated
from paramgolf.lab.analysis.points import POINTS_FILE, Point, PointBook, point_key
from paramgolf.lab.analysis.subject import Subject
from paramgolf.lab.estimate import run_code_bytes
from paramgolf.parts import declared
from paramgolf.quant.budget import quantize_to_budget
from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.plan import QuantConfig, planned, quantize, restore
from paramgolf.quant.slots import Quantizer
from paramgolf.stored import Stored

EXACT = PlainValues(bits=32)
"""Keeps a weight as it is."""


class Step(NamedTuple):
    """How far a survey is."""

    done: int
    total: int
    label: str
    """Of the point measured last, or being measured."""
    seconds_left: float | None


StepTold = Callable[[Step], None]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One export to measure."""

    label: str
    identity: str
    """Spells everything that determines the outcome beside the subject: configs as `config.source` writes them."""
    build: Callable[[], Mapping[str, Stored]]
    """Makes the stored weights; what is left out weighs nothing and stays as it was trained."""
    coder: Coder | None
    scored: bool = True
    """Whether the decoded weights are scored, or only weighed."""


class Measured(NamedTuple):
    """What came of a round trip."""

    bytes: int
    bpb: float | None
    encode_seconds: float
    decode_seconds: float


@dataclass(kw_only=True)
class Workbench:
    """Measures trials on one subject; a point that is in the book is not measured again."""

    subject: Subject
    told: StepTold = lambda step: None
    fresh: bool = False
    """Measure even what is in the book."""
    calibration_tokens: int | None = None
    """Of training text for Hessians, where quantizers need them; None: as many as the run itself takes."""
    book: PointBook = field(init=False)
    expected: dict[str, Expected] = field(init=False)
    kept: dict[str, dict[str, Stored]] = field(init=False, default_factory=dict)
    """The last export made, by what it is spelled."""
    scores: dict[str, float] = field(init=False, default_factory=dict)
    """By identity: decoded weights are compared bit for bit, so that no coder changes a score."""

    def __post_init__(self) -> None:
        self.book = PointBook(self.subject.folder / POINTS_FILE)
        self.expected = expected_of(self.subject.model)

    def exact_bpb(self) -> float:
        """Score of the trained weights, nothing rounded."""
        known = None if self.fresh else self.exact_known()
        if known is None:
            began = time.perf_counter()
            known = self.score()
            point = Point("trained weights", "exact", 4 * self.subject.params, known, 0.0, 0.0, 0.0)
            self.book.add(self.exact_key, point)
            self.told(Step(0, 0, f"trained weights: {known:.4f} bpb in {time.perf_counter() - began:.0f} s", None))
        return known

    def exact_known(self) -> float | None:
        """The same where it is in the book."""
        point = self.book.get(self.exact_key)
        return None if point is None else point.bpb

    @property
    def exact_key(self) -> str:
        """Where the trained weights stand in the book."""
        return point_key(self.subject.fingerprint, "trained weights")

    def score(self, stored: Mapping[str, Stored] | None = None) -> float:
        """Bits per byte of the model with `stored` weights, or with the trained ones."""
        model = self.subject.load_trained()
        if stored is not None:
            restore(
                model, {name: stored.get(name) or EXACT(self.subject.weights[name], None) for name in self.expected}
            )
        validation = self.subject.validation
        return validation.score(model, validation.run.plain_protocol).tally.bits_per_byte

    def export(self, quant: QuantConfig, coder: Coder | None, budget: int | None = None) -> dict[str, Stored]:
        """The stored weights that `quant` makes of the trained model, as exporting the run does; made once.

        Techniques that decide over the whole model are given what the contest leaves beside the code, or `budget`.
        """
        spelled = self.spelled(quant, coder, budget)
        if spelled not in self.kept:
            run, model = self.subject.run, self.subject.load_trained()
            hessians = self.hessians(quant)

            def size(stored: Mapping[str, Stored]) -> int:
                return len(pack(stored, self.expected, coder=coder, digest=run.digest))

            quantized = quantize_to_budget if quant.fill else quantize
            given = (self.budget if budget is None else budget) if asks_for_bytes(quant) else 0
            self.kept = {spelled: quantized(model, quant, hessians, budget_bytes=given, size=size)}
        return self.kept[spelled]

    @cached_property
    def budget(self) -> int:
        """Bytes that the contest leaves beside the code."""
        run = self.subject.run
        return run.contest.artifact_bytes - run_code_bytes(run)

    def spelled(self, quant: QuantConfig, coder: Coder | None, budget: int | None = None) -> str:
        """What identifies an export: the coder too, where something asks how many bytes there will be."""
        asks = source(coder) if asks_for_bytes(quant) else ""
        return f"{source(quant)}{asks} {self.calibration_tokens}" + ("" if budget is None else f" {budget}")

    def hessians(self, quant: QuantConfig) -> dict[str, Tensor]:
        """Of all parameters that `quant` needs them for."""
        return calibrated(self.subject, quant, self.calibration_tokens)

    def run(self, survey: str, trials: Sequence[Trial]) -> list[Point]:
        """The point of every trial, in order. Progress is told before and after each measurement."""
        exact = self.exact_bpb() if any(trial.scored for trial in trials) else None
        points: list[Point] = []
        keys = [point_key(self.subject.fingerprint, f"{trial.identity} {trial.coder}") for trial in trials]
        missing = sum(self.known_point(key, trial) is None for key, trial in zip(keys, trials, strict=True))
        began, done = time.perf_counter(), 0
        for key, trial in zip(keys, trials, strict=True):
            known = self.known_point(key, trial)
            if known is None:
                left = (time.perf_counter() - began) / done * (missing - done) if done else None
                self.told(Step(len(points), len(trials), trial.label, left))
                found = self.round_trip(trial)
                lost = None if found.bpb is None or exact is None else found.bpb - exact
                known = Point(
                    trial.label, survey, found.bytes, found.bpb, lost, found.encode_seconds, found.decode_seconds
                )
                self.book.add(key, known)
                done += 1
            points.append(known._replace(label=trial.label, survey=survey))
        self.told(Step(len(trials), len(trials), f"{len(trials)} points, {done} measured now", None))
        return points

    def known_point(self, key: str, trial: Trial) -> Point | None:
        """The point of `trial` in the book; one that was only weighed is none where a score is asked for."""
        known = None if self.fresh else self.book.get(key)
        return None if known is None or (trial.scored and known.bpb is None) else known

    def round_trip(self, trial: Trial) -> Measured:
        """Build, pack, unpack, restore and score one trial.

        Raises `GolfError` when the bytes decode to other weights than were packed.
        """
        stored = trial.build()
        began = time.perf_counter()
        kept = {name: stored.get(name) or Stored(shape, ()) for name, (shape, _) in self.expected.items()}
        artifact = pack(kept, self.expected, coder=trial.coder, digest=self.subject.run.digest)
        encoded = time.perf_counter()
        coders = () if trial.coder is None else (trial.coder,)
        decoded = unpack(artifact, self.expected, digest=self.subject.run.digest, coders=coders)
        ended = time.perf_counter()
        require_same(kept, decoded)
        if trial.scored and trial.identity not in self.scores:
            self.scores[trial.identity] = self.score({name: decoded[name] for name in stored})
        bpb = self.scores[trial.identity] if trial.scored else None
        return Measured(len(artifact), bpb, encoded - began, ended - encoded)

    def parameters(self, quant: QuantConfig) -> Iterable[tuple[str, Quantizer]]:
        """Every parameter with its quantizer under `quant`."""
        return ((item.declared.name, item.quantizer) for item in planned(self.subject.model, quant))

    def roles(self) -> dict[str, str]:
        """The role of every parameter."""
        return {name: role.value for name, _, role in declared(self.subject.model)}


def in_place(quant: QuantConfig) -> QuantConfig:
    """`quant` with hidden units where training left them: for trials that put its weights among trained ones."""
    return replace(quant, order_units=False)


def asks_for_bytes(quant: QuantConfig) -> bool:
    """Whether anything in `quant` decides by the bytes that there will be."""
    return bool(quant.fill or quant.allocate is not None or quant.refine)


def require_same(stored: Mapping[str, Stored], decoded: Mapping[str, Stored]) -> None:
    """Raise `GolfError` unless both hold the same weights, bit for bit."""
    for name, weight in stored.items():
        if not torch.equal(weight.dense(), decoded[name].dense()):
            raise GolfError(
                f"the artifact decodes to another {name} than was exported", fix="report this: a coder is not exact"
            )


def exported(
    bench: Workbench,
    label: str,
    quant: QuantConfig,
    coder: Coder | None,
    *,
    budget: int | None = None,
    scored: bool = True,
) -> Trial:
    """The trial of a whole export under `quant` and `coder`; `budget` is other bytes than the contest leaves."""
    return Trial(
        label=label,
        identity=bench.spelled(quant, coder, budget),
        build=lambda: bench.export(quant, coder, budget),
        coder=coder,
        scored=scored,
    )

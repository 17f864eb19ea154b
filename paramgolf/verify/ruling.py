"""What the judge says: rulings of single checks, and a report of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from paramgolf.verify.rules import RULES


class Verdict(Enum):
    """How one check came out."""

    PASSED = "passed"
    DISPUTED = "disputed"
    """Kept under one reading of the rules, broken under another, and nobody has ruled."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """There was nothing to check it on; the ruling says what was missing."""


class Reading(NamedTuple):
    """What one reading of a disputed rule makes of the same evidence."""

    name: str
    verdict: Verdict
    why: str


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """The outcome of one check."""

    check: str
    """One of the names in `judge.CHECKS`."""
    verdict: Verdict
    said: str
    """One sentence."""
    evidence: str = ""
    """Positions, numbers, file names."""
    rules: tuple[str, ...] = ()
    """Keys of `RULES`: what was kept or broken, the deciding one first."""
    readings: tuple[Reading, ...] = ()

    def __post_init__(self) -> None:
        assert all(key in RULES for key in self.rules), self.rules

    def as_json(self) -> dict[str, Any]:
        """Plain values, the rules spelled out."""
        return {
            "check": self.check,
            "verdict": self.verdict.value,
            "said": self.said,
            "evidence": self.evidence,
            "rules": [
                {
                    "key": key,
                    "text": RULES[key].text,
                    "threads": RULES[key].threads,
                    "date": RULES[key].date,
                    "authority": RULES[key].authority,
                    "disputed": RULES[key].disputed,
                }
                for key in self.rules
            ],
            "readings": [{"name": r.name, "verdict": r.verdict.value, "why": r.why} for r in self.readings],
        }


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Everything the judge has to say of one target."""

    target: str
    kind: str
    """run, folder or predictor."""
    rulings: tuple[Ruling, ...]
    seconds: float
    facts: tuple[tuple[str, str], ...] = ()
    """What was judged on: tokens, documents, device, in words."""

    @property
    def verdict(self) -> Verdict:
        """The worst of the rulings; skipped only when all are."""
        found = {ruling.verdict for ruling in self.rulings}
        return next((v for v in (Verdict.FAILED, Verdict.DISPUTED, Verdict.PASSED) if v in found), Verdict.SKIPPED)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "target": self.target,
            "kind": self.kind,
            "verdict": self.verdict.value,
            "seconds": round(self.seconds, 2),
            "facts": dict(self.facts),
            "rulings": [ruling.as_json() for ruling in self.rulings],
        }


def passed(check: str, said: str, evidence: str = "", *rules: str) -> Ruling:
    """A check that found nothing wrong."""
    return Ruling(check=check, verdict=Verdict.PASSED, said=said, evidence=evidence, rules=rules)


def failed(check: str, said: str, evidence: str, *rules: str) -> Ruling:
    """A broken rule."""
    return Ruling(check=check, verdict=Verdict.FAILED, said=said, evidence=evidence, rules=rules)


def disputed(check: str, said: str, evidence: str, rules: Sequence[str], readings: Sequence[Reading]) -> Ruling:
    """A rule that is read in two ways, with what each reading says."""
    return Ruling(
        check=check,
        verdict=Verdict.DISPUTED,
        said=said,
        evidence=evidence,
        rules=tuple(rules),
        readings=tuple(readings),
    )


def skipped(check: str, missing: str) -> Ruling:
    """A check that had nothing to work on."""
    return Ruling(check=check, verdict=Verdict.SKIPPED, said=missing)

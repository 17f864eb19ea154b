"""What the linter finds in a submission, and the numbers that it knows of the challenge."""

import math
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class LintFinding(NamedTuple):
    """One thing that is wrong with a submission, may be, or is worth knowing."""

    severity: Severity
    """`error`: it will be refused or is not true. `warning`: disputed, or people refuse it. `note`: worth knowing."""
    file: str
    """Name inside the folder."""
    cause: str
    evidence: str
    rule: str
    """Where it is written: README, issue or pull request."""
    fix: str = ""


class OfficialVocabulary(NamedTuple):
    """An official tokenizer of the challenge and its validation split (D2)."""

    name: str
    bytes_per_token: float
    val_tokens: tuple[int, ...]
    """Targets of the split; there are two exports of some."""


OFFICIAL_VOCABULARIES = (
    OfficialVocabulary("byte260", 1.0, (151_130_112,)),
    OfficialVocabulary("sp1024", 2.4359, (62_021_632,)),
    OfficialVocabulary("sp1024", 2.4423, (63_779_840,)),
    OfficialVocabulary("sp4096", 3.3197, (45_508_608, 45_514_752)),
    OfficialVocabulary("sp8192", 3.7266, (40_540_160,)),
    OfficialVocabulary("sp8192 CaseOps", 3.1572, (47_851_520,)),
)

RATIO_TOLERANCE = 1.5e-3
"""How far bytes a token may lie from the official ones: evaluations drop different tails of the split."""

TIME_TOLERANCE = 1.0
"""Seconds over the budget of a run that its clock stopped: it ends with the step that reaches it. 1.153 were refused
(#1908), 0.06 accepted in many."""


def implied_ratio(val_loss: float, val_bpb: float) -> float:
    """Bytes of text a token that the two forms of one score imply."""
    return val_loss / math.log(2) / val_bpb


def official_vocabularies(ratio: float) -> tuple[OfficialVocabulary, ...]:
    """The official tokenizers that have `ratio` bytes a token."""
    return tuple(v for v in OFFICIAL_VOCABULARIES if abs(ratio / v.bytes_per_token - 1) < RATIO_TOLERANCE)


def decimals(values: list[float]) -> int:
    """Digits behind the point of the most exact of `values`, as a file writes them; at least 4, at most 8."""
    shown = (repr(value).partition(".")[2] for value in values)
    return min(max((len(digits) for digits in shown if digits.isdigit()), default=4), 8) if values else 4


def rounding(values: list[float]) -> float:
    """How far one of `values` may lie from the unrounded number."""
    return 0.51 * 10.0 ** -max(decimals(values), 3)

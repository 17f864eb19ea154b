"""The rules the judge cites, each with its authority, thread and date (rules catalogue R1 to R8).

Dates are those of the thread's first post, or of the ruling where one comment made it. The README is read as it stood
at the last update of its leaderboard, 2026-05-02 (#2146).
"""

from dataclasses import dataclass
from typing import Literal

Authority = Literal["readme", "maintainer", "community"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule as people cite it."""

    key: str
    text: str
    authority: Authority
    """The repository's README, a maintainer's statement or act, or a convention of the community."""
    threads: str
    """Issues and pull requests, the deciding one first; README where it is the README's own."""
    date: str = ""
    """ISO date of the deciding thread; empty where it is not known."""
    disputed: str = ""
    """The other reading, where there is one and no ruling."""

    def cited(self) -> str:
        """One line: text, thread, date, authority."""
        when = f", {self.date}" if self.date else ""
        return f"{self.text} ({self.threads}{when}; {self.authority})"


CITED = (
    Rule(
        key="causality",
        text="Condition 1: the probability of token t is a function of the artifact and of tokens before t only",
        authority="community",
        threads="issue #1017",
        date="2026-03-28",
    ),
    Rule(
        key="normalization",
        text="Condition 2: a full distribution over the token alphabet that sums to one, not the realized token alone",
        authority="maintainer",
        threads="issue #677; #886, #978, #1017",
        date="2026-03-27",
    ),
    Rule(
        key="target_in_key",
        text="Condition 2: the distribution is fixed before the target is looked at; no hash key or gate may use it",
        authority="maintainer",
        threads="issue #677; #761, #770, #779, #797, #940, #1017",
        date="2026-03-27",
    ),
    Rule(
        key="byte_mixture",
        text="A byte mixture that spreads a token's probability as p^(1/n) over its bytes is no token distribution",
        authority="community",
        threads="issue #1872; #1835, #1916, #1933",
        date="2026-04-27",
    ),
    Rule(
        key="score_first",
        text="Condition 3: train at test time only on validation tokens that have already been scored",
        authority="maintainer",
        threads="issue #402; #549, #677, #1082",
        date="2026-03-22",
    ),
    Rule(
        key="slot",
        text="No optimization on the window that is then scored (SLOT)",
        authority="community",
        threads="#1240; issue #1336",
        date="2026-04-02",
        disputed="A causal form, fitted on already scored positions only, has never been ruled on (#1336).",
    ),
    Rule(
        key="one_pass",
        text="Condition 4: one left-to-right pass; no rescoring, no best of several passes",
        authority="maintainer",
        threads="issue #677; #713, #991, #1017",
        date="2026-03-27",
    ),
    Rule(
        key="service_order",
        text="Documents may be served out of file order, longest first, when each is scored before it is learned from",
        authority="maintainer",
        threads="#1855; #1610, #1626",
        date="2026-04-27",
        disputed="Read strictly, one left-to-right pass (#1017) means file order; the records do otherwise.",
    ),
    Rule(
        key="coverage",
        text="The whole validation split is scored, every target once",
        authority="readme",
        threads="README; #1835",
        date="2026-05-02",
        disputed="The official script drops up to L-1 final targets of the stream, L being its row length.",
    ),
    Rule(
        key="isolation",
        text="Where documents are isolated, nothing of one may enter the next (SmearGate at BOS)",
        authority="maintainer",
        threads="#1797 audit; #1851, #1868, #1855",
        date="2026-04-26",
    ),
    Rule(
        key="bytes_true",
        text="Bits per byte divide by the UTF-8 bytes of the validation text; a changed tokenizer must prove them",
        authority="readme",
        threads="README; issue #1017",
        date="2026-05-02",
    ),
    Rule(
        key="space_twice",
        text="The space in a word piece counts once: a table that holds it and a scorer that adds it count it twice",
        authority="community",
        threads="issue #1719; #1545, #1632, #1698, #1734, #1804",
        date="2026-04-18",
    ),
    Rule(
        key="space_missing",
        text="A vocabulary without its own space piece spells each space as three byte pieces",
        authority="community",
        threads="issue #897",
        date="2026-03-26",
    ),
    Rule(
        key="replacement_bytes",
        text="A byte-fallback piece stands for one byte, not for the three of U+FFFD",
        authority="community",
        threads="#1289; #1143, #1314",
        date="2026-04-06",
    ),
    Rule(
        key="sidecar",
        text="CaseOps counts bytes of the original text from its sidecar; operators stand for none",
        authority="community",
        threads="#2071; #1729, #1736",
        date="2026-05-01",
    ),
    Rule(
        key="artifact_bytes",
        text="Code bytes plus compressed model bytes are at most 16,000,000: decimal megabytes, not MiB; every seed",
        authority="readme",
        threads="README",
        date="2026-05-02",
        disputed="Code is counted raw, or as the compressed wrapper that the accepted records report.",
    ),
    Rule(
        key="self_contained",
        text="The artifact is self-contained: no network, no training data at evaluation unless inside the bytes",
        authority="readme",
        threads="README",
        date="2026-05-02",
    ),
    Rule(
        key="paid_prefix",
        text="No validation text in the artifact or read from disk beyond what is scored",
        authority="maintainer",
        threads="#168; #44, #120, #262",
        date="2026-03-20",
    ),
    Rule(
        key="train_seconds",
        text="Training takes at most 600 s; a step count forced past them is refused",
        authority="maintainer",
        threads="README; #1908, #1956",
        date="2026-04-30",
    ),
    Rule(
        key="calibration",
        text="Reading training data for calibration is training and ends inside its 600 s",
        authority="maintainer",
        threads="issue #677; #1060, #1868",
        date="2026-03-25",
        disputed="#1855 reserves 0.5 s for a collection of 3.5 to 4.7 s; the compliance rerun #1868 reserves 8 s.",
    ),
    Rule(
        key="eval_seconds",
        text="Evaluation takes at most a further 600 s",
        authority="readme",
        threads="README; #1855",
        date="2026-05-02",
        disputed="Strictly from opening the artifact to the score; records leave out decoding and compile warm-up.",
    ),
    Rule(
        key="contamination",
        text="Validation documents are not in the training shards",
        authority="maintainer",
        threads="issue #2127; #44, #120, #2018, #2118, #2130, #2146",
        date="2026-05-01",
    ),
    Rule(
        key="reproduction",
        text="The score comes again from the artifact and the code of the folder alone",
        authority="readme",
        threads="README",
        date="2026-05-02",
    ),
    Rule(
        key="margin",
        text="A record beats the best by 0.005 nats at p < 0.01",
        authority="readme",
        threads="README; #1902",
        date="2026-05-02",
        disputed="The audited chain took p < 0.25 against the predecessor, without the margin (#1902, 2026-04-28).",
    ),
)
"""Every rule, in the order of the checks."""

RULES = {rule.key: rule for rule in CITED}
"""By key."""

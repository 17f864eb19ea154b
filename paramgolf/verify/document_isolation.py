"""Check 5, document isolation where it is claimed: what one document says changes no score of another."""

import numpy as np

from paramgolf.verify.passes import replaced_tokens
from paramgolf.verify.predictor import Ints
from paramgolf.verify.probe import Probe
from paramgolf.verify.ruling import Ruling, failed, passed, skipped

ISOLATION = "document isolation"


def check_isolation(probe: Probe, *, documents: int = 3) -> list[Ruling]:
    """Whether other documents' scores stay as they are when one document changes; a failure only where claimed."""
    starts = probe.stream.starts
    if len(starts) < 2:
        return [skipped(ISOLATION, f"the stream holds {len(starts)} document starts; two are needed")]
    claimed = bool(getattr(probe.predictor, "isolated", False))
    ends = np.append(starts[1:], len(probe.stream.tokens))
    long_enough = np.flatnonzero(ends[:-1] - starts[:-1] > 2)
    some = np.linspace(0, len(long_enough) - 1, documents).astype(int) if len(long_enough) else np.zeros(0, int)
    chosen = np.unique(long_enough[some])
    seen = {int(d): others_reacting(probe, int(starts[d]), int(ends[d])) for d in chosen}
    seen = {document: found for document, found in seen.items() if len(found)}
    tried = f"{len(chosen)} of {len(starts):,} documents changed, one at a time"
    if not seen:
        word = "as claimed" if claimed else "though it is not claimed"
        return [passed(ISOLATION, f"no document changes the score of another, {word}", tried, "isolation")]
    document, found = next(iter(seen.items()))
    behind = found - int(ends[document])
    evidence = (
        f"{tried}; changing document {document} moves {len(found):,} targets of others, "
        f"the first is {int(found[0])}, {int(behind[0])} tokens behind the next document's start"
    )
    if not claimed:
        said = "documents influence one another, and nothing else is claimed"
        return [passed(ISOLATION, said, evidence)]
    at_start = bool((behind <= 2).all())
    said = "documents claimed to be isolated influence one another"
    said += ", at the first targets after BOS: a shift along the sequence is not masked there" if at_start else ""
    return [failed(ISOLATION, said, evidence, "isolation")]


def others_reacting(probe: Probe, start: int, end: int) -> Ints:
    """Targets outside the document in tokens [start, end) that react when its text changes.

    The BOS behind the document is its own last target; the one before it belongs to its predecessor.
    """
    place = np.arange(len(probe.stream.tokens))
    where = (place > start) & (place < end)
    changed = probe.named(f"document {start}", replaced_tokens(probe.stream, where, probe.seed + start + 3))
    change = np.abs(changed.nats - probe.base.nats)
    change[start:end] = 0.0
    return np.flatnonzero(change > probe.tolerance)

"""Check 4, one pass: every target is scored exactly once, and a second pass knows nothing of the first."""

import numpy as np

from paramgolf.verify.predictor import Doubles, Ints
from paramgolf.verify.probe import Probe
from paramgolf.verify.ruling import Reading, Ruling, Verdict, disputed, failed, passed

COVERAGE = "one pass, every target once"


def check_coverage(probe: Probe) -> list[Ruling]:
    """Targets left out or scored twice, and memory that outlives a pass."""
    base = probe.base
    found = [ruling for ruling in (missing_targets(probe), doubled_targets(base.counts)) if ruling]
    if base.outside:
        evidence = f"positions {', '.join(map(str, base.outside))} of {len(base.counts):,} targets"
        found.append(failed(COVERAGE, "scores are given for targets that do not exist", evidence, "coverage"))
    broken = np.flatnonzero((base.counts > 0) & ~np.isfinite(base.nats))
    if len(broken):
        evidence = f"{len(broken):,} targets, the first is {int(broken[0])}: {base.nats[broken[0]]}"
        found.append(failed(COVERAGE, "some costs are not finite", evidence, "coverage"))
    found += remembered_pass(base.nats, probe.again.nats, probe.noise)
    if found:
        return found
    return [passed(COVERAGE, "every target is scored once", f"{len(base.counts):,} targets", "coverage", "one_pass")]


def missing_targets(probe: Probe) -> Ruling | None:
    """The ruling on targets without a score, if there are any."""
    missing = np.flatnonzero(probe.base.counts == 0)
    if not len(missing):
        return None
    total = len(probe.base.counts)
    tail = int(missing[0]) == total - len(missing)
    evidence = f"{len(missing):,} of {total:,} targets, from {int(missing[0])} to {int(missing[-1])}"
    said = "the tail of the stream is not scored" if tail else "some targets are never scored"
    context = int(getattr(probe.predictor, "context", 0))
    if tail and context > 0 and len(missing) == total % context:
        return disputed(
            COVERAGE,
            said,
            f"{evidence}; the rest of a cut to multiples of {context:,}",
            ("coverage",),
            (
                Reading("official script", Verdict.PASSED, f"it drops up to {context - 1:,} final targets itself"),
                Reading("whole split", Verdict.FAILED, f"{len(missing):,} targets have no score"),
            ),
        )
    return failed(COVERAGE, said, evidence, "coverage")


def doubled_targets(counts: Ints) -> Ruling | None:
    """The ruling on targets scored more than once, if there are any."""
    doubled = np.flatnonzero(counts > 1)
    if not len(doubled):
        return None
    evidence = (
        f"{len(doubled):,} of {len(counts):,} targets, from {int(doubled[0])} to {int(doubled[-1])}, "
        f"up to {int(counts.max())} times"
    )
    if len(doubled) > len(counts) // 2:
        return failed(COVERAGE, "the stream is scored more than once", evidence, "one_pass", "coverage")
    return failed(COVERAGE, "some targets are scored more than once", evidence, "coverage", "one_pass")


def remembered_pass(first: Doubles, second: Doubles, noise: float) -> list[Ruling]:
    """The ruling on a second pass over the same stream that comes out better than the first."""
    gain = (first - second)[np.isfinite(first) & np.isfinite(second)]
    if noise <= 1e-6 or len(gain) < 2:
        return []
    error = float(gain.std(ddof=1)) / len(gain) ** 0.5
    mean = float(gain.mean())
    if mean > 4 * error and mean > 1e-4:
        evidence = f"a second pass is better by {mean:.5f} ± {error:.5f} nats a target"
        return [failed(COVERAGE, "what was learned outlives the pass: `begin` does not forget", evidence, "one_pass")]
    return []

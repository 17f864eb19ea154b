"""Check 1, causality: change the tokens after t, and the scores up to t stay as they were."""

from paramgolf.verify.predictor import Ints
from paramgolf.verify.probe import Probe
from paramgolf.verify.ruling import Reading, Ruling, Verdict, disputed, failed, passed

CAUSALITY = "causality"


def check_causality(probe: Probe) -> list[Ruling]:
    """Whether a score depends on anything that comes after it.

    Two readings: in file order, and in the order in which the predictor serves documents (accepted in #1855).
    """
    leaks = probe.leaks_forward()
    cuts = len(probe.cut_places())
    if not leaks:
        said = "changing what follows changes no score before it"
        evidence = f"{cuts} places tried over {probe.stream.targets:,} targets, tolerance {probe.tolerance:.1e} nats"
        return [passed(CAUSALITY, said, evidence, "causality")]
    true = probe.true_leaks()
    evidence = leak_evidence(probe, leaks)
    if true:
        target, change = max(true.items(), key=lambda item: item[1])
        said = "scores depend on tokens that come after them"
        evidence += f"; target {target} moves by {change:.4f} nats with tokens that were not yet scored"
        return [failed(CAUSALITY, said, evidence, "causality")]
    return [
        disputed(
            CAUSALITY,
            "scores depend on later text, but only on text that had been scored before them",
            evidence,
            ("service_order", "causality", "one_pass"),
            (
                Reading("order of service (#1855)", Verdict.PASSED, "no score reacts to tokens not yet scored"),
                Reading("order of the file (#1017)", Verdict.FAILED, "scores react to tokens later in the file"),
            ),
        )
    ]


def leak_evidence(probe: Probe, leaks: dict[int, Ints]) -> str:
    """The cut with the widest reaction, in words."""
    cut = max(leaks, key=lambda place: len(probe.reacting(place)))
    found = probe.reacting(cut)
    change = abs(probe.after(cut).nats - probe.base.nats)[found]
    return (
        f"{len(leaks)} of {len(probe.cut_places())} places react; changing the tokens from {cut} on moves "
        f"{len(found):,} targets before it, from {int(found[0])} to {int(found[-1])}, by up to {change.max():.4f} nats"
    )

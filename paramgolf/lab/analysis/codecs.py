"""A shoot-out of coders: the same stored weights, every coder there is."""

from dataclasses import replace
from typing import NamedTuple

from paramgolf.artifact.slots import SLOT_OF_CODERS, Coder
from paramgolf.config import source
from paramgolf.lab.analysis.workbench import Trial, Workbench, exported
from paramgolf.registry import TECHNIQUES


class CoderResult(NamedTuple):
    """What one coder makes of the run's stored weights."""

    coder: str
    settings: str
    bytes: int
    bits: float
    """Bits a weight, everything counted."""
    encode_seconds: float
    decode_seconds: float


def registered_coders() -> list[Coder]:
    """Every registered coder at its defaults."""
    return [entry.config() for entry in TECHNIQUES.values() if entry.fills == SLOT_OF_CODERS]


def shoot_out(bench: Workbench) -> list[CoderResult]:
    """The run's own coder, every other at its defaults, and none; shortest first. Decoding is checked, not scored."""
    own = bench.subject.run.artifact.coder
    coders: list[Coder | None] = [own, *(coder for coder in registered_coders() if coder != own), None]
    points = bench.run("codecs", [coder_trial(bench, coder) for coder in coders])
    rows = [
        CoderResult(
            type(coder).__name__ if coder else "none",
            source(coder) if coder else "",
            point.bytes,
            8 * point.bytes / bench.subject.params,
            point.encode_seconds,
            point.decode_seconds,
        )
        for coder, point in zip(coders, points, strict=True)
    ]
    return sorted(rows, key=lambda item: item.bytes)


def coder_trial(bench: Workbench, coder: Coder | None) -> Trial:
    """What the run's own export stores, under another coder: where bytes have a say, those of the run's coder do."""
    run = bench.subject.run
    own = exported(bench, type(coder).__name__ if coder else "none", run.quant, run.artifact.coder, scored=False)
    return replace(own, coder=coder)

"""What a training log of the challenge says, whichever of its scripts wrote it.

Three generations are known: `step:100/20000 val_loss:2.1 val_bpb:1.3 train_time:1000ms` of March 2026, `100/20000
val_loss: 2.1 val_bpb: 1.3` from April on, and settings as a block of `  name: value` before the first step. Lines that
are neither are passed over: logs also hold warnings, sources and tables. Nothing here raises for any text whatever.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

NUMBER = r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|nan|inf)"
SCORE_LINE = re.compile(rf"^(?P<name>.*?)\bval_loss:\s*{NUMBER}\s+val_bpb:\s*{NUMBER}(?P<rest>.*)$")
STEP_NAME = re.compile(r"^(?:step:)?\s*(\d{1,12})/\d{1,12}\s*$")
TRAIN_STEP = re.compile(r"^(?:step:)?\s*(\d{1,12})/\d{1,12}\s+train_loss:")
TRAIN_TIME = re.compile(rf"\btrain_time:\s*{NUMBER}ms")
EVAL_TIME = re.compile(rf"\beval_time:\s*{NUMBER}(ms|s)\b")
TOTAL_EVAL = re.compile(rf"^total_eval_time:\s*{NUMBER}s")
MODEL_SIZE = re.compile(r"^Serialized model (\S+): (\d{1,15}) bytes")
CODE_SIZE = re.compile(r"^Code size(?: \((\w+)\))?: (\d{1,15}) bytes")
TOTAL_SIZE = re.compile(r"^Total submission size (\S+): (\d{1,15}) bytes")
SEED_LINE = re.compile(r"^\s*seed:\s*(\d{1,18})\s*$")
WORLD_LINE = re.compile(r"^\s*world_size:\s*(\d{1,9})\b")
PARAMS_LINE = re.compile(r"^\s*model_params:\s*(\d{1,15})\b")
TOKENS_LINE = re.compile(r"^(?:val_tokens:\s*|val_loader:.*\btokens:)(\d{1,15})\b")
HESSIANS = re.compile(rf"collected \d+ hessians in {NUMBER}s", re.IGNORECASE)
BEFORE_TIMER = re.compile(rf"(?:decompression done in |compile warmup done \(){NUMBER}s")
TIMER_BEGINS = re.compile(r"beginning .*eval timer", re.IGNORECASE)

ROUNDED = 6e-5
"""How far a score of four digits may lie from the exact one."""

DIAGNOSTIC = re.compile(r"diagnostic|pre-quantization|post.?ema|swa|raw", re.IGNORECASE)
"""Names of scores that are not those of the artifact."""


class LoggedScore(NamedTuple):
    """One score of a log."""

    name: str
    """What stands before it: `final_int8_zlib_roundtrip_exact`, `quantized_ttt`; empty where nothing does."""
    val_loss: float
    val_bpb: float
    seconds: float | None
    line: int
    """From 1."""

    @property
    def diagnostic(self) -> bool:
        """Whether its name says that it is not a score of the artifact."""
        return bool(DIAGNOSTIC.search(self.name))


@dataclass(frozen=True, kw_only=True)
class LogFacts:
    """What one log says; None for what it does not."""

    seed: int | None = None
    world: int | None = None
    params: int | None = None
    val_tokens: int | None = None
    steps: int | None = None
    """The last step that it names."""
    train_seconds: float | None = None
    """The longest training time that it names."""
    hessian_seconds: float = 0.0
    """Spent on calibration with training data after the last step."""
    uncounted_seconds: float = 0.0
    """Decoding and compile warm-up right before an evaluation timer that leaves them out."""
    eval_seconds: float | None = None
    """Of the final score."""
    model_bytes: int | None = None
    """Of the compressed model."""
    code_bytes: int | None = None
    """Compressed where it says both."""
    total_bytes: int | None = None
    validations: tuple[LoggedScore, ...] = ()
    """On the way."""
    scores: tuple[LoggedScore, ...] = ()
    """After training, in order."""
    traceback: int | None = None
    """Line of the last traceback."""
    lines: int = 0

    @property
    def final(self) -> LoggedScore | None:
        """The last score of the artifact."""
        return next((score for score in reversed(self.scores) if not score.diagnostic), None)


def read_training_log(text: str) -> LogFacts:
    """The facts of a log. Any text will do; what is not understood is left out."""
    lines = text.splitlines()
    scored = [found for number, line in enumerate(lines, 1) if (found := score_in(line, number))]
    after = [score for score in scored if not STEP_NAME.match(score.name)]
    final = next((score for score in reversed(after) if not score.diagnostic), None)
    steps = [int(step[1]) for line in lines if (step := TRAIN_STEP.match(line))]
    steps += [int(step[1]) for score in scored if (step := STEP_NAME.match(score.name))]
    codes = {size[1]: int(size[2]) for line in lines if (size := CODE_SIZE.match(line))}
    train = [seconds / 1000 for line in lines if (seconds := real(TRAIN_TIME.search(line))) is not None]
    tracebacks = [
        number for number, line in enumerate(lines, 1) if line.startswith("Traceback (most recent call last)")
    ]
    return LogFacts(
        seed=last_whole(SEED_LINE, lines),
        world=last_whole(WORLD_LINE, lines),
        params=last_whole(PARAMS_LINE, lines),
        val_tokens=last_whole(TOKENS_LINE, lines),
        steps=max(steps, default=None),
        train_seconds=max(train, default=None),
        hessian_seconds=sum(real(HESSIANS.search(line)) or 0.0 for line in lines if trained_on(line)),
        uncounted_seconds=uncounted(lines),
        eval_seconds=eval_seconds(lines, final),
        model_bytes=last_whole(MODEL_SIZE, lines, group=2),
        code_bytes=codes.get("compressed", next(reversed(codes.values()), None)),
        total_bytes=last_whole(TOTAL_SIZE, lines, group=2),
        validations=tuple(score for score in scored if STEP_NAME.match(score.name)),
        scores=tuple(after),
        traceback=max(tracebacks, default=None),
        lines=len(lines),
    )


def score_in(line: str, number: int) -> LoggedScore | None:
    """The score in `line`, if there is one."""
    found = SCORE_LINE.match(line)
    if not found:
        return None
    timed = EVAL_TIME.search(found["rest"])
    seconds = real(timed)
    if timed and seconds is not None and timed[2] == "ms":
        seconds /= 1000
    return LoggedScore(found["name"].strip(), float(found[2]), float(found[3]), seconds, number)


def real(found: re.Match[str] | None) -> float | None:
    """The first group as a finite number."""
    value = float(found[1]) if found else math.nan
    return value if math.isfinite(value) else None


def last_whole(pattern: re.Pattern[str], lines: list[str], group: int = 1) -> int | None:
    """The number in the last line that `pattern` matches."""
    found = (pattern.match(line) for line in reversed(lines))
    return next((int(match[group]) for match in found if match), None)


def trained_on(line: str) -> bool:
    """Whether a line about Hessians is about training data, not about text the model wrote itself."""
    return not re.search(r"self.?gen|autoregressive", line, re.IGNORECASE)


def eval_seconds(lines: list[str], final: LoggedScore | None) -> float | None:
    """How long the final score took, by the lines that give it, or in all where a log says that and it is more."""
    totals = [seconds for line in lines if (seconds := real(TOTAL_EVAL.match(line))) is not None]
    named = [] if final is None else list(times_of(lines, final))
    return max(totals + named, default=None)


def times_of(lines: list[str], final: LoggedScore) -> Iterator[float]:
    """The evaluation times of `final`: logs print a score twice, rounded with its time and exact without."""
    for number, line in enumerate(lines[: final.line], 1):
        score = score_in(line, number)
        if score and score.seconds is not None and abs(score.val_loss - final.val_loss) < ROUNDED:
            yield score.seconds


def uncounted(lines: list[str]) -> float:
    """Seconds of decoding and warm-up since the last score before a timer that is started by hand."""
    timer = next((number for number, line in enumerate(lines) if TIMER_BEGINS.search(line)), None)
    if timer is None:
        return 0.0
    before = [number for number in range(timer) if score_in(lines[number], number)]
    since = lines[before[-1] if before else 0 : timer]
    return sum(real(BEFORE_TIMER.search(line)) or 0.0 for line in since)

"""What a run will come to, before anything is spent: parameters, bytes, steps, memory, each with its assumption."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from paramgolf.artifact.code import imported_code
from paramgolf.lab.artifact_estimate import guess_artifact
from paramgolf.lab.results import past_runs
from paramgolf.model.gpt import GPT
from paramgolf.parts import Role, declared
from paramgolf.provenance import device_name
from paramgolf.result import Result
from paramgolf.run import Run
from paramgolf.train.config import TrainConfig

H100_FLOPS = 989e12
"""Peak of one H100 SXM in bf16 without sparsity, operations a second (data sheet)."""
H100_UTILIZATION = 0.22
"""Share of the peak that the records' training steps reached on eight H100 (96 ms for 98,304 tokens each)."""
CPU_UTILIZATION = 0.35
"""Share of the speed of a large matrix product that small models reach on a CPU (the demo, two cores)."""
ACTIVATION_COPIES = 16
"""Copies of a (tokens, dim) bf16 activation kept a layer for the backward pass.

From the published baseline's log: 10,184 MiB at 65,536 tokens, 9 layers, width 512."""


class Pace(NamedTuple):
    """How fast training goes somewhere."""

    device: str
    step_ms: float
    steps: int
    train_seconds: float
    basis: str
    """Where the number comes from."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run is expected to come to."""

    preset: str
    digest: str
    params: int
    params_by_role: dict[str, int]
    artifact_bytes: int
    code_bytes: int
    byte_budget: int
    paces: tuple[Pace, ...]
    memory_mib: int
    """Of one device of the contest while training."""
    assumptions: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """What counts against the budget."""
        return self.artifact_bytes + self.code_bytes

    @property
    def within_bytes(self) -> bool:
        """Whether that is expected to fit."""
        return self.total_bytes <= self.byte_budget


def estimate(run: Run, *, device: torch.device, runs: Path, script_bytes: int | None = None) -> Estimate:
    """The estimate for `run`; past runs are looked for below `runs`, and `device` is the one at hand.

    `script_bytes`: the bytes of its bundle, where they are known.
    """
    roles = role_counts(run)
    past = newest_like(run, device, runs)
    here = measured_pace(run, past) if past else guessed_pace(run, device)
    code, there = script_bytes or run_code_bytes(run), contest_pace(run)
    counted = "every module this run imports, compressed and not minified: an upper bound"
    artifact = guess_artifact(run, steps=there.steps, runs=runs, code=code)
    return Estimate(
        preset=run.name,
        digest=run.digest,
        params=sum(roles.values()),
        params_by_role={role.value: count for role, count in roles.items()},
        artifact_bytes=artifact.bytes,
        code_bytes=code,
        byte_budget=run.contest.artifact_bytes,
        paces=(there, here),
        memory_mib=memory_mib(run, roles),
        assumptions=(
            f"weights: {artifact.basis}",
            f"code: {'the script that `paramgolf bundle` makes' if script_bytes else counted}",
            f"time on H100: {H100_UTILIZATION:.0%} of {H100_FLOPS / 1e12:.0f} TFLOP/s, as the records' steps reach",
            f"time here: {here.basis}",
            f"memory: fp32 weights, gradients and optimizer state, {ACTIVATION_COPIES} activations a layer in bf16, "
            "logits three times",
        ),
    )


def outline(run: Run) -> GPT:
    """The model of `run` without memory for its weights."""
    with torch.device("meta"):
        return GPT(run.model)


def role_counts(run: Run) -> Counter[Role]:
    """How many parameters `run` has of each role."""
    counts: Counter[Role] = Counter()
    for _, parameter, role in declared(outline(run)):
        counts[role] += parameter.numel()
    return counts


def run_code_bytes(run: Run) -> int:
    """Upper bound on the bytes of code that `run` needs."""
    return imported_code(run)


def step_flops(run: Run) -> float:
    """Floating-point operations of one optimizer step: 6 a matrix weight and token, and causal attention."""
    roles = role_counts(run)
    passes = len(run.model.order(run.model.layers, 1.0))
    head = roles[Role.HEAD] or roles[Role.EMBED]
    inside = sum(roles[role] for role in (Role.ATTENTION, Role.MLP, Role.PROJECTION, Role.GATE))
    attention = 6.0 * passes * run.train.seq_len * run.model.dim
    per_token = 6.0 * (head + inside * passes / run.model.layers) + attention
    return per_token * run.train.batch_tokens


def pace(run: Run, device: str, step_seconds: float, basis: str) -> Pace:
    """Steps and seconds of `run` where a step takes `step_seconds`."""
    budget = run.contest.train_seconds - run.train.reserve_seconds
    steps = run.train.steps
    if run.train.by == "clock":
        steps = min(steps, int(budget / step_seconds))
    return Pace(device, 1000 * step_seconds, steps, steps * step_seconds, basis)


def contest_pace(run: Run) -> Pace:
    """On the contest's devices, taken for H100."""
    speed = run.contest.devices * H100_FLOPS * H100_UTILIZATION
    basis = f"{H100_UTILIZATION:.0%} of the peak"
    return pace(run, f"{run.contest.devices} x H100", step_flops(run) / speed, basis)


def newest_like(run: Run, device: torch.device, runs: Path) -> Result | None:
    """The newest result below `runs` of this configuration on this device."""
    name = device_name(device)
    fitting = [
        (past.folder.stat().st_mtime, past.result)
        for past in past_runs(runs)
        if past.result and past.result.digest == run.digest and past.result.device == name
    ]
    return max(fitting, key=lambda item: item[0])[1] if fitting else None


def measured_pace(run: Run, past: Result) -> Pace:
    """As an earlier run of the same configuration went, pauses between steps included."""
    seconds = past.train_seconds / past.steps if past.steps else past.step_ms_median / 1000
    return pace(run, past.device, seconds, f"measured over {past.steps:,} steps of an earlier run, seed {past.seed}")


def guessed_pace(run: Run, device: torch.device) -> Pace:
    """From a matrix product timed now on `device`."""
    bf16, share = (torch.bfloat16, H100_UTILIZATION) if device.type == "cuda" else (torch.float32, CPU_UTILIZATION)
    speed = product_speed(device, bf16)
    basis = f"{share:.0%} of {speed / 1e12:.2f} TFLOP/s, a matrix product timed just now"
    return pace(run, device_name(device), step_flops(run) / (speed * share), basis)


def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product on `device`, best of a few."""
    size = 8192 if device.type == "cuda" else 768
    matrix = torch.randn(size, size, device=device).to(dtype)
    return max(2 * size**3 / seconds for seconds in product_times(matrix))


def product_times(matrix: torch.Tensor, times: int = 5) -> Iterator[float]:
    """Seconds of `matrix @ matrix`, the first not counted. Reading one element waits for the device."""
    for number in range(times + 1):
        began = time.perf_counter()
        float((matrix @ matrix)[0, 0])
        if number:
            yield time.perf_counter() - began


def memory_mib(run: Run, roles: Counter[Role]) -> int:
    """Memory of one of the contest's devices while training, MiB."""
    tokens = device_batch(run.train, run.contest.devices)
    matrices = sum(roles[role] for role in (Role.ATTENTION, Role.MLP, Role.PROJECTION))
    weights = 4 * (3 * matrices + 4 * (sum(roles.values()) - matrices))
    passes = len(run.model.order(run.model.layers, 1.0))
    activations = 2 * tokens * run.model.dim * ACTIVATION_COPIES * passes
    logits = tokens * run.model.vocab * (2 + 4 + 4)
    return round((weights + activations + logits) / 2**20)


def device_batch(train: TrainConfig, devices: int) -> int:
    """Tokens a device holds at once."""
    return min(train.device_tokens, max(train.batch_tokens // devices, 1))

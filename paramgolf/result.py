"""What a run comes to: the numbers of `result.json`."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class WithinBudget:
    """Whether each budget of the contest was kept."""

    bytes: bool
    train: bool
    eval: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of a run. Scores but `val_bpb_raw` come from weights decoded from the artifact file."""

    preset: str
    digest: str
    seed: int
    params: int
    steps: int
    train_seconds: float
    eval_seconds: float
    """From opening the artifact to the final score."""
    export_seconds: float
    step_ms_median: float
    peak_memory_mib: int
    val_bpb_raw: float
    """Before export, windows side by side, or document by document where training packed them."""
    val_bpb_export: float
    """From the artifact, scored alike."""
    val_bpb: float
    """From the artifact, under the run's evaluation protocol."""
    val_loss: float
    """Nats a token behind `val_bpb`."""
    val_tokens: int
    val_bytes: int
    artifact_bytes: int
    code_bytes: int
    total_bytes: int
    contest: str
    byte_budget: int
    within_budget: WithinBudget
    tokenizer: str
    dataset: str
    data_fingerprint: str
    device: str
    world: int
    attention_backend: str
    torch: str
    git_commit: str
    warmup_seconds: float = 0.0
    """Compiling and warm-up steps before the clock, wall seconds; little where a run before it filled the cache."""

    def as_json(self) -> dict[str, Any]:
        """The object of `result.json`."""
        return asdict(self)

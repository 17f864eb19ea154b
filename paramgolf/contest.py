"""Contests: the budgets an entry must keep."""

from dataclasses import dataclass

from paramgolf.bounds import require_positive


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Budgets of one contest. The default is the published challenge (rules catalogue R1)."""

    name: str = "parameter-golf"
    artifact_bytes: int = 16_000_000
    """Code plus compressed weights, decimal bytes."""
    train_seconds: float = 600.0
    """Wall clock of training, calibration included."""
    eval_seconds: float = 600.0
    """Wall clock from the artifact file to the score."""
    devices: int = 8
    """How many accelerators the clock assumes."""

    def __post_init__(self) -> None:
        require_positive(self, "artifact_bytes", "train_seconds", "eval_seconds", "devices")


DEMO = Contest(name="demo", artifact_bytes=500_000, train_seconds=600.0, eval_seconds=600.0, devices=1)
"""Half a megabyte on a laptop: the same rules, small enough to try in minutes."""

ONE_H100 = Contest(name="one-h100-300s", train_seconds=300.0, devices=1)
"""The proxy contest for one GPU: the same bytes, 300 s of training."""

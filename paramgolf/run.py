"""A run: everything that determines it, in one value."""

from dataclasses import dataclass, replace

from paramgolf.artifact.container import ArtifactConfig
from paramgolf.bounds import require_not_negative
from paramgolf.config import digest
from paramgolf.contest import Contest
from paramgolf.data.config import DataConfig
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.evaluation import Contiguous, EvaluateConfig
from paramgolf.evaluate.slots import EvaluationProtocol
from paramgolf.lowbit import low_bit_of
from paramgolf.model.config import GPTConfig
from paramgolf.optim.groups import OptimConfig
from paramgolf.quant.plan import QuantConfig
from paramgolf.registry import name_of
from paramgolf.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Run:
    """One preset with one seed. Refuses settings that cannot work together when it is made."""

    name: str
    """The preset it came from."""
    contest: Contest = Contest()
    data: DataConfig
    model: GPTConfig = GPTConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    quant: QuantConfig = QuantConfig()
    artifact: ArtifactConfig = ArtifactConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    seed: int = 1337

    def __post_init__(self) -> None:
        for what, length in self.rows:
            if length > self.model.context:
                raise ValueError(f"{what} of {length} tokens exceed model.context={self.model.context}")
        if self.train.seq_growth and not self.data.loader.resizable:
            raise ValueError("train.seq_growth needs a loader whose rows can change: sequential or packed")
        require_not_negative(self, "seed")
        if self.train.by == "clock" and self.train.reserve_seconds >= self.contest.train_seconds:
            raise ValueError(
                f"train.reserve_seconds={self.train.reserve_seconds:g} leaves nothing of "
                f"contest.train_seconds={self.contest.train_seconds:g}"
            )
        self.refuse_low_bit_conflict()

    def refuse_low_bit_conflict(self) -> None:
        """Raise `ValueError` where ternary or binary weights meet what spoils them (architecture catalogue §11)."""
        trained = low_bit_of(self.model.linear)
        if trained is None:
            return
        for name, quantizer in (("attention", self.quant.attention), ("mlp", self.quant.mlp)):
            kept = low_bit_of(quantizer)
            if kept not in (None, trained):
                raise ValueError(
                    f"quant.{name} would keep weights as {kept}, model.linear trains them as {trained}: "
                    "in another form they are another model"
                )
        if self.optim.average:
            raise ValueError(
                f"optim.average does not go with the {trained.kind} weights of model.linear: what an average of them "
                "rounds to is not what was trained (+0.13 bits per byte in PR #640)"
            )

    @property
    def longest_row(self) -> int:
        """Tokens of the longest row in training; packed documents stand in one, all that a device holds at once."""
        whole = min(self.train.device_tokens, self.train.batch_tokens)
        return whole if self.data.loader.packed else self.train.seq_len

    @property
    def rows(self) -> tuple[tuple[str, int], ...]:
        """Everything that the model will be given, with its tokens a row as far as the configuration tells."""
        return (
            ("training rows", self.longest_row),
            ("rows of quant.calibration.length", getattr(self.quant.calibration, "length", 0) - 1),
            ("windows of evaluate.protocol.length", getattr(self.evaluate.protocol, "length", 0)),
        )

    @property
    def plain_protocol(self) -> EvaluationProtocol:
        """Scoring as training sees the text: by document after packed rows, else windows side by side."""
        return Documents() if self.data.loader.packed else Contiguous()

    @property
    def scores_plainly(self) -> bool:
        """Whether its score is the plain one."""
        return self.evaluate.protocol == self.plain_protocol and not self.evaluate.on_logits

    @property
    def digest(self) -> str:
        """12 hexadecimal characters that identify the configuration; seeds and names share it."""
        return digest(replace(self, name="", seed=0))


def form(run: Run) -> str:
    """How the challenge's log would call this export, as `int8+zlib`."""
    matrix, coder = str(name_of(run.quant.mlp)), type(run.artifact.coder).__name__.lower()
    return f"{matrix.removesuffix('_rows')}+{coder.removesuffix('coder')}"

"""What takes the place of parts of the package in a bundle, where a script needs less: no checkpoints, no checks."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
import torch
from torch import Tensor

from paramgolf.data.bytecount import SPACE_PIECE, ByteTable, pure_byte_table
from paramgolf.data.shards import SHARD_HEADER_BYTES, Ids, Shard
from paramgolf.data.validation import ValStream
from paramgolf.evaluate.evaluation import Evaluation
from paramgolf.evaluate.tally import Tally
from paramgolf.run import Run
from paramgolf.train.signals import StopRequest


def no_checkpoint(folder: Path) -> bool:
    """In place of `has_checkpoint`: a script always begins anew."""
    return False


def saves_nothing(*what: Any) -> None:
    """In place of `save_finite`."""


def keeps_nothing(*what: Any) -> None:
    """In place of `save_checkpoint`."""


def unstoppable() -> AbstractContextManager[Any]:
    """In place of `stop_requested`: signals act as usual."""
    return nullcontext(StopRequest())


class NeverAsked(NamedTuple):
    """In place of `StopRequest`."""

    signal: int = 0


def told_nothing(events: Any, protocol: Any) -> Callable[[float], None]:
    """In place of `Reporter`."""
    return lambda share: None


SCRIPT_CODER: Any = None
"""The coder of the run; the bundler writes it here."""


def carried_coder(identity: int, known: Any) -> Any:
    """In place of `coder_of`: a script reads what it wrote."""
    return SCRIPT_CODER


def quack_is_absent(x: Any) -> bool:
    """In place of `quack_runs`: a script asks for no library beside those of the contest."""
    return False


def nothing_is_resumed(shards: Sequence[Path], tokenizer: Any) -> str:
    """In place of `data_fingerprint`."""
    return ""


def gpu_or_cpu(wanted: str, local_rank: int = 0) -> torch.device:
    """In place of `pick_device`."""
    chip = wanted != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", local_rank) if chip else torch.device("cpu")


def chip_name(device: torch.device) -> str:
    """In place of `device_name`."""
    return torch.cuda.get_device_name() if device.type == "cuda" else "cpu"


def tallied(
    protocol: Any,
    bench: Any,
    target_bytes: Tensor,
    *,
    reduce: Callable[[Tensor], Tensor],
    told: Callable[[float], None],
) -> Evaluation:
    """In place of `evaluate`: costs are fetched as they come, and no target is counted twice."""
    began = time.perf_counter()
    nats = torch.zeros(len(target_bytes), dtype=torch.float64)
    for scored in protocol(bench):
        nats.index_add_(0, scored.positions[scored.counted], scored.nats.cpu()[scored.counted].double())
    tally = Tally(float(reduce(nats).sum()), int(target_bytes.long().sum()), len(nats))
    return Evaluation(tally, time.perf_counter() - began)


def tensors_within(thing: Any) -> list[Tensor]:
    """The tensors that an object holds, however deep."""
    if isinstance(thing, Tensor):
        return [thing]
    parts = (
        thing
        if isinstance(thing, tuple | list)
        else thing
        if isinstance(thing, dict)
        else getattr(thing, "__dict__", {})
    )
    return [
        tensor for part in (parts.values() if isinstance(parts, dict) else parts) for tensor in tensors_within(part)
    ]


def copied_state(self: Any) -> list[tuple[Tensor, Tensor]]:
    """In place of `Optimizer.snapshot`: every tensor that it holds, with a copy."""
    return [(tensor, tensor.clone()) for tensor in tensors_within(self)]


@torch.no_grad()
def copied_back(self: Any, state: list[tuple[Tensor, Tensor]]) -> None:
    """In place of `Optimizer.load_state_dict`."""
    for tensor, before in state:
        tensor.copy_(before)


def library_goes_alone() -> bool:
    """In place of `attention_sums_run`: a script uses no private parts of a library."""
    return False


def sums_never_run() -> bool:
    """In place of `sums_run`: only QuACK adds to the stream in a product."""
    return False


def taken_as_it_is(output: bytes, size: int, *, ended: bool) -> bytes:
    """In place of `decoded_exactly`: a script reads what it wrote."""
    return output


def told_in_the_result(*what: Any) -> None:
    """In place of `check_budget`."""


class LineTeller:
    """In place of `script_events`: it is told the lines of the log."""

    def __init__(self, log: Path, *, first: bool) -> None:
        self.file = log.open("w", buffering=1) if first else None

    def tell(self, lines: list[str]) -> None:
        """Put lines into the file and on the screen."""
        if self.file:
            for line in lines:
                print(line, flush=True)
                print(line, file=self.file)


class PlainFolder:
    """In place of `RunFolder`: where the files of a script lie."""

    def __init__(self, path: Path) -> None:
        self.log = path / "train.log"
        self.artifact = path / "artifact.pgolf"
        self.result = path / "result.json"


def header_told(path: Path) -> Shard:
    """In place of `checked_header`: what it says is not checked."""
    return Shard(path, int(np.fromfile(path, "<i4", 3)[2]))


def plain_stream(shards: Sequence[Path], tokenizer: Any, *, sidecars: Sequence[Path] = ()) -> ValStream:
    """In place of `validation_stream`: the bytes are counted, not checked against decoding."""
    tokens = joined_shards(shards)
    counts = joined_shards(sidecars)[1:] if sidecars else tokenizer.count(tokens[:-1], tokens[1:])
    return ValStream(tokens, counts.astype(np.int32))


def joined_shards(paths: Sequence[Path]) -> Ids:
    """The numbers of several shards."""
    return np.concatenate([np.fromfile(path, "<u2", offset=SHARD_HEADER_BYTES) for path in paths])


def bytes_alone(spec: str) -> ByteTable:
    """In place of `load_tokenizer` for byte260: the bytes that each token stands for are all that is asked of it."""
    return pure_byte_table(260, 4)


def pieces_alone(spec: str | Path) -> ByteTable:
    """In place of `load_tokenizer` for SentencePiece, see `byte_table`."""
    told: Any = sentencepiece.SentencePieceProcessor(model_file=str(spec))
    numbers = range(told.vocab_size())
    silent = np.array([told.is_control(n) or told.is_unknown(n) or told.is_unused(n) for n in numbers])
    texts = ["" if silent[n] else "." if told.is_byte(n) else told.id_to_piece(n) for n in numbers]
    spaced = np.array([text.startswith(SPACE_PIECE) for text in texts])
    sizes = np.array([len(text.encode()) for text in texts]) - 3 * spaced
    return ByteTable(sizes.astype(np.int16), spaced, silent, np.zeros(0, np.bool_))


STAND_INS = {
    "coder_of": "carried_coder",
    "has_checkpoint": "no_checkpoint",
    "save_checkpoint": "keeps_nothing",
    "save_finite": "saves_nothing",
    "stop_requested": "unstoppable",
    "StopRequest": "NeverAsked",
    "decoded_exactly": "taken_as_it_is",
    "check_budget": "told_in_the_result",
    "script_events": "LineTeller",
    "Reporter": "told_nothing",
    "RunFolder": "PlainFolder",
    "checked_header": "header_told",
    "data_fingerprint": "nothing_is_resumed",
    "pick_device": "gpu_or_cpu",
    "device_name": "chip_name",
    "evaluate": "tallied",
    "quack_runs": "quack_is_absent",
    "sums_run": "sums_never_run",
    "attention_sums_run": "library_goes_alone",
    "validation_stream": "plain_stream",
    "load_tokenizer": "pieces_alone",
}
"""What of the package is replaced by what of this file."""


METHOD_STAND_INS = {("Optimizer", "snapshot"): "copied_state", ("Optimizer", "load_state_dict"): "copied_back"}
"""Methods of the package's classes that are replaced by functions of this file."""

STAGE_STAND_INS = {"execute": "done_at_once"}
"""The same by what of `stand_in_stages.py`."""

ARTIFACT_STAND_INS = {"pack": "lean_pack", "unpack": "lean_unpack"}
"""The same by what of `stand_in_artifact.py`."""


def stand_ins_of(run: Run) -> dict[str, str]:
    """The table for `run`."""
    return {**STAND_INS, "load_tokenizer": "bytes_alone"} if run.data.variant == "byte260" else STAND_INS

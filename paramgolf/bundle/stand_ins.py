"""What takes the place of parts of the package in a bundle, where a script needs less: no checkpoints, no checks."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
import torch
from torch import Tensor

from paramgolf.data.bytecount import SPACE_PIECE, ByteTable, pure_byte_table
from paramgolf.data.shards import SHARD_HEADER_BYTES, Ids
from paramgolf.data.validation import ValStream
from paramgolf.evaluate.evaluation import Evaluation
from paramgolf.evaluate.tally import Tally
from paramgolf.run import Run
from paramgolf.train.signals import StopRequest


def script_bytes(run: Any) -> int:
    """In place of `imported_code`: the size of the file that runs."""
    return Path(sys.argv[0]).stat().st_size


def no_commit() -> str:
    """In place of `git_commit`."""
    return ""


def no_checkpoint(folder: Path) -> bool:
    """In place of `has_checkpoint`: a script always begins anew."""
    return False


def saves_nothing(*what: Any) -> None:
    """In place of `save_finite`."""


def keeps_nothing(*what: Any) -> None:
    """In place of `save_checkpoint`."""


@contextmanager
def unstoppable() -> Iterator[StopRequest]:
    """In place of `stop_requested`: signals act as usual."""
    yield StopRequest()


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


class ToldLines:
    """In place of `Events`: listeners are told the lines of the log."""

    def __init__(self, path: None, listeners: tuple[Callable[[list[str]], None], ...]) -> None:
        self.listeners = listeners

    def tell(self, lines: list[str]) -> None:
        """Tell the listeners."""
        for listener in self.listeners:
            listener(lines)


class LinePrinter:
    """In place of `LogPrinter`: it is given lines."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", buffering=1)

    def __call__(self, lines: list[str]) -> None:
        for line in lines:
            print(line, flush=True)
            print(line, file=self.file)


class PlainFolder:
    """In place of `RunFolder`: files written as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "train.log"
        self.checkpoint = path
        self.artifact = path / "artifact.pgolf"
        self.export = path / "export.json"
        self.result = path / "result.json"

    def write_bytes(self, target: Path, content: bytes) -> None:
        """Write a file."""
        target.write_bytes(content)

    def write_json(self, target: Path, values: dict[str, Any]) -> None:
        """Write an object."""
        target.write_text(json.dumps(values))

    def read_json(self, source: Path) -> dict[str, Any]:
        """Read an object."""
        return json.loads(source.read_text())


def plain_stream(shards: Sequence[Path], tokenizer: Any, *, sidecars: Sequence[Path] = ()) -> ValStream:
    """In place of `validation_stream`: the bytes are counted, not checked against decoding."""
    tokens = joined_shards(shards)
    counts = joined_shards(sidecars)[1:] if sidecars else tokenizer.byte_table().count(tokens[:-1], tokens[1:])
    return ValStream(tokens, counts.astype(np.int32))


def joined_shards(paths: Sequence[Path]) -> Ids:
    """The numbers of several shards."""
    return np.concatenate([np.fromfile(path, "<u2", offset=SHARD_HEADER_BYTES) for path in paths])


class TableTokenizer(NamedTuple):
    """What scoring needs of a tokenizer."""

    name: str
    kind: str
    vocab: int
    fingerprint: str
    table: ByteTable

    def byte_table(self) -> ByteTable:
        """The bytes that each token stands for."""
        return self.table


def bytes_alone(spec: str) -> TableTokenizer:
    """In place of `load_tokenizer` for byte260."""
    return TableTokenizer("byte260", "bytes", 260, "", pure_byte_table(260, 4))


def pieces_alone(spec: str) -> TableTokenizer:
    """In place of `load_tokenizer` for SentencePiece."""
    model = Path(spec).read_bytes()
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(number) for number in range(processor.vocab_size())]
    numbers = range(len(pieces))
    silent = [processor.is_control(n) or processor.is_unknown(n) or processor.is_unused(n) for n in numbers]
    single = [processor.is_byte(n) for n in numbers]
    spaced = [piece[0] == SPACE_PIECE and not single[n] and not silent[n] for n, piece in enumerate(pieces)]
    sizes = [
        0 if silent[n] else 1 if single[n] else len(piece.encode()) - 3 * spaced[n] for n, piece in enumerate(pieces)
    ]
    table = ByteTable(np.array(sizes, np.int16), np.array(spaced), np.array(silent), np.zeros(0, np.bool_))
    return TableTokenizer(Path(spec).stem, "sentencepiece", len(pieces), hashlib.sha256(model).hexdigest()[:12], table)


STAND_INS = {
    "imported_code": "script_bytes",
    "coder_of": "carried_coder",
    "git_commit": "no_commit",
    "has_checkpoint": "no_checkpoint",
    "save_checkpoint": "keeps_nothing",
    "save_finite": "saves_nothing",
    "stop_requested": "unstoppable",
    "Events": "ToldLines",
    "LogPrinter": "LinePrinter",
    "Reporter": "told_nothing",
    "RunFolder": "PlainFolder",
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

ARTIFACT_STAND_INS = {"pack": "lean_pack", "unpack": "lean_unpack"}
"""The same by what of `stand_in_artifact.py`."""


def stand_ins_of(run: Run) -> dict[str, str]:
    """The table for `run`."""
    return {**STAND_INS, "load_tokenizer": "bytes_alone"} if run.data.variant == "byte260" else STAND_INS

"""What each part of the coder of weights is worth: bytes of real codes with it taken out.

    python benchmarks/coder_contexts.py pr1855@h100 --artifact FILE.pgolf --set data.variant=sp8192
    python benchmarks/coder_contexts.py pr1855@h100 --weights FILE.safetensors --set data.variant=sp8192 --share 3

Codes are those of an artifact (export_memory.py --keep writes one), or the record pipeline's of trained weights. With
--share N only every N-th matrix of each role is coded. A part is taken out of the text of the coder, which is compiled
anew: what is measured is the coder as it is, but for that part. Only writing is measured, in one thread a segment.
"""

import argparse
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from artifact_coders import DIGEST, RECORD_GRIDS
from safetensors.torch import load_file

from paramgolf.artifact import bits, code_model
from paramgolf.artifact.code_model import CODE_MODEL, Plane, said_of
from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.artifact.forecast import forecast_for
from paramgolf.artifact.slots import StreamPart
from paramgolf.artifact.symbols import CodeSymbols, write_segment
from paramgolf.lab.analysis.subject import load_weights
from paramgolf.lab.launch import asked_run
from paramgolf.parts import Role
from paramgolf.quant.plan import quantize
from paramgolf.stages import fresh_model
from paramgolf.stored import Stored, StreamKind
from paramgolf.train.distributed import Place

Edits = Mapping[str, str]
"""Text of a module, and what stands in its place."""
LAST_CONTEXT = "            for place in range(len(contexts)):\n"
REFINED = "(3 * chance + (refined >> 32)) >> 2"


def without_input(*inputs: int) -> Edits:
    """The mix with the same context for all codes at `inputs`."""
    lines = "".join(f"            contexts[{place}], mirrored[{place}] = 0, 0\n" for place in inputs)
    return {LAST_CONTEXT: lines + LAST_CONTEXT}


@dataclass(frozen=True, kw_only=True)
class Change:
    """The coder with a part taken out."""

    name: str
    codes: Edits = field(default_factory=dict)
    """Of code_model.py."""
    bits: Edits = field(default_factory=dict)
    """Of bits.py."""
    plane: Callable[[Plane], Plane] = lambda plane: plane
    """What is known of a matrix beforehand."""
    together: bool = False
    """Whether the matrices of all roles are one stream."""


NO_GRIDS = np.zeros((0, 2), np.int64)
CHANGES = (
    Change(name="the coder as it is"),
    Change(name="steps of rows", plane=lambda plane: plane._replace(row_logs=0 * plane.row_logs)),
    Change(name="steps of columns", plane=lambda plane: plane._replace(column_logs=0 * plane.column_logs)),
    Change(name="grid of a trellis", plane=lambda plane: plane._replace(after=NO_GRIDS)),
    Change(name="regression of columns", plane=lambda plane: plane._replace(forecast=forecast_for(0, 0))),
    Change(name="type: a model for each role", together=True),
    Change(name="row average × column average", codes=without_input(0, 6)),
    Change(name="both averages apart", codes=without_input(1)),
    Change(name="column average that forgets", codes=without_input(2)),
    Change(name="neighbours: codes above", codes=without_input(3)),
    Change(name="neighbours: signs nearby", codes=without_input(5)),
    Change(name="averages of signs", codes=without_input(4)),
    Change(name="expected × likely sign", codes=without_input(6)),
    Change(name="negative codes seen from the other side", codes={"contexts[:] = model.mirrored": "learned[0] += 0"}),
    Change(name="what a mix has meant", bits={REFINED: "chance"}),
)


@dataclass
class Gathered:
    """A coder that codes nothing and keeps the streams of codes it is given."""

    identity: ClassVar[int] = 251

    streams: list[tuple[bytes, Sequence[StreamPart]]] = field(default_factory=list)

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data`."""
        if parts and parts[0].piece.kind is StreamKind.CODES:
            self.streams.append((data, parts))
        return data

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data`."""
        return data


def edited(module: Any, edits: Edits) -> dict[str, Any]:
    """The definitions of `module` with `edits` in its text."""
    text = inspect.getsource(module)
    for old, new in edits.items():
        assert text.count(old) == 1, (module.__name__, old)
        text = text.replace(old, new)
    found: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(text, module.__file__, "exec"), found)
    return found


def changed_code_plane(change: Change) -> Callable[..., None]:
    """`code_plane` as `change` leaves it; functions look up those below them when they are compiled, which is later."""
    below, found = edited(bits, change.bits), edited(code_model, change.codes)
    found |= {name: below[name] for name in ("code_node", "code_plainly")}
    return found["code_plane"]


class ChangedSymbols(CodeSymbols):
    """Codes under a changed coder."""

    def __init__(self, data: bytes, parts: Sequence[StreamPart], change: Change, code: Callable[..., None]) -> None:
        super().__init__(data, parts)
        self.change, self.code_plane = change, code

    def code(self, model: bits.BitModel, segment: int) -> None:
        """Every block of a segment."""
        for block in self.groups[segment]:
            plane = self.change.plane(self.plane(block))
            self.code_plane(model, CODE_MODEL.starts, self.tables, plane, said_of(plane))


def stream_size(data: bytes, parts: Sequence[StreamPart], change: Change, code: Callable[..., None]) -> int:
    """Bytes of a stream of codes."""
    symbols = ChangedSymbols(data, parts, change, code)
    model, lead = write_segment(symbols, symbols.fresh(), 0)
    with ThreadPoolExecutor() as pool:
        rest = pool.map(lambda segment: len(write_segment(symbols, model, segment)[1]), range(1, symbols.segments))
        return len(lead) + sum(rest)


def codes_of(options: argparse.Namespace) -> dict[Role, tuple[bytes, Sequence[StreamPart]]]:
    """The streams of codes by role."""
    model = fresh_model(asked_run(options.preset, tuple(options.settings)), Place(torch.device("cpu")))
    expected = expected_of(model)
    if options.artifact is not None:
        stored: Mapping[str, Stored] = unpack(options.artifact.read_bytes(), expected)
    else:
        load_weights(model, load_file(options.weights), options.weights)
        stored = quantize(model, RECORD_GRIDS)
    found = {}
    for role in (Role.EMBED, Role.ATTENTION, Role.MLP):
        names = [name for name in expected if expected[name].role is role][:: options.share]
        gathered = Gathered()
        part = {name: stored[name] for name in names}
        pack(part, {name: expected[name] for name in names}, coder=gathered, digest=DIGEST)
        (found[role],) = gathered.streams
    return found


def sizes_of(change: Change, streams: Mapping[Role, tuple[bytes, Sequence[StreamPart]]]) -> list[int]:
    """Bytes by role, and of all; only the latter where they are one stream."""
    code = changed_code_plane(change)
    if change.together:
        whole = b"".join(data for data, _ in streams.values())
        return [stream_size(whole, [part for _, parts in streams.values() for part in parts], change, code)]
    sizes = [stream_size(data, parts, change, code) for data, parts in streams.values()]
    return [*sizes, sum(sizes)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", help="whose weights they are")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--artifact", type=Path)
    source.add_argument("--weights", type=Path, help="trained weights by name")
    parser.add_argument("--share", type=int, default=1, help="every how many-th matrix of a role")
    parser.add_argument("--only", action="append", default=[], help="a part of the names of the rows to measure")
    options = parser.parse_args()
    streams = codes_of(options)
    counts = [len(data) for data, _ in streams.values()]
    print(f"| taken out | {' | '.join(role.value for role in streams)} | all | of all | seconds |")
    print("|---|" + "---|" * (len(streams) + 3))
    print(f"| codes | {' | '.join(f'{count:,}' for count in counts)} | {sum(counts):,} | | |", flush=True)
    first: list[int] = []
    for change in CHANGES:
        if first and options.only and not any(part in change.name for part in options.only):
            continue
        began = time.perf_counter()
        sizes = sizes_of(change, streams)
        more = [size - least for size, least in zip(sizes[::-1], first[::-1])][::-1]
        cells = [f"{size:+,}" for size in more] or [f"{size:,}" for size in sizes]
        cells = [*[""] * (len(streams) + 1 - len(cells)), *cells]
        first = first or sizes
        share = f"{sizes[-1] / first[-1] - 1:+.3%}"
        print(f"| {change.name} | {' | '.join(cells)} | {share} | {time.perf_counter() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()

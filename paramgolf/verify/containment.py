"""Check 7, the artifact: within its bytes, code included; nothing from the network, nothing that was not counted."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from paramgolf.contest import Contest
from paramgolf.verify.ruling import Reading, Ruling, Verdict, disputed, failed, passed
from paramgolf.verify.watch import Watched

CONTAINMENT = "artifact self-contained"
MEBI = 1_048_576


class Sizes(NamedTuple):
    """The bytes of a submission, measured."""

    artifact: int
    code: int
    """As the submission counts it: of a compressed wrapper where there is one."""
    raw_code: int | None = None
    """All readable code of the folder, where that is something else."""
    claimed: int | None = None
    """The total that the submission states."""


def check_sizes(sizes: Sizes, contest: Contest) -> list[Ruling]:
    """Whether code and weights fit the budget, and whether the stated total is true."""
    total, budget = sizes.artifact + sizes.code, contest.artifact_bytes
    measured = f"weights {sizes.artifact:,} + code {sizes.code:,} = {total:,} of {budget:,} bytes"
    found = []
    if total > budget:
        said = f"code and weights are {total - budget:,} bytes over the budget"
        mebibytes = round(budget / 1e6) * MEBI
        if budget % 1_000_000 == 0 and total <= mebibytes:
            said += f"; {mebibytes:,} bytes, MiB taken for MB, would hold them"
        found.append(failed(CONTAINMENT, said, measured, "artifact_bytes"))
    elif sizes.raw_code is not None and sizes.artifact + sizes.raw_code > budget:
        raw = sizes.artifact + sizes.raw_code
        readings = (
            Reading("the wrapper that runs", Verdict.PASSED, measured),
            Reading("all readable code", Verdict.FAILED, f"with {sizes.raw_code:,} bytes of code: {raw:,}"),
        )
        said = "within the budget with the code that runs, over it with all readable code of the folder"
        found.append(disputed(CONTAINMENT, said, measured, ("artifact_bytes",), readings))
    if sizes.claimed is not None and sizes.claimed != total:
        found.append(
            failed(
                CONTAINMENT,
                "the stated size is not that of the files",
                f"stated {sizes.claimed:,}; {measured}",
                "artifact_bytes",
            )
        )
    return found or [passed(CONTAINMENT, "code and weights fit the budget", measured, "artifact_bytes")]


def check_watched(watched: Watched, counted: Collection[Path], validation: Collection[Path] = ()) -> list[Ruling]:
    """Whether the code, while it scored, touched the network or files that are not in the counted bytes."""
    found = []
    if watched.network:
        tried = "; ".join(list(watched.network)[:4])
        found.append(failed(CONTAINMENT, "the network is used while scoring", tried, "self_contained"))
    allowed = {str(Path(path).resolve()) for path in counted}
    own = {str(Path(path).resolve()) for path in validation}
    read = {path: size for path, size in watched.files.items() if str(Path(path).resolve()) not in allowed}
    prefix = {
        path: size for path, size in read.items() if str(Path(path).resolve()) in own or "_val_" in Path(path).name
    }
    if prefix:
        said = "validation data is read from disk while scoring: only the stream that is handed over may be used"
        found.append(failed(CONTAINMENT, said, listed_files(prefix), "paid_prefix", "self_contained"))
    others = {path: size for path, size in read.items() if path not in prefix}
    if others:
        said = "files that are not in the counted bytes are read while scoring"
        if any("_train_" in Path(path).name for path in others):
            said = "training data that is not in the counted bytes is read while scoring"
        found.append(failed(CONTAINMENT, said, listed_files(others), "self_contained", "artifact_bytes"))
    if watched.programs:
        said = "other programs are started while scoring; what they do was not watched"
        readings = (
            Reading("accepted in #1855", Verdict.PASSED, "a system program for decompression, installed beforehand"),
            Reading("self-contained artifact", Verdict.FAILED, "the program is not in the counted bytes"),
        )
        found.append(disputed(CONTAINMENT, said, "; ".join(list(watched.programs)[:4]), ("self_contained",), readings))
    said = "while scoring, no network and no file outside the counted bytes"
    return found or [passed(CONTAINMENT, said, f"{len(watched.files)} counted files read", "self_contained")]


def listed_files(files: dict[str, int]) -> str:
    """Files with their sizes, the largest first, at most six."""
    most = sorted(files.items(), key=lambda item: -item[1])[:6]
    rest = f" and {len(files) - 6} more" if len(files) > 6 else ""
    return ", ".join(f"{Path(path).name} ({size:,} bytes)" for path, size in most) + rest

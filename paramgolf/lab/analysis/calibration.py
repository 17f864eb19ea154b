"""Hessians of a trained checkpoint, collected as the export of its run does and kept in a file for the next time."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.config import source
from paramgolf.errors import UsageError
from paramgolf.events import Events
from paramgolf.folder import RunFolder
from paramgolf.lab.analysis.subject import Subject
from paramgolf.quant.calibrate import collect_hessians, wanted_hessians
from paramgolf.quant.plan import QuantConfig
from paramgolf.stages import Session, calibration_text


def calibrated(subject: Subject, quant: QuantConfig, tokens: int | None) -> dict[str, Tensor]:
    """The Hessians that `quant` needs of `subject`, on its own calibration text or the first `tokens` of it."""
    wanted = wanted_hessians(subject.model, quant)
    if not wanted:
        return {}
    spelled = (
        f"{subject.fingerprint} {subject.dataset.fingerprint} {source(quant.calibration)} {tokens} {sorted(wanted)}"
    )
    subject.folder.mkdir(parents=True, exist_ok=True)
    file = subject.folder / f"hessians_{hashlib.sha256(spelled.encode()).hexdigest()[:12]}.safetensors"
    # Of several processes one collects, and the others find what it left.
    with FileLock(subject.folder / ".calibration.lock"):
        if not file.exists():
            write_hessians(file, collected(subject, quant, tokens))
    return load_file(file)


def collected(subject: Subject, quant: QuantConfig, tokens: int | None) -> dict[str, Tensor]:
    """The Hessians of `subject`, from its text."""
    run = replace(subject.run, quant=quant)
    place = subject.validation.place
    session = Session(run=run, folder=RunFolder(subject.folder), dataset=subject.dataset, place=place, events=Events())
    model = subject.load_trained()
    batches = quant.calibration.batches(model, calibration_text(session))
    return collect_hessians(model, batches if tokens is None else first_tokens(batches, tokens), quant)


def write_hessians(file: Path, hessians: Mapping[str, Tensor]) -> None:
    """Keep `hessians`, and nothing of what a killed process has left half written."""
    for leftover in file.parent.glob("hessians_*.partial"):
        leftover.unlink()
    partial = file.with_suffix(".partial")
    save_file(dict(hessians), partial)
    partial.replace(file)


def first_tokens(batches: Iterator[Batch], tokens: int) -> Iterator[Batch]:
    """The first `tokens` tokens of `batches`, in whole rows, or of a packed row in whole tokens."""
    if tokens < 1:
        raise UsageError(f"--calibration-tokens {tokens} leaves nothing to calibrate on")
    for batch in batches:
        rows, length = batch.ids.shape
        if batch.ids.numel() <= tokens:
            yield batch
        elif rows == 1:
            ends = None if batch.cu_seqlens is None else batch.cu_seqlens.clamp(max=tokens)
            yield Batch(batch.ids[:, :tokens], batch.targets[:, :tokens], ends, batch.max_seqlen)
        else:
            fitting = max(tokens // length, 1)
            yield Batch(batch.ids[:fitting], batch.targets[:fitting], batch.cu_seqlens, batch.max_seqlen)
        tokens -= batch.ids.numel()
        if tokens <= 0:
            return

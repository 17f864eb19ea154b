"""A trained checkpoint with everything that it takes to export and to score it again."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from paramgolf.config import overridden
from paramgolf.data.dataset import Dataset
from paramgolf.errors import GolfError, UsageError
from paramgolf.events import Events
from paramgolf.folder import RUNS, RunFolder, opened
from paramgolf.lab.launch import DATA, Asked, Launch, asked_run, folder_data, run_data, run_of
from paramgolf.model.gpt import GPT
from paramgolf.optim.groups import Optimizer
from paramgolf.parts import declared
from paramgolf.run import Run
from paramgolf.stages import fresh_model
from paramgolf.train.checkpoint import FILE_NAME, below, has_checkpoint, load_checkpoint
from paramgolf.train.distributed import Place
from paramgolf.validation import Validation

ANALYSIS = "analysis"
"""In a run's folder: what its workbench measured."""
EXPORT_FIELDS = ("quant", "artifact")
"""Fields of a run that say nothing of how its weights came about."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One trained model on the workbench."""

    run: Run
    model: GPT
    """Takes the weights of whatever is scored; what it holds between two scores means nothing."""
    weights: Mapping[str, Tensor]
    """The trained (averaged) weights by name, fp32 on the CPU."""
    dataset: Dataset
    validation: Validation
    folder: Path
    """Where measured points are kept."""
    fingerprint: str
    """12 hexadecimal digits over the weights and the text that they are scored on."""
    weights_digest: str
    """12 hexadecimal digits over the weights alone."""

    @property
    def params(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.weights.values())

    def load_trained(self) -> GPT:
        """The model with its trained weights."""
        with torch.no_grad():
            for name, parameter, _ in declared(self.model):
                parameter.copy_(self.weights[name])
        return self.model


class Source(NamedTuple):
    """Where a trained model comes from."""

    named: str
    """A run's folder, or, beside `weights`, a preset."""
    weights: Path | None = None
    """A safetensors file of weights by name."""
    settings: tuple[str, ...] = ()
    """Overrides: of a run only of its export (`quant`, `artifact`), of a preset any."""
    data: str | None = None
    """Prepared folder or corpus to score on, where it is not the run's own."""
    data_root: Path = DATA
    runs: Path = RUNS


def open_subject(asked: Source, place: Place, *, tokens: int | None = None) -> Subject:
    """The trained model that is asked for; `tokens` limits the text that it is scored on.

    Raises `UsageError` or `GolfError` when there is none.
    """
    if asked.weights is not None:
        return subject_of_weights(asked, asked.weights, place, tokens=tokens)
    return subject_of_run(asked, opened(Path(asked.named)), place, tokens=tokens)


def export_settings(run: Run, settings: tuple[str, ...]) -> Run:
    """`run` exported as `settings` say. Raises `UsageError` for a setting of anything that shaped the weights."""
    for setting in settings:
        if setting.partition(".")[0] not in EXPORT_FIELDS:
            raise UsageError(
                f"--set {setting}: the weights of a run are what they are; only its export can be set",
                evidence=f"fields of the export: {', '.join(EXPORT_FIELDS)}",
                fix="paramgolf run PRESET --set ... trains anew",
            )
    return overridden(run, settings)


def subject_of_run(asked: Source, folder: RunFolder, place: Place, *, tokens: int | None = None) -> Subject:
    """The model at the end of the training in `folder`."""
    run = export_settings(run_of(folder), asked.settings)
    dataset = folder_data(Asked(run, folder), Launch(data=asked.data, data_root=asked.data_root))
    if not has_checkpoint(folder.checkpoint):
        raise UsageError(f"{folder.path} has no checkpoint", fix=f"paramgolf train --resume {folder.path}")
    saved = load_checkpoint(folder.checkpoint)
    if "trained" not in saved.notes:
        raise UsageError(
            f"the training in {folder.path} is not finished",
            evidence=f"its checkpoint was written after step {saved.step:,}",
            fix=f"paramgolf train --resume {folder.path}",
        )
    model = fresh_model(run, place)
    optimizer = Optimizer(model, run.optim)
    load_weights(model, saved.weights, folder.checkpoint / FILE_NAME)
    optimizer.load_state_dict(saved.optimizer)
    with optimizer.averaged():
        weights = weights_on_cpu(model)
    return subject_of(run, model, weights, dataset, place, folder=folder.path / ANALYSIS, tokens=tokens)


def subject_of_weights(asked: Source, file: Path, place: Place, *, tokens: int | None = None) -> Subject:
    """The model whose weights are in the safetensors `file`, under the preset that is named."""
    run = asked_run(asked.named, asked.settings)
    dataset = run_data(run, asked.data, asked.data_root)
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise GolfError("the file of weights cannot be read", evidence=f"{file}: {error}") from error
    model = fresh_model(run, place)
    load_weights(model, below(tensors, "weights/") or tensors, file)
    folder = asked.runs / ANALYSIS / file.stem
    return subject_of(run, model, weights_on_cpu(model), dataset, place, folder=folder, tokens=tokens)


def subject_of(
    run: Run,
    model: GPT,
    weights: Mapping[str, Tensor],
    dataset: Dataset,
    place: Place,
    *,
    folder: Path,
    tokens: int | None = None,
) -> Subject:
    """The subject of these parts; `model` is told that training is over."""
    model.at(1.0)
    validation = first_targets(Validation.of(smaller_passes(run, place), dataset, place, Events()), tokens)
    digest = digest_of_weights(weights)
    return Subject(
        run=run,
        model=model,
        weights=weights,
        dataset=dataset,
        validation=validation,
        folder=folder,
        fingerprint=fingerprint_of(digest, validation),
        weights_digest=digest,
    )


def smaller_passes(run: Run, place: Place) -> Run:
    """`run`, on a CPU scored in passes of two of its rows: there attention keeps a square of a packed row's length."""
    if place.device.type != "cpu" or not run.data.loader.packed:
        return run
    most = min(run.evaluate.batch_tokens, 2 * run.train.seq_len)
    return replace(run, evaluate=replace(run.evaluate, batch_tokens=most))


@torch.no_grad()
def load_weights(model: GPT, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy `weights` into `model`. Raises `UsageError` naming the first that is missing, left over or of another
    shape."""
    own = {name: parameter for name, parameter, _ in declared(model)}
    for name in [*own, *weights]:
        here = tuple(own[name].shape) if name in own else "not there"
        given = tuple(weights[name].shape) if name in weights else "not there"
        if here != given:
            raise UsageError(
                f"the weights in {source} are not those of this model",
                evidence=f"{name}: {given} in the file, {here} in the model",
                fix="name the preset and the --set that they were trained with",
            )
    for name, parameter in own.items():
        parameter.copy_(weights[name])


def weights_on_cpu(model: GPT) -> dict[str, Tensor]:
    """A copy of every weight of `model`, fp32."""
    return {name: parameter.detach().float().cpu().clone() for name, parameter, _ in declared(model)}


def first_targets(validation: Validation, tokens: int | None) -> Validation:
    """`validation` on its first `tokens` targets only; on all of them for None."""
    if tokens is None or tokens >= len(validation.target_bytes):
        return validation
    if tokens < 1:
        raise UsageError(f"--tokens {tokens} leaves nothing to score", fix="--tokens 100000")
    return replace(validation, tokens=validation.tokens[: tokens + 1], target_bytes=validation.target_bytes[:tokens])


def digest_of_weights(weights: Mapping[str, Tensor]) -> str:
    """12 hexadecimal digits over names and values."""
    found = hashlib.sha256()
    for name, weight in weights.items():
        found.update(name.encode())
        found.update(weight.numpy().tobytes())
    return found.hexdigest()[:12]


def fingerprint_of(weights_digest: str, validation: Validation) -> str:
    """12 hexadecimal digits over the weights, the tokens scored and how they are scored."""
    found = hashlib.sha256(weights_digest.encode())
    found.update(validation.tokens.numpy().tobytes())
    found.update(
        f"{validation.run.plain_protocol} {validation.run.train.seq_len} {validation.place.device.type}".encode()
    )
    return found.hexdigest()[:12]

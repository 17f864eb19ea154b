"""Checkpoints: one safetensors file that holds all a run needs to go on exactly where it was."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from paramgolf.errors import GolfError

FILE_NAME = "state.safetensors"
LEFTOVERS = (f".{FILE_NAME}.*", ".tmp??????")
"""What a killed save leaves: our unfinished file, and that of the library, which writes to a name of its own first."""


class Checkpoint(NamedTuple):
    """Everything that determines the rest of a run."""

    step: int
    seconds: float
    """Training seconds spent."""
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    loader: dict[str, Any]
    """JSON-able position in the data."""
    notes: dict[str, Any]
    """JSON-able: digest, seed, whether training is done, medians for the report."""
    grown: tuple[int, ...] = ()
    """How far rows have grown (`train.growth.Grown`), and training tokens so far."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` into `folder`, replacing the one before only when it is complete.

    Raises `GolfError` when the disk is full; the earlier checkpoint then stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / FILE_NAME, folder / f".{FILE_NAME}.{os.getpid()}"
    tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {f"optimizer/{name}": tensor for name, tensor in checkpoint.optimizer.items()}
    tensors["random"] = torch.get_rng_state()
    small = {"step": checkpoint.step, "seconds": checkpoint.seconds, "loader": checkpoint.loader}
    text = json.dumps({**small, "notes": checkpoint.notes, "grown": checkpoint.grown})
    for leftover in (path for pattern in LEFTOVERS for path in folder.glob(pattern)):
        leftover.unlink()
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, {"run": text}
        )
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise GolfError(
            "the checkpoint could not be written; the one before it is intact",
            evidence=f"{target}: {error}",
            fix="free some space on that disk, then resume the run",
        ) from error


def has_checkpoint(folder: Path) -> bool:
    """Whether `folder` holds a complete checkpoint."""
    return (folder / FILE_NAME).exists()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint of `folder` and set torch's CPU generator to where it was.

    Raises `GolfError` when it is damaged.
    """
    path = folder / FILE_NAME
    try:
        with safe_open(path, framework="pt") as file:
            small = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        checkpoint = Checkpoint(
            step=small["step"],
            seconds=small["seconds"],
            weights=below(tensors, "weights/"),
            optimizer=below(tensors, "optimizer/"),
            loader=small["loader"],
            notes=small["notes"],
            grown=tuple(small["grown"]),
        )
        torch.set_rng_state(tensors["random"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise GolfError("the checkpoint is damaged", evidence=f"{path}: {error}", fix="start a new run") from error
    return checkpoint


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, by the rest of their name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

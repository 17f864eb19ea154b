"""A run's folder as a case: everything that training, export and scoring left, and the artifact in a fresh model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from paramgolf.artifact.code import imported_code
from paramgolf.artifact.container import expected_of, unpack
from paramgolf.bundle.size import bundle_size
from paramgolf.config import from_toml
from paramgolf.data.dataset import Dataset, open_dataset
from paramgolf.data.shards import open_shard, open_sidecar
from paramgolf.errors import UsageError
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.readout import places_told
from paramgolf.evaluate.slots import Bench
from paramgolf.events import Events, read_events
from paramgolf.folder import RunFolder
from paramgolf.model.gpt import GPT
from paramgolf.provenance import device_name
from paramgolf.quant.plan import restore
from paramgolf.run import Run
from paramgolf.stages import fresh_model
from paramgolf.train.distributed import Place
from paramgolf.validation import Validation
from paramgolf.verify.adapter import EvaluatedModel
from paramgolf.verify.byte_accounting import ByteClaim
from paramgolf.verify.containment import Sizes
from paramgolf.verify.judge import Case
from paramgolf.verify.passes import probe_stream
from paramgolf.verify.predictor import Ints
from paramgolf.verify.reproduction import Claimed, replayed_run
from paramgolf.verify.time_budget import Spent, spent_of_events


def fill_registry() -> None:
    """Import the whole catalogue of techniques, whichever a config may name."""
    from paramgolf.techniques import artifact, data, evaluate, model, optim, quant

    assert all((artifact, data, evaluate, model, optim, quant))


def run_case(
    path: Path, *, data: Dataset | None, place: Place, probe_tokens: int, replay_seconds: float, best: Sequence[float]
) -> Case:
    """The run in `path`, judged on the data that it began with, or on `data`.

    Raises `UsageError` when the run has no artifact or no result yet.
    """
    folder = RunFolder(path)
    for needed, fix in ((folder.artifact, "export"), (folder.result, "score")):
        if not needed.exists():
            raise UsageError(f"the run in {path} has no {needed.name}", fix=f"paramgolf {fix} {path}")
    fill_registry()
    run = from_toml(Run, folder.config.read_text(encoding="utf-8"))
    dataset = data or run_dataset(folder)
    result = folder.read_json(folder.result)
    tokens, per_target = validation_bytes(dataset)
    device = device_name(place.device)
    return Case(
        target=str(path),
        kind="run",
        contest=run.contest,
        predictor=artifact_predictor(run, folder, place, digest=str(result["digest"])),
        stream=probe_stream(tokens, dataset.tokenizer.vocab, probe_tokens),
        own_files=(folder.artifact,),
        tokens=tokens,
        tokenizer=dataset.tokenizer,
        bytes_claim=ByteClaim(int(result["val_bytes"]), per_target, sidecar=bool(dataset.val_bytes)),
        sizes=(run_sizes(run, folder, result),),
        spent=run_times(run, folder),
        train=dataset.train,
        val=dataset.val,
        claimed=Claimed(
            result["val_loss"],
            result["val_bpb"],
            int(result["val_tokens"]),
            int(result["val_bytes"]),
            same_device=result.get("device") == device,
        ),
        replay=lambda: replayed_run(run, folder, dataset, device=place.device.type, seconds=replay_seconds),
        replay_files=scoring_files(dataset),
        scores=(float(result["val_bpb"]),),
        best=tuple(best),
        bytes_per_token=result["val_bytes"] / max(result["val_tokens"], 1),
        facts=(
            ("preset", f"{result['preset']} {result['digest']}, seed {result['seed']}"),
            ("stated score", f"{result['val_bpb']:.6f} bits per byte over {result['val_bytes']:,} bytes"),
            ("data", f"{dataset.name}, tokenizer {dataset.tokenizer.name}, {len(tokens):,} validation tokens"),
            ("protocol", type(run.evaluate.protocol).__name__),
            ("device", device),
        ),
    )


def run_dataset(folder: RunFolder) -> Dataset:
    """The dataset that the run began with."""
    kept = folder.read_json(folder.data)
    return open_dataset(Path(kept["path"]), tokenizer=kept["tokenizer"])


def run_times(run: Run, folder: RunFolder) -> tuple[Spent, ...]:
    """The seconds of a run. Calibration on what the model wrote itself may be done at any time (#1019)."""
    if not folder.events.exists():
        return ()
    spent = spent_of_events(read_events(folder.events))
    return (spent if run.quant.calibration.reads_training_text else spent._replace(calibration=0.0),)


def scoring_files(dataset: Dataset) -> tuple[Path, ...]:
    """The files of `dataset` that taking a score reads."""
    model = getattr(dataset.tokenizer, "path", None)
    return (*dataset.val, *dataset.val_bytes, *([Path(model)] if model else []))


def run_sizes(run: Run, folder: RunFolder, result: dict[str, object]) -> Sizes:
    """The bytes of a run: the artifact's file, and the code as this version of the package counts it.

    That is the upper bound of what the run imports, or the bundle where the bound would not fit and less was stated. A
    total is compared with the code that was stated beside it.
    """
    artifact, stated = folder.artifact.stat().st_size, int(str(result["code_bytes"]))
    code = imported_code(run)
    if stated < code and artifact + code > run.contest.artifact_bytes:
        code = bundle_size(run)
    total = int(str(result["total_bytes"]))
    return Sizes(artifact, code, claimed=total if code == stated else total - stated + code)


def validation_bytes(dataset: Dataset) -> tuple[Ints, Ints]:
    """The whole validation stream and the bytes that scoring counts for each target."""
    tokens = np.concatenate([open_shard(path).map() for path in dataset.val]).astype(np.int64)
    if dataset.val_bytes:
        counts = np.concatenate([open_sidecar(path).map() for path in dataset.val_bytes]).astype(np.int64)[1:]
    else:
        counts = dataset.tokenizer.byte_table().count(tokens[:-1], tokens[1:]).astype(np.int64)
    return tokens, counts


def artifact_predictor(run: Run, folder: RunFolder, place: Place, *, digest: str) -> EvaluatedModel:
    """The run's evaluation protocol on weights decoded from its artifact.

    `digest` is the one that the run states: that of the same config in a later version, with more settings, is another.
    """
    model = fresh_model(run, place)
    restore(model, unpack(folder.artifact.read_bytes(), expected_of(model), digest=digest))
    model.at(1.0)
    return evaluated_model(run, model, place)


def evaluated_model(run: Run, model: GPT, place: Place) -> EvaluatedModel:
    """`model` under the evaluation protocol of `run`, as the stage that scores runs it, uncompiled."""
    plain = run.evaluate.protocol
    isolated = isinstance(plain, Documents) and not run.evaluate.on_logits

    def bench(tokens: Tensor) -> Bench:
        """What `Validation.score` makes, without compiling: the judge runs many streams of many lengths."""
        none = torch.zeros(0, dtype=torch.int32)
        split = Validation(run=run, place=place, events=Events(), tokens=tokens, target_bytes=none)
        reworks = tuple(filler.prepare(tokens, place.device) for filler in run.evaluate.on_logits)
        return Bench(
            forward=model,
            tokens=tokens,
            context=run.train.seq_len,
            device=place.device,
            # Rows are padded to this: a probe of some thousand tokens must not cost a pass over 65,536.
            batch_tokens=min(split.batch_tokens, max(run.train.seq_len, len(tokens))),
            model=model,
            longest_row=run.model.context,
            at=places_told(model, reworks) if reworks else None,
            on_logits=reworks,
        )

    return EvaluatedModel(model, plain, bench, isolated=isolated)

"""The stages of a run: train, export, score. Each leaves its outcome in the run's folder and can be taken up again."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paramgolf.artifact.code import imported_code
from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.artifact.ledger import artifact_ledger, check_budget
from paramgolf.batch import Batch
from paramgolf.data.dataset import Dataset
from paramgolf.data.slots import Loader
from paramgolf.errors import UsageError
from paramgolf.evaluate.evaluation import Evaluation, require_time
from paramgolf.evaluate.tally import Tally
from paramgolf.events import Events
from paramgolf.folder import RunFolder
from paramgolf.model.attention import choose
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.optim.groups import Optimizer
from paramgolf.provenance import device_name, git_commit, peak_memory_mib
from paramgolf.quant.budget import quantize_to_budget
from paramgolf.quant.calibrate import collect_hessians, wanted_hessians
from paramgolf.quant.plan import quantize, restore
from paramgolf.result import Result, WithinBudget
from paramgolf.run import Run, form
from paramgolf.stored import Stored
from paramgolf.train.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from paramgolf.train.clock import Clock
from paramgolf.train.distributed import Place
from paramgolf.train.loop import Hooks, Outcome, Trainer, require_known_ids, train
from paramgolf.train.precision import set_arithmetic
from paramgolf.train.signals import stop_requested
from paramgolf.validation import Validation


@dataclass(frozen=True, kw_only=True)
class Session:
    """A run with the place, data and folder it runs in."""

    run: Run
    folder: RunFolder
    dataset: Dataset
    place: Place
    events: Events
    code_size: Callable[[Run], int] | None = None
    """Counts the bytes of code that a submission of the run has; None: the upper bound of what it imports."""

    def __post_init__(self) -> None:
        tokenizer = self.dataset.tokenizer
        if tokenizer.vocab != self.run.model.vocab:
            raise UsageError(
                f"the model has a vocabulary of {self.run.model.vocab}, the data one of {tokenizer.vocab}",
                evidence=f"{self.dataset.name} was made with {tokenizer.name}",
                fix=f"--set model.vocab={tokenizer.vocab}, or data of another variant",
            )


class Trained(NamedTuple):
    """A model at the end of training."""

    model: GPT
    optimizer: Optimizer
    outcome: Outcome


class Exported(NamedTuple):
    """What export leaves in `export.json`."""

    params: int
    steps: int
    train_seconds: float
    step_ms_median: float
    peak_memory_mib: int
    val_bpb_raw: float
    export_seconds: float
    artifact_bytes: int
    code_bytes: int
    warmup_seconds: float = 0.0


def execute(session: Session) -> Result:
    """Train, export and score, taking up whatever the folder already holds."""
    validation = Validation.of(session.run, session.dataset, session.place, session.events)
    trained = train_stage(session, validation)
    export_stage(session, trained, validation)
    return score_stage(session, validation)


def fresh_model(run: Run, place: Place) -> GPT:
    """A model with the initial weights of the run's seed, the same on every device."""
    torch.manual_seed(run.seed)
    model = GPT(run.model)
    model.reset()
    model.to(place.device)
    set_arithmetic(model, place.device)
    return model


def training_loader(session: Session) -> Loader:
    """The training text of this rank, from its beginning."""
    run, place = session.run, session.place
    return run.data.loader.build(
        session.dataset.train,
        tokens=run.train.batch_tokens // run.train.accumulation(place.world),
        seq_len=run.train.seq_len,
        rank=place.rank,
        world=place.world,
        seed=run.seed,
    )


def train_stage(session: Session, validation: Validation) -> Trained:
    """Train, or go on from the folder's checkpoint; a finished training is only loaded."""
    run, place, folder = session.run, session.place, session.folder
    model = fresh_model(run, place)
    on_gpu = place.device.type == "cuda"
    optimizer = Optimizer(model, run.optim, compiled=on_gpu and run.train.compile, ranks=place)
    loader = training_loader(session)
    clock = Clock(run.train, run.contest.train_seconds)
    trainer = Trainer(run.train, model, optimizer, loader, clock, place)
    begin(session, model, trainer.accumulation, validation)
    saved = load_checkpoint(folder.checkpoint) if has_checkpoint(folder.checkpoint) else None
    if saved and "trained" in saved.notes:
        trainer.resume(saved)
        model.at(1.0)
        return Trained(model, optimizer, Outcome(**saved.notes["trained"]))
    if on_gpu:
        trainer.warm_up(session.events)
    if saved:
        trainer.resume(saved)
        session.events.emit("resumed", step=saved.step, train_seconds=saved.seconds)

    def validate(step: int) -> None:
        scored = validation.score(model, run.plain_protocol).tally
        tell_validation(session, scored, step, clock.elapsed)

    save = (lambda state: save_checkpoint(folder.checkpoint, state)) if place.first else (lambda state: None)
    with stop_requested() as stop:
        outcome = train(trainer, session.events, Hooks(save, validate), stop, {"digest": run.digest, "seed": run.seed})
    peak, reserved = peak_memory_mib(place.device)
    session.events.emit(
        "trained",
        step=outcome.steps,
        steps=run.train.steps,
        train_seconds=outcome.seconds,
        step_ms=outcome.step_ms,
        by_clock=run.train.by == "clock" and outcome.steps < run.train.steps,
        warmup_seconds=outcome.warmup_seconds,
        peak_mib=peak,
        reserved_mib=reserved,
    )
    model.at(1.0)
    return Trained(model, optimizer, outcome)


def tell_validation(session: Session, tally: Tally, step: int, train_seconds: float) -> None:
    """Tell a score of the weights as they are after `step` steps."""
    session.events.emit(
        "validation",
        step=step,
        steps=session.run.train.steps,
        train_seconds=train_seconds,
        val_loss=tally.nats_per_token,
        val_bpb=tally.bits_per_byte,
    )


def begin(session: Session, model: GPT, accumulation: int, validation: Validation) -> None:
    """Tell what is about to run."""
    run, place, data = session.run, session.place, session.dataset
    session.events.emit(
        "started",
        preset=run.name,
        digest=run.digest,
        seed=run.seed,
        params=parameter_count(model),
        tokenizer=data.tokenizer.name,
        tokenizer_kind=data.tokenizer.kind,
        dataset=data.name,
        train_shards=len(data.train),
        val_pattern=str(data.val[0].parent / "*_val_*.bin"),
        val_tokens=len(validation.tokens) - 1,
        world=place.world,
        accumulation=accumulation,
        backend=attention_backend(run, place),
        device=device_name(place.device),
        torch=torch.__version__,
        heads=run.model.heads,
        kv_heads=run.model.kv_heads,
        tied=model.embedding.head_weight().shape[0] == run.model.vocab,
        rates={
            "token": run.optim.token.lr,
            "head": run.optim.head.lr,
            "matrix": run.optim.matrix.lr,
            "scalar": run.optim.scalar.lr,
        },
        batch_tokens=run.train.batch_tokens,
        seq_len=run.train.seq_len,
        steps=run.train.steps,
        by=run.train.by,
        warmup=run.train.warmup,
        train_seconds=run.contest.train_seconds,
    )


def attention_backend(run: Run, place: Place) -> str:
    """The attention backend that training uses."""
    packed, windowed = run.data.loader.packed, any(run.model.windows)
    return choose(run.model.backend, place.device.type, packed=packed, windowed=windowed)


class Calibrated(NamedTuple):
    """What the model's inputs look like, as far as its quantizers ask."""

    hessians: dict[str, Tensor]
    training_seconds: float
    """That it took, where they count as training (rules R4)."""


def calibrate(session: Session, model: GPT) -> Calibrated:
    """The Hessians that the run's quantizers need, summed over ranks."""
    run, place, began = session.run, session.place, time.perf_counter()
    if not wanted_hessians(model, run.quant):
        return Calibrated({}, 0.0)
    found = collect_hessians(model, run.quant.calibration.batches(model, calibration_text(session)), run.quant)
    hessians = {name: place.sum_on_host(hessian) for name, hessian in found.items()}
    seconds = time.perf_counter() - began
    session.events.emit("calibrated", hessians=len(hessians), seconds=seconds)
    return Calibrated(hessians, seconds if run.quant.calibration.reads_training_text else 0.0)


def calibration_text(session: Session) -> Iterator[Batch]:
    """Batches of the run's training text on its device, from the beginning and without end.

    Packed documents are cut into windows that see across documents, as the records read them for calibration: the
    forward pass is not compiled here, without which one long row of documents needs a square of its length.
    """
    loader, length = training_loader(session), session.run.train.seq_len
    while True:
        batch = loader.next()
        require_known_ids(batch, session.run.model.vocab)
        if batch.cu_seqlens is not None:
            whole = batch.ids.numel() // length * length
            batch = Batch(batch.ids[0, :whole].view(-1, length), batch.targets[0, :whole].view(-1, length))
        yield batch.to(session.place.device)


def export_stage(
    session: Session, trained: Trained, validation: Validation, *, budget_bytes: int | None = None
) -> Exported:
    """Score the (averaged) weights, quantize them and write the artifact.

    `budget_bytes` is what the artifact is to come to, from below; with None the run's quantizers have the say, and
    techniques that decide over the whole model keep to what the contest leaves beside the code.
    """
    run, folder, place = session.run, session.folder, session.place
    model, outcome = trained.model, trained.outcome
    with trained.optimizer.averaged():
        raw = validation.score(model, run.plain_protocol).tally
        tell_validation(session, raw, outcome.steps, outcome.seconds)
        hessians, calibration_seconds = calibrate(session, model)
        if place.first:
            fill = run.quant.fill or budget_bytes is not None
            code = code_that_counts(session, exactly=fill or place.device.type == "cuda")
            began = time.perf_counter()
            budget = run.contest.artifact_bytes - code if budget_bytes is None else budget_bytes
            artifact = encoded(run, model, hessians, budget, fill=fill)
            spent = time.perf_counter() - began
            code = code_that_counts(session, exactly=len(artifact) + code > run.contest.artifact_bytes, known=code)
            exported = Exported(
                params=parameter_count(model),
                steps=outcome.steps,
                train_seconds=outcome.seconds + calibration_seconds,
                step_ms_median=outcome.step_ms,
                peak_memory_mib=peak_memory_mib(place.device)[0],
                val_bpb_raw=raw.bits_per_byte,
                export_seconds=spent,
                artifact_bytes=len(artifact),
                code_bytes=code,
                warmup_seconds=outcome.warmup_seconds,
            )
            folder.write_bytes(folder.artifact, artifact)
            folder.write_json(folder.export, exported._asdict())
            tell_export(session, exported)
    place.barrier()
    return Exported(**folder.read_json(folder.export))


def code_that_counts(session: Session, *, exactly: bool, known: int = 0) -> int:
    """The bytes of code of a run's submission: those of its script where it matters, else an upper bound (`known`)."""
    if exactly and session.code_size is not None:
        session.events.emit("counting")
        return session.code_size(session.run)
    return known or imported_code(session.run)


def encoded(run: Run, model: GPT, hessians: Mapping[str, Tensor] | None, budget_bytes: int, *, fill: bool) -> bytes:
    """The artifact of `model` under the run's quantizers and coder; to `fill` the budget, steps are scaled."""
    expected = expected_of(model)

    def packed(stored: Mapping[str, Stored]) -> bytes:
        return pack(stored, expected, coder=run.artifact.coder, digest=run.digest)

    size, config = (lambda stored: len(packed(stored))), run.quant
    if fill:
        return packed(quantize_to_budget(model, config, hessians, budget_bytes=budget_bytes, size=size))
    return packed(quantize(model, config, hessians, budget_bytes=budget_bytes, size=size))


def tell_export(session: Session, exported: Exported) -> None:
    """Tell what has been written."""
    session.events.emit(
        "exported",
        format=form(session.run),
        export_seconds=exported.export_seconds,
        artifact_bytes=exported.artifact_bytes,
        code_bytes=exported.code_bytes,
        raw_bytes=4 * exported.params,
    )


def score_stage(session: Session, validation: Validation) -> Result:
    """Decode the artifact into a fresh model, score it and write the result.

    The clock runs from opening the artifact to the final score; the plain score of the round trip comes after it.
    Raises `OverBytes` after writing when code and artifact exceed the contest's budget, then `OverTime` when a strict
    evaluation took longer than its own.
    """
    run, folder, place = session.run, session.folder, session.place
    exported = Exported(**folder.read_json(folder.export))
    began = time.perf_counter()
    artifact = folder.artifact.read_bytes()
    model = fresh_model(run, place)
    restore(model, unpack(artifact, expected_of(model), digest=run.digest))
    model.at(1.0)
    strict = run.evaluate.strict
    deadline = began + run.contest.eval_seconds if strict else math.inf
    final = validation.final(model, lambda: deadline - time.perf_counter())
    seconds = time.perf_counter() - began
    plain = final if run.scores_plainly else validation.score(model, run.plain_protocol)
    tell_score(session, "roundtrip", plain)
    if not run.scores_plainly:
        tell_score(session, type(run.evaluate.protocol).__name__.lower(), final)
    total, contest = len(artifact) + exported.code_bytes, run.contest
    result = Result(
        preset=run.name,
        digest=run.digest,
        seed=run.seed,
        params=exported.params,
        steps=exported.steps,
        train_seconds=exported.train_seconds,
        warmup_seconds=exported.warmup_seconds,
        eval_seconds=seconds,
        export_seconds=exported.export_seconds,
        step_ms_median=exported.step_ms_median,
        peak_memory_mib=exported.peak_memory_mib,
        val_bpb_raw=exported.val_bpb_raw,
        val_bpb_export=plain.tally.bits_per_byte,
        val_bpb=final.tally.bits_per_byte,
        val_loss=final.tally.nats_per_token,
        val_tokens=final.tally.tokens,
        val_bytes=final.tally.bytes,
        artifact_bytes=len(artifact),
        code_bytes=exported.code_bytes,
        total_bytes=total,
        contest=contest.name,
        byte_budget=contest.artifact_bytes,
        within_budget=WithinBudget(
            bytes=total <= contest.artifact_bytes,
            train=exported.train_seconds <= contest.train_seconds,
            eval=seconds <= contest.eval_seconds,
        ),
        tokenizer=session.dataset.tokenizer.name,
        dataset=session.dataset.name,
        data_fingerprint=session.dataset.fingerprint,
        device=device_name(place.device),
        world=place.world,
        attention_backend=attention_backend(run, place),
        torch=torch.__version__,
        git_commit=git_commit(),
    )
    if place.first:
        folder.write_json(folder.result, result.as_json())
    session.events.emit("finished", **result.as_json())
    check_budget(total, exported.code_bytes, contest.artifact_bytes, artifact_ledger(artifact))
    if strict:
        require_time(seconds, contest.eval_seconds)
    return result


def tell_score(session: Session, what: str, scored: Evaluation) -> None:
    """Tell a score taken from the artifact."""
    loss, bpb, kind = scored.tally.nats_per_token, scored.tally.bits_per_byte, form(session.run)
    session.events.emit("scored", what=what, format=kind, val_loss=loss, val_bpb=bpb, eval_seconds=scored.seconds)

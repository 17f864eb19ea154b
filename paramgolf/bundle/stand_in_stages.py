"""The stages of a run in one go, for a script: nothing is taken up again, so nothing is read back but the artifact."""

import json
import math
import sys
import time
from pathlib import Path

from paramgolf.artifact.container import expected_of, unpack
from paramgolf.artifact.ledger import artifact_ledger, check_budget
from paramgolf.evaluate.evaluation import require_time
from paramgolf.model.gpt import parameter_count
from paramgolf.quant.calibrate import wanted_hessians
from paramgolf.quant.plan import restore
from paramgolf.run import form
from paramgolf.stages import Session, calibrate, encoded, fresh_model, tell_score, tell_validation, train_stage
from paramgolf.validation import Validation


def done_at_once(session: Session) -> None:
    """In place of `execute`: train, export and score; see `paramgolf.stages` for what each stage does."""
    run, folder, place = session.run, session.folder, session.place
    validation = Validation.of(run, session.dataset, place, session.events)
    trained = train_stage(session, validation)
    model, outcome = trained.model, trained.outcome
    code = Path(sys.argv[0]).stat().st_size
    with trained.optimizer.averaged():
        raw = validation.score(model, run.plain_protocol).tally
        tell_validation(session, raw, outcome.steps, outcome.seconds)
        hessians, calibration_seconds = calibrate(session, model) if wanted_hessians(model, run.quant) else (None, 0.0)
        if place.first:
            budget = run.contest.artifact_bytes - code
            folder.artifact.write_bytes(encoded(run, model, hessians, budget, fill=run.quant.fill))
    place.barrier()
    began = time.perf_counter()
    artifact = folder.artifact.read_bytes()
    session.events.emit(
        "exported",
        format=form(run),
        artifact_bytes=len(artifact),
        code_bytes=code,
        raw_bytes=4 * parameter_count(model),
    )
    read = fresh_model(run, place)
    restore(read, unpack(artifact, expected_of(read), digest=run.digest))
    read.at(1.0)
    strict = run.evaluate.strict
    deadline = began + run.contest.eval_seconds if strict else math.inf
    final = validation.final(read, lambda: deadline - time.perf_counter())
    seconds = time.perf_counter() - began
    plain = final if run.scores_plainly else validation.score(read, run.plain_protocol)
    tell_score(session, "roundtrip", plain)
    if not run.scores_plainly:
        tell_score(session, type(run.evaluate.protocol).__name__.lower(), final)
    total = len(artifact) + code
    result = {
        "preset": run.name,
        "seed": run.seed,
        "params": parameter_count(model),
        "steps": outcome.steps,
        "train_seconds": outcome.seconds + calibration_seconds,
        "eval_seconds": seconds,
        "val_bpb_raw": raw.bits_per_byte,
        "val_bpb_export": plain.tally.bits_per_byte,
        "val_bpb": final.tally.bits_per_byte,
        "val_loss": final.tally.nats_per_token,
        "artifact_bytes": len(artifact),
        "code_bytes": code,
        "total_bytes": total,
    }
    if place.first:
        folder.result.write_text(json.dumps(result))
    check_budget(total, code, run.contest.artifact_bytes, artifact_ledger(artifact))
    if strict:
        require_time(seconds, run.contest.eval_seconds)

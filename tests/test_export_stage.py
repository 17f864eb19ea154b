"""Export with calibration: what is collected when, what counts as training, and what a budget does."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_run, tiny_session

from paramgolf.artifact.code import imported_code
from paramgolf.artifact.container import expected_of, unpack
from paramgolf.contest import Contest
from paramgolf.data.dataset import Dataset
from paramgolf.events import read_events
from paramgolf.quant.plan import QuantConfig
from paramgolf.quant.training_batches import TrainingBatches
from paramgolf.result import Result
from paramgolf.run import Run
from paramgolf.stages import (
    Session,
    calibration_text,
    execute,
    export_stage,
    fresh_model,
    train_stage,
    training_loader,
)
from paramgolf.stored import Grid
from paramgolf.techniques.data import Packed
from paramgolf.techniques.quant import (
    GPTQ,
    LQER,
    AWQLite,
    RowGridCodes,
    SDClip,
    SelectivePruning,
    SelfGenerated,
    SmallInt8,
)
from paramgolf.validation import Validation

COARSE = SDClip(sigmas=4.0)
FEEDBACK = QuantConfig(
    attention=GPTQ(bits=3, clip=COARSE),
    mlp=GPTQ(bits=3, clip=COARSE),
    embed=GPTQ(bits=4, clip=COARSE),
    gate=SmallInt8(),
    calibration=TrainingBatches(batches_read=8),
)
NEAREST = replace(
    FEEDBACK,
    attention=RowGridCodes(bits=3, clip=COARSE),
    mlp=RowGridCodes(bits=3, clip=COARSE),
    embed=RowGridCodes(bits=4, clip=COARSE),
)


def run_with(quant: QuantConfig, **changes: Any) -> Run:
    return replace(tiny_run(steps=40), quant=quant, **changes)


def events_of(session: Session) -> dict[str, Mapping[str, Any]]:
    return {event["event"]: event for event in read_events(session.folder.events)}


def executed(quant: QuantConfig, data: Dataset, path: Path) -> tuple[Session, Result]:
    session = tiny_session(run_with(quant), data, path)
    return session, execute(session)


@pytest.fixture(scope="module")
def fed(tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Result]:
    return executed(FEEDBACK, tiny_data, tmp_path_factory.mktemp("fed"))


def test_error_feedback_loses_less_than_rounding(fed: tuple[Session, Result], tiny_data: Dataset, run_path: Path):
    _, nearest = executed(NEAREST, tiny_data, run_path)
    assert fed[1].val_bpb_raw == nearest.val_bpb_raw
    lost = [result.val_bpb_export - result.val_bpb_raw for result in (fed[1], nearest)]
    assert 0 < lost[0] < 0.8 * lost[1]


def test_calibration_is_told_and_counts_as_training(fed: tuple[Session, Result]):
    session, result = fed
    told = events_of(session)
    assert told["calibrated"]["hessians"] == 2 * 6 + 1
    seconds = told["trained"]["train_seconds"] + told["calibrated"]["seconds"]
    assert result.train_seconds == pytest.approx(seconds)
    assert told["exported"]["format"] == "gptq+zlib"


def test_export_again_gives_the_same_bytes(fed: tuple[Session, Result], tiny_data: Dataset, run_path: Path):
    before = fed[0].folder.artifact.read_bytes()
    again = tiny_session(fed[0].run, tiny_data, run_path)
    validation = Validation.of(again.run, again.dataset, again.place, again.events)
    export_stage(again, train_stage(again, validation), validation)
    assert again.folder.artifact.read_bytes() == before


def test_text_of_the_models_own_is_not_training(tiny_data: Dataset, run_path: Path):
    own = replace(FEEDBACK, calibration=SelfGenerated(sequences=4, length=16, together=4))
    session, result = executed(own, tiny_data, run_path)
    told = events_of(session)
    assert told["calibrated"]["seconds"] > 0
    assert result.train_seconds == pytest.approx(told["trained"]["train_seconds"])


def test_packed_documents_are_calibrated_on_in_windows(tiny_data: Dataset, run_path: Path):
    """One long row of documents would need an attention matrix of its square, where nothing is compiled."""
    run = run_with(FEEDBACK)
    run = replace(run, data=replace(run.data, loader=Packed()), model=replace(run.model, context=256))
    session = tiny_session(run, tiny_data, run_path)
    packed, cut = training_loader(session).next(), next(calibration_text(session))
    assert packed.cu_seqlens is not None
    assert cut.cu_seqlens is None
    assert cut.ids.shape == cut.targets.shape == (8, 32)
    assert torch.equal(cut.ids.flatten(), packed.ids.flatten().long())
    assert torch.equal(cut.targets.flatten(), packed.targets.flatten().long())
    assert execute(session).val_bpb_export > 0


def test_without_need_nothing_is_collected(tiny_data: Dataset, run_path: Path):
    session, _ = executed(NEAREST, tiny_data, run_path)
    assert "calibrated" not in events_of(session)


def test_refinements_go_through_the_artifact(tiny_data: Dataset, run_path: Path):
    refined = replace(FEEDBACK, refine=(AWQLite(width=4), LQER(rank=2, top=1, left_bits=4, group=2)))
    session, result = executed(refined, tiny_data, run_path)
    model = fresh_model(session.run, session.place)
    stored = unpack(session.folder.artifact.read_bytes(), expected_of(model), digest=session.run.digest)
    kinds = {type(term).__name__ for weight in stored.values() for term in weight.terms}
    assert kinds >= {"Grid", "ColumnSpan", "LowRank", "Plain"}
    assert result.val_bpb_export > result.val_bpb_raw - 0.05


def test_a_budget_reaches_the_techniques_that_keep_to_it(
    fed: tuple[Session, Result], tiny_data: Dataset, run_path: Path
):
    run = run_with(replace(FEEDBACK, refine=(SelectivePruning(within=40),)))
    # The pruning is code too, which the contest counts.
    code = imported_code(run)
    tight = replace(run, contest=Contest(name="tight", artifact_bytes=code + fed[1].artifact_bytes - 150))
    result = execute(tiny_session(tight, tiny_data, run_path))
    assert result.within_budget.bytes
    assert result.total_bytes >= tight.contest.artifact_bytes - 150


def test_a_smaller_budget_may_be_asked_for(fed: tuple[Session, Result], tiny_data: Dataset, run_path: Path):
    run = run_with(replace(FEEDBACK, refine=(SelectivePruning(within=40),)))
    session = tiny_session(run, tiny_data, run_path)
    validation = Validation.of(run, tiny_data, session.place, session.events)
    trained = train_stage(session, validation)
    asked = fed[1].artifact_bytes - 120
    assert asked - 120 <= export_stage(session, trained, validation, budget_bytes=asked).artifact_bytes <= asked
    model = fresh_model(run, session.place)
    stored = unpack(session.folder.artifact.read_bytes(), expected_of(model), digest=run.digest)
    assert any(isinstance(term, Grid) for weight in stored.values() for term in weight.terms)


def test_hessians_are_summed_over_ranks_and_the_first_exports(tmp_path: Path):
    driver = Path(__file__).parent / "export_ranks_driver.py"
    done = subprocess.run([sys.executable, driver, tmp_path], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["codes"] == [0, 0]
    first, second = told["ranks"]
    assert first == second, "the ranks tell different outcomes"
    assert first["hessians"].keys() == told["alone"]["hessians"].keys()
    for name, numbers in told["alone"]["hessians"].items():
        assert first["hessians"][name] == pytest.approx(numbers, rel=1e-4, abs=1e-3 * numbers[0])
    assert first["export"] == pytest.approx(told["alone"]["export"], rel=1e-3)

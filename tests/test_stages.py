"""From tokens to a result: what the stages leave in a run's folder, and what they refuse."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import CPU, tiny_run, tiny_session

from paramgolf.artifact.container import expected_of, unpack
from paramgolf.contest import Contest
from paramgolf.data.dataset import Dataset
from paramgolf.data.shards import open_shard
from paramgolf.errors import ArtifactError, OverBytes, UsageError
from paramgolf.evaluate.evaluation import Contiguous
from paramgolf.events import read_events
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.quant.plan import restore
from paramgolf.result import Result
from paramgolf.stages import Exported, Session, execute, export_stage, fresh_model, score_stage, train_stage
from paramgolf.techniques.model import MultiTokenHeads
from paramgolf.validation import Validation


def validation_of(session: Session) -> Validation:
    return Validation.of(session.run, session.dataset, session.place, session.events)


@pytest.fixture(scope="module")
def done(tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Result]:
    session = tiny_session(tiny_run(steps=30), tiny_data, tmp_path_factory.mktemp("done"))
    return session, execute(session)


def test_the_result_holds_what_is_promised(done: tuple[Session, Result]):
    session, result = done
    told = json.loads(session.folder.result.read_text())
    assert told == json.loads(json.dumps(result.as_json()))
    promised = """preset digest seed params steps train_seconds eval_seconds export_seconds step_ms_median val_bpb_raw
        val_bpb_export val_bpb val_loss val_tokens val_bytes artifact_bytes code_bytes total_bytes contest
        within_budget tokenizer data_fingerprint device torch git_commit"""
    assert set(promised.split()) <= told.keys()
    assert told["within_budget"] == {"bytes": True, "train": True, "eval": True}
    assert (told["preset"], told["digest"], told["seed"], told["steps"]) == ("tiny", session.run.digest, 1337, 30)
    assert told["total_bytes"] == told["artifact_bytes"] + told["code_bytes"]
    assert told["artifact_bytes"] == session.folder.artifact.stat().st_size
    assert told["data_fingerprint"] == session.dataset.fingerprint
    assert told["attention_backend"] == "sdpa"


def test_it_learned(done: tuple[Session, Result]):
    assert done[1].val_bpb < 4.0, "8 bits are nothing learned"
    assert done[1].val_bpb_export == pytest.approx(done[1].val_bpb_raw, rel=0.02)


def test_scores_come_from_the_artifact_in_a_fresh_model(done: tuple[Session, Result]):
    session, result = done
    model = fresh_model(session.run, CPU)
    restore(model, unpack(session.folder.artifact.read_bytes(), expected_of(model), digest=session.run.digest))
    model.at(1.0)
    validation = validation_of(session)
    assert validation.score(model, Contiguous()).tally.bits_per_byte == result.val_bpb_export
    final = validation.score(model, session.run.evaluate.protocol).tally
    assert (final.bits_per_byte, final.nats_per_token) == (result.val_bpb, result.val_loss)
    assert (final.tokens, final.bytes) == (result.val_tokens, result.val_bytes)
    assert result.val_bpb_export != result.val_bpb_raw, "int8 is not lossless"


def test_the_bytes_scored_are_those_of_the_text(done: tuple[Session, Result]):
    session, result = done
    tokens = torch.cat([torch.from_numpy(open_shard(path).map().astype("int64")) for path in session.dataset.val])
    assert result.val_tokens == len(tokens) - 1
    text = session.dataset.tokenizer.decode(tokens[tokens > 3].numpy())
    assert result.val_bytes == len(text.encode())


def test_events_tell_the_story_in_order(done: tuple[Session, Result]):
    kinds = [event["event"] for event in read_events(done[0].folder.events)]
    assert list(dict.fromkeys(kinds)) == [
        *("started", "step", "trained", "validation", "exported", "scored", "finished"),
    ]
    assert kinds.count("scored") == 2


def test_score_alone_repeats_the_score(done: tuple[Session, Result]):
    session, result = done
    again = score_stage(session, validation_of(session))
    assert (again.val_bpb, again.val_bpb_export) == (result.val_bpb, result.val_bpb_export)


def test_a_contiguous_protocol_is_scored_once(tiny_data: Dataset, run_path: Path):
    run = tiny_run(steps=2)
    run = replace(run, evaluate=replace(run.evaluate, protocol=Contiguous()))
    session = tiny_session(run, tiny_data, run_path)
    result = execute(session)
    assert result.val_bpb == result.val_bpb_export
    scored = [event for event in read_events(session.folder.events) if event["event"] == "scored"]
    assert [event["what"] for event in scored] == ["roundtrip"]


def test_what_serves_training_alone_is_not_in_the_artifact(tiny_data: Dataset, run_path: Path):
    run = tiny_run(steps=4)
    with_heads = replace(run, model=replace(run.model, objective=MultiTokenHeads(heads=2)))
    session = tiny_session(with_heads, tiny_data, run_path)
    result = execute(session)
    assert result.params == parameter_count(GPT(run.model)) + 2 * run.model.vocab * run.model.dim
    stored = unpack(session.folder.artifact.read_bytes(), expected_of(GPT(run.model)), digest=with_heads.digest)
    assert sum(math.prod(weight.shape) for weight in stored.values()) == parameter_count(GPT(run.model))
    assert result.val_bpb_export == pytest.approx(result.val_bpb_raw, rel=0.02)


def test_over_the_byte_budget_everything_is_kept_and_told(tiny_data: Dataset, run_path: Path):
    run = replace(tiny_run(steps=2), contest=Contest(name="small", artifact_bytes=20_000))
    session = tiny_session(run, tiny_data, run_path)
    with pytest.raises(OverBytes) as caught:
        execute(session)
    assert caught.value.exit_code == 3
    told = json.loads(session.folder.result.read_text())
    assert told["within_budget"]["bytes"] is False
    assert f"{told['total_bytes'] - 20_000:,}" in str(caught.value)
    assert session.folder.artifact.exists()


def test_a_missed_time_budget_is_in_the_result(tiny_data: Dataset, run_path: Path):
    run = replace(tiny_run(steps=2), contest=Contest(name="hasty", train_seconds=1e-6, eval_seconds=1e-6))
    result = execute(tiny_session(run, tiny_data, run_path))
    assert (result.within_budget.train, result.within_budget.eval) == (False, False)


def test_a_tokenizer_of_another_size_is_refused(tiny_data: Dataset, run_path: Path):
    run = tiny_run()
    with pytest.raises(UsageError, match="a vocabulary of 512, the data one of 260") as caught:
        tiny_session(replace(run, model=replace(run.model, vocab=512)), tiny_data, run_path)
    assert "model.vocab=260" in caught.value.fix


@pytest.mark.parametrize("damage", ["truncated", "longer", "empty", "backwards"])
def test_a_damaged_artifact_is_not_scored(done: tuple[Session, Result], run_path: Path, damage: str):
    session, _ = done
    good = session.folder.artifact.read_bytes()
    bad = {"truncated": good[:-1], "longer": good + b"\0", "empty": b"", "backwards": good[::-1]}[damage]
    other = tiny_session(session.run, session.dataset, run_path)
    other.folder.write_bytes(other.folder.artifact, bad)
    other.folder.write_text(other.folder.export, session.folder.export.read_text())
    with pytest.raises(ArtifactError):
        score_stage(other, validation_of(other))
    assert not other.folder.result.exists()


def test_an_artifact_of_another_config_is_not_scored(done: tuple[Session, Result], run_path: Path):
    session, _ = done
    other = tiny_session(tiny_run(steps=31), session.dataset, run_path)
    other.folder.write_bytes(other.folder.artifact, session.folder.artifact.read_bytes())
    other.folder.write_text(other.folder.export, session.folder.export.read_text())
    with pytest.raises(ArtifactError, match="config"):
        score_stage(other, validation_of(other))


def test_score_without_an_export_says_what_to_do(tiny_data: Dataset, run_path: Path):
    session = tiny_session(tiny_run(), tiny_data, run_path)
    with pytest.raises(UsageError, match=r"has no export\.json"):
        score_stage(session, validation_of(session))


def test_stages_can_be_run_one_by_one(tiny_data: Dataset, done: tuple[Session, Result], run_path: Path):
    """Each from the files that the one before left, as the commands train, export and score do."""
    run = done[0].run
    first = tiny_session(run, tiny_data, run_path)
    train_stage(first, validation_of(first))
    second = tiny_session(run, tiny_data, run_path)
    exported = export_stage(second, train_stage(second, validation_of(second)), validation_of(second))
    assert isinstance(exported, Exported)
    third = tiny_session(run, tiny_data, run_path)
    assert score_stage(third, validation_of(third)).val_bpb == done[1].val_bpb
    assert first.folder.artifact.read_bytes() == done[0].folder.artifact.read_bytes()

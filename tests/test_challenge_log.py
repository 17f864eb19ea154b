"""`train.log` speaks the grammar of the challenge's own script: each kind of line has a pattern that both keep to.

The examples have the form of lines in published logs, with other numbers in them.
"""

import re
from pathlib import Path

import pytest
from tiny import tiny_run, tiny_session

from paramgolf.challenge_log import GRAMMAR, ChallengeLog, log_lines
from paramgolf.events import Events, read_events
from paramgolf.stages import execute

INT, FIXED = r"\d+", r"\d+\.\d+"
SCORE = rf"val_loss:{FIXED} val_bpb:{FIXED}"
TIMES = rf"train_time:{INT}ms step_avg:\d+\.\d\dms"
STEP = rf"step:{INT}/{INT}"

PATTERNS = {
    "tokenizer": r"val_bpb:enabled tokenizer_kind=\w+ tokenizer_path=.+",
    "train loader": rf"train_loader:dataset:\S+ train_shards:{INT}",
    "val loader": rf"val_loader:shards pattern=\S+ tokens:{INT}",
    "parameters": rf"model_params:{INT}",
    "world": rf"world_size:{INT} grad_accum_steps:{INT}",
    "attention": rf"attention_mode:gqa num_heads:{INT} num_kv_heads:{INT}",
    "rates": rf"tie_embeddings:(True|False) embed_lr:{FIXED} head_lr:{FIXED} matrix_lr:{FIXED} scalar_lr:{FIXED}",
    "sizes": rf"train_batch_tokens:{INT} train_seq_len:{INT} iterations:{INT} warmup_steps:{INT} "
    r"max_wallclock_seconds:\d+\.\d\d\d",
    "seed": rf"seed:{INT}",
    "warm-up": rf"warmup_step:{INT}/{INT}",
    "step": rf"{STEP} train_loss:\d+\.\d{{4}} {TIMES}",
    "validation": rf"{STEP} val_loss:\d+\.\d{{4}} val_bpb:\d+\.\d{{4}} {TIMES}",
    "early stop": rf"stopping_early: wallclock_cap train_time:{INT}ms {STEP}",
    "memory": rf"peak memory allocated: {INT} MiB reserved: {INT} MiB",
    "raw size": rf"Serialized model: {INT} bytes",
    "code size": rf"Code size: {INT} bytes",
    "raw total": rf"Total submission size: {INT} bytes",
    "size": rf"Serialized model \w+\+\w+: {INT} bytes.*",
    "total": rf"Total submission size \w+\+\w+: {INT} bytes",
    "score": rf"final_\w+ val_loss:\d+\.\d{{4}} val_bpb:\d+\.\d{{4}} eval_time:{INT}ms",
    "exact score": r"final_\w+_exact val_loss:\d+\.\d{8} val_bpb:\d+\.\d{8}",
}
"""Every kind of line of the challenge's baseline script that a dashboard might read."""

OURS = {"backend": r"attention_backend:\w+ device:.+ torch:\S+"}
"""What we say besides."""

EXAMPLES = {
    "tokenizer": "val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=/data/tokenizers/some_1024_bpe.model",
    "train loader": "train_loader:dataset:some10B_sp1024 train_shards:33",
    "val loader": "val_loader:shards pattern=/data/datasets/some10B_sp1024/some_val_*.bin tokens:12345678",
    "parameters": "model_params:12345678",
    "world": "world_size:4 grad_accum_steps:2",
    "attention": "attention_mode:gqa num_heads:6 num_kv_heads:3",
    "rates": "tie_embeddings:True embed_lr:0.06 head_lr:0.0 matrix_lr:0.03 scalar_lr:0.02",
    "sizes": "train_batch_tokens:262144 train_seq_len:2048 iterations:900 warmup_steps:9 max_wallclock_seconds:30.000",
    "seed": "seed:42",
    "warm-up": "warmup_step:3/10",
    "step": "step:150/9000 train_loss:3.1234 train_time:6543ms step_avg:43.62ms",
    "validation": "step:0/9000 val_loss:6.9444 val_bpb:4.1111 train_time:0ms step_avg:0.01ms",
    "early stop": "stopping_early: wallclock_cap train_time:300012ms step:6877/9000",
    "memory": "peak memory allocated: 9876 MiB reserved: 9900 MiB",
    "raw size": "Serialized model: 54321987 bytes",
    "code size": "Code size: 43210 bytes",
    "raw total": "Total submission size: 54365197 bytes",
    "size": "Serialized model int8+zlib: 14321987 bytes (payload:16178912 raw_torch:16224025 payload_ratio:3.90x)",
    "total": "Total submission size int8+zlib: 14365197 bytes",
    "score": "final_int8_zlib_roundtrip val_loss:2.1234 val_bpb:1.2345 eval_time:1234ms",
    "exact score": "final_int8_zlib_roundtrip_exact val_loss:2.12341234 val_bpb:1.23451234",
}


def kind_of(line: str) -> str | None:
    kinds = [kind for kind, pattern in (PATTERNS | OURS).items() if re.fullmatch(pattern, line)]
    assert len(kinds) < 2, f"{line!r} is {kinds}"
    return kinds[0] if kinds else None


@pytest.mark.parametrize("kind", PATTERNS)
def test_patterns_know_the_challenges_lines(kind: str):
    assert kind_of(EXAMPLES[kind]) == kind


@pytest.fixture(scope="module")
def logged(tiny_data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with validations."""
    path = tmp_path_factory.mktemp("logged")
    execute(tiny_session(tiny_run(val_every=4, checkpoint_steps=5), tiny_data, path))
    return path


def test_every_line_of_a_run_is_one_the_challenge_writes(logged: Path):
    kinds = [kind_of(line) for line in (logged / "train.log").read_text().splitlines()]
    assert None not in kinds
    assert set(PATTERNS) - set(kinds) == {"warm-up", "early stop"}, "the two that a run by steps on a CPU has not"
    assert kinds.count("validation") == 4
    assert kinds[-4:] == ["score", "exact score", "score", "exact score"]


def test_a_run_by_the_clock_tells_its_end():
    event = {"event": "trained", "step": 70, "steps": 900, "train_seconds": 60.01, "by_clock": True}
    lines = log_lines({**event, "peak_mib": 12, "reserved_mib": 14})
    assert [kind_of(line) for line in lines] == ["early stop", "memory"]
    assert lines[0] == "stopping_early: wallclock_cap train_time:60010ms step:70/900"


def test_a_warm_up_is_told():
    assert log_lines({"event": "warmup", "step": 2, "steps": 20}) == ["warmup_step:2/20"]


def test_before_the_first_step_the_average_is_no_division_by_zero():
    event = {"event": "validation", "step": 0, "steps": 9, "train_seconds": 0.0, "val_loss": 6.9, "val_bpb": 4.1}
    assert [kind_of(line) for line in log_lines(event)] == ["validation"]


def test_what_the_challenge_has_no_line_for_makes_none(logged: Path):
    assert log_lines({"event": "scoring", "share": 0.5}) == []
    events = list(read_events(logged / "events.jsonl"))
    assert {event["event"] for event in events if not log_lines(event)} == {"finished"}
    assert GRAMMAR.keys() - {event["event"] for event in events} == {"warmup"}


def test_the_log_can_be_written_again_from_the_events(logged: Path):
    lines = [line for event in read_events(logged / "events.jsonl") for line in log_lines(event)]
    assert "\n".join(lines) + "\n" == (logged / "train.log").read_text()


def test_a_log_grows(tmp_path: Path):
    log = tmp_path / "train.log"
    for _ in range(2):
        Events(None, (ChallengeLog(log),)).emit("warmup", step=1, steps=2)
    assert log.read_text() == "warmup_step:1/2\n" * 2

"""Reading the logs of every generation, and any other text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_entries import april_log, bpb_of, march_log

from paramgolf.bundle.training_log import read_training_log


def test_a_log_of_march() -> None:
    facts = read_training_log(march_log())
    assert (facts.seed, facts.world, facts.params, facts.val_tokens) == (1337, 8, 17_059_912, 62_021_632)
    assert (facts.steps, facts.train_seconds, facts.eval_seconds) == (13_780, 600.038, 1.401)
    assert (facts.code_bytes, facts.model_bytes, facts.total_bytes) == (47_642, 15_815_847, 15_863_489)
    assert facts.final is not None
    assert (facts.final.name, facts.final.val_loss) == ("final_int8_zlib_roundtrip_exact", 2.07269931)
    assert [score.val_loss for score in facts.validations] == [6.9307, 2.0606]


def test_a_log_of_april() -> None:
    facts = read_training_log(april_log(42))
    assert (facts.seed, facts.world, facts.val_tokens, facts.steps) == (42, 8, 40_540_160, 4900)
    assert (facts.train_seconds, facts.hessian_seconds, facts.eval_seconds) == (596.5, 2.5, 410.25)
    assert facts.final is not None
    assert (facts.final.name, facts.final.val_bpb) == ("quantized_ttt", round(bpb_of(2.801), 8))
    assert [score.diagnostic for score in facts.scores] == [True, False, False]


def test_sizes_of_a_wrapper_and_a_timer_started_by_hand() -> None:
    facts = read_training_log(
        "Code size (compressed): 31999 bytes\nCode size (uncompressed): 157868 bytes\n"
        "Deserialize: decompression done in 18.2s\n"
        "diagnostic quantized val_loss:2.35 val_bpb:1.074 eval_time:11612ms\n"
        "Deserialize: decompression done in 17.0s\nttt_lora:compile warmup done (88.8s)\n"
        "beginning TTT eval timer\n"
        "quantized_ttt_phased val_loss:2.32239991 val_bpb:1.06124613 eval_time:455128ms\ntotal_eval_time:455.1s\n"
    )
    assert (facts.code_bytes, facts.eval_seconds) == (31_999, 455.128)
    assert facts.uncounted_seconds == pytest.approx(105.8)


def test_text_the_model_wrote_is_no_training_data() -> None:
    line = "gptq:collected 68 hessians in 3.0s from "
    assert read_training_log(line + "autoregressive data").hessian_seconds == 0.0
    assert read_training_log(line + "calibration data").hessian_seconds == 3.0


def test_a_traceback() -> None:
    facts = read_training_log("step:1/2 train_loss:1.0\nTraceback (most recent call last):\n  File\nValueError: x\n")
    assert (facts.traceback, facts.final, facts.steps) == (2, None, 1)


WORDS = """step: 1/2 99999999999999999999/1 val_loss: val_bpb: 2.5 nan inf 1e999 -1 . .. train_time: 5ms ms eval_time:
seed: 42 Serialized model int6+lzma: 100 bytes Code size (compressed) Total submission size x: total_eval_time: 3s
collected 67 Hessians in beginning eval timer decompression done \u0663 Traceback (most recent call last):"""
words = st.sampled_from([*WORDS.split(), "\n", "\n\n"])


@given(st.lists(words, max_size=60).map(" ".join) | st.text(max_size=200))
def test_no_text_is_too_odd(text: str) -> None:
    facts = read_training_log(text)
    assert facts.lines == len(text.splitlines())
    assert facts.final is None or facts.final in facts.scores


@given(st.integers(0, 800), st.integers(0, 60), st.text(max_size=5))
def test_damaged_logs_are_read(at: int, length: int, put: str) -> None:
    text = april_log(42)
    read_training_log(text[:at] + put + text[at + length :])

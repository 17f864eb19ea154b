"""A run made small enough for a proof on a CPU: every technique of it, few channels, bytes for text."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paramgolf.batch import BOS
from paramgolf.contest import Contest
from paramgolf.data.shards import ShardWriter
from paramgolf.data.tokenizers import BYTE_VOCAB, ByteTokenizer
from paramgolf.run import Run

ROW = 64
"""Tokens a row."""


CAPS = {
    "documents": 4,
    "chunk": 32,
    "batches_read": 2,
    "prefix": 2,
    "step_tokens": 2 * ROW,
    "rank": 4,
    "rows": 64,
    "length": 32 * ROW,
}
"""Largest values of settings that cost time, wherever in the configuration they stand."""
CALIBRATION_CAPS = {**CAPS, "sequences": 4, "length": 2 * ROW}
"""The same of quantization: where a model writes the text that it is calibrated on, a token costs a forward pass."""


def capped(value: Any, caps: Mapping[str, int]) -> Any:
    """A part of a configuration with every setting of `caps` at most that."""
    if isinstance(value, tuple):
        return tuple(capped(item, caps) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changes = {}
    for item in fields(value):
        old = getattr(value, item.name)
        new = min(old, caps[item.name]) if item.name in caps and type(old) is int else capped(old, caps)
        if new is not old:
            changes[item.name] = new
    return replace(value, **changes) if changes else value


def reduced_run(run: Run, steps: int = 4, dim: int = 64) -> Run:
    """`run` with all its techniques, at `dim` channels and `steps` steps of 256 tokens."""
    small = replace(run, quant=capped(run.quant, CALIBRATION_CAPS), evaluate=capped(run.evaluate, CAPS))
    return replace(
        small,
        contest=Contest(name="proof", artifact_bytes=run.contest.artifact_bytes),
        data=replace(run.data, corpus="proof", variant="byte260"),
        model=replace(run.model, vocab=BYTE_VOCAB, dim=dim, heads=4, kv_heads=2, context=32 * ROW),
        optim=replace(run.optim, matrix=replace(run.optim.matrix, precision="float32")),
        train=replace(
            run.train,
            by="steps",
            steps=steps,
            batch_tokens=4 * ROW,
            device_tokens=4 * ROW,
            seq_len=ROW,
            seq_growth=run.train.seq_growth
            and replace(run.train.seq_growth, earlier=(ROW // 4, ROW // 2), until=(0.3, 0.6)),
            batch_growth=None,
            warmup=0,
            reserve_seconds=0.0,
            checkpoint_seconds=0.0,
            val_every=0,
        ),
        evaluate=replace(small.evaluate, batch_tokens=16 * ROW),
    )


def write_proof_data(folder: Path) -> None:
    """Shards of bytes, from text that every Python has."""
    texts = [inspect.getdoc(kind) or "" for kind in (str, bytes, int, list, dict, set, tuple, type, object, property)]
    documents = ["\n".join(texts[place:] + texts[:place])[:700] for place in range(len(texts))]
    tokenizer = ByteTokenizer()
    for split, chosen in (("train", documents[:8]), ("val", documents[8:])):
        with ShardWriter(folder, "proof", split, shard_tokens=8192) as writer:
            for ids in tokenizer.encode(chosen):
                writer.write(np.concatenate([[BOS], ids]).astype(np.uint16))

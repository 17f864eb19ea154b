"""A run that takes a second: a tiny model on bytes of generated text. Shared by tests of many stages."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paramgolf.batch import BOS
from paramgolf.challenge_log import ChallengeLog
from paramgolf.config import to_toml
from paramgolf.contest import DEMO
from paramgolf.data.dataset import Dataset, data_fingerprint
from paramgolf.data.shards import ShardWriter
from paramgolf.data.tokenizers import ByteTokenizer
from paramgolf.events import Events
from paramgolf.folder import RunFolder
from paramgolf.lab.launch import data_record
from paramgolf.model.gpt import GPT
from paramgolf.presets.baseline import baseline
from paramgolf.quant.plan import QuantConfig
from paramgolf.run import Run
from paramgolf.stages import Result, Session, execute
from paramgolf.techniques.data import Sequential
from paramgolf.techniques.evaluate import Sliding
from paramgolf.techniques.optim import Warmdown
from paramgolf.techniques.quant import Int8Rows
from paramgolf.train.config import TrainConfig
from paramgolf.train.distributed import Place

CPU = Place(torch.device("cpu"))
WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "it",
    "for",
    "was",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
)
WORDS += ("be", "this", "from", "have", "or", "by", "one", "had", "not", "but", "what", "all", "were", "we", "when")


def tiny_documents(number: int, seed: int) -> list[str]:
    """Documents of 5 to 60 words, with an accent and a line now and then."""
    random = np.random.Generator(np.random.PCG64(seed))
    texts = []
    for _ in range(number):
        words = random.choice(WORDS, size=int(random.integers(5, 60))).tolist()
        words[0] = words[0].capitalize()
        texts.append(" ".join(words).replace(" is ", " était ").replace(" at be", "\nat be") + ".")
    return texts


def write_split(folder: Path, split: str, texts: list[str], *, shard_tokens: int = 4096) -> tuple[Path, ...]:
    tokenizer = ByteTokenizer()
    with ShardWriter(folder, "tiny", split, shard_tokens=shard_tokens) as writer:
        for ids in tokenizer.encode(texts):
            writer.write(np.concatenate([[BOS], ids]).astype(np.uint16))
    return writer.paths


def tiny_dataset(folder: Path) -> Dataset:
    """About 13,000 training and 1,900 validation bytes in several shards."""
    train = write_split(folder, "train", tiny_documents(100, seed=1))
    val = write_split(folder, "val", tiny_documents(14, seed=2), shard_tokens=1000)
    return Dataset("tiny_byte260", train, val, (), ByteTokenizer(), data_fingerprint(train + val, ByteTokenizer()))


def tiny_run(**train: Any) -> Run:
    """The baseline at 2 layers of width 16; `train` changes fields of `TrainConfig`."""
    run = baseline()
    settings: dict[str, Any] = {"by": "steps", "steps": 12, "batch_tokens": 256, "device_tokens": 256, "seq_len": 32}
    return replace(
        run,
        name="tiny",
        contest=DEMO,
        data=replace(run.data, corpus="tiny", variant="byte260", loader=Sequential()),
        model=replace(run.model, vocab=260, dim=16, layers=2, heads=2, kv_heads=1, context=32),
        optim=replace(
            run.optim,
            matrix=replace(run.optim.matrix, momentum_steps=50, precision="float32"),
            schedule=Warmdown(share=0.6),
        ),
        train=TrainConfig(**{**settings, "warmup": 0, "checkpoint_seconds": 0.0, **train}),
        quant=QuantConfig(attention=Int8Rows(keep=0), mlp=Int8Rows(keep=0), embed=Int8Rows(keep=0)),
        evaluate=replace(run.evaluate, protocol=Sliding(stride=16), batch_tokens=1024),
    )


def tiny_session(run: Run, dataset: Dataset, path: Path, place: Place = CPU) -> Session:
    """A session as the command line makes one."""
    folder = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    listeners = (ChallengeLog(folder.log),) if place.first else ()
    return Session(
        run=run,
        folder=folder,
        dataset=dataset,
        place=place,
        events=Events(folder.events if place.first else None, listeners),
    )


def finished_run(run: Run, dataset: Dataset, path: Path) -> Result:
    """Make `run` in `path`, with all that `paramgolf run` leaves there."""
    session = tiny_session(run, dataset, path)
    session.folder.write_text(session.folder.config, to_toml(run))
    session.folder.write_json(session.folder.data, data_record(run, dataset))
    return execute(session)


def shaken_model(noise: float, **changes: Any) -> GPT:
    """A tiny model, `changes` made to its configuration, whose weights are away from zeros and ones."""
    torch.manual_seed(0)
    model = GPT(replace(tiny_run().model, **changes))
    model.reset()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    model.at(1.0)
    return model

"""Bits per byte, seconds and tokens per second of every evaluator on one trained model.

    python benchmarks/ttt.py FOLDER --data PREPARED [--only documents,lora,phased] [--documents 400]
        [--set evaluate.protocol.adapters.rank=64]

FOLDER holds `config.toml` and either an artifact or one safetensors file with the weights by name; PREPARED is a folder
of `paramgolf data prepare`. On a GPU everything is compiled; `first` is the seconds of a small split of the same text,
compilation included, `seconds` those of the whole split after that. `remember` keeps keys and values of what was read;
the others read the window of every chunk again. The record read 11,760 tokens per second on each of its GPUs with three
phases (47.85 M tokens in 508.8 s on 8 H100).
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from paramgolf.artifact.container import expected_of, unpack
from paramgolf.config import from_toml, overridden
from paramgolf.data.dataset import open_dataset
from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.evaluate.documents import Documents, document_spans
from paramgolf.evaluate.evaluation import EvaluateConfig
from paramgolf.events import Events
from paramgolf.lab.launch import load_techniques
from paramgolf.model.gpt import GPT
from paramgolf.quant.plan import restore
from paramgolf.run import Run
from paramgolf.stages import fresh_model
from paramgolf.techniques.evaluate import (
    SGDTTT,
    DistillTTT,
    LoraTTT,
    NgramMixture,
    NgramTilt,
    PhasedTTT,
    Sliding,
    Temperature,
)
from paramgolf.train.distributed import Place, placed
from paramgolf.validation import Validation

RECORD = AdapterConfig(rank=80, weight_decay=0.5, beta2=0.99)
"""Of #1855."""
KEPT = replace(RECORD, remember=True)
"""As the record, but keys and values of what was read are kept."""
OURS = replace(KEPT, lr=3e-4)
"""Of the preset `golf`."""
LATER = replace(RECORD, targets=("k", "out", "mlp", "head"), lr=0.75e-4, documents=24, short=("256:8", "2000:24"))
"""Of #2014: no q and v, short documents in short chunks."""
PARTS = replace(RECORD, part=4096)
"""As the record, but long documents in parts side by side: no document takes longer than a batch."""


def evaluators(context: int) -> dict[str, EvaluateConfig]:
    """What is measured, by short name; `context` is the training length."""
    inside = Documents()
    return {
        "contiguous": EvaluateConfig(),
        "sliding": EvaluateConfig(protocol=Sliding(stride=64)),
        "sliding256": EvaluateConfig(protocol=Sliding(stride=256)),
        "documents": EvaluateConfig(protocol=inside),
        "halfway": EvaluateConfig(protocol=Documents(stride=context // 2)),
        "longer": EvaluateConfig(protocol=Documents(length=context * 3 // 2, stride=context * 3 // 4)),
        "temperature": EvaluateConfig(protocol=inside, on_logits=(Temperature(value=0.95),)),
        "tilt": EvaluateConfig(protocol=inside, on_logits=(NgramTilt(),)),
        "mixture": EvaluateConfig(protocol=inside, on_logits=(NgramMixture(),)),
        "sgd": EvaluateConfig(protocol=SGDTTT(lr=0.005, stride=256)),
        "distill": EvaluateConfig(protocol=DistillTTT(lr=0.005, stride=256)),
        "frozen": EvaluateConfig(protocol=LoraTTT(adapters=replace(RECORD, lr=0.0))),
        "lora": EvaluateConfig(protocol=LoraTTT(adapters=RECORD)),
        "parts": EvaluateConfig(protocol=LoraTTT(adapters=PARTS)),
        "remember": EvaluateConfig(protocol=LoraTTT(adapters=KEPT)),
        "remember_phased": EvaluateConfig(protocol=PhasedTTT(adapters=KEPT)),
        "golf": EvaluateConfig(protocol=PhasedTTT(adapters=OURS)),
        "remember_later": EvaluateConfig(
            protocol=PhasedTTT(adapters=replace(LATER, remember=True), phases=1, length=context * 3 // 2)
        ),
        "phased": EvaluateConfig(protocol=PhasedTTT(adapters=RECORD)),
        "later": EvaluateConfig(protocol=PhasedTTT(adapters=LATER, phases=1, length=context * 3 // 2)),
    }


def load_model(folder: Path, run: Run, place: Place) -> GPT:
    """The model whose weights or artifact are in `folder`."""
    model = fresh_model(run, place)
    weights = sorted(folder.glob("*.safetensors"))
    if weights:
        model.load_state_dict(load_file(weights[0]))
    else:
        restore(model, unpack((folder / "artifact.pgolf").read_bytes(), expected_of(model)))
    model.at(1.0)
    return model


def first_documents(whole: Validation, number: int) -> Validation:
    """The split cut after `number` documents."""
    ends = document_spans(whole.tokens).ends
    last = int(ends[min(number, len(ends)) - 1])
    return replace(whole, tokens=whole.tokens[: last + 1], target_bytes=whole.target_bytes[:last])


def measured(
    whole: Validation, small: Validation | None, model: GPT, wanted: dict[str, EvaluateConfig], settings: list[str]
) -> Iterator[str]:
    """A line of the table for each evaluator, which meets `small` first."""
    base = 0.0
    for name, config in wanted.items():
        run = overridden(
            replace(whole.run, evaluate=replace(config, batch_tokens=whole.run.evaluate.batch_tokens)),
            [setting for setting in settings if applies(setting, config)],
        )
        torch._dynamo.reset()
        seconds = [0.0] if small is None else []
        for split in (small, whole):
            if split is not None:
                began = time.perf_counter()
                tally = replace(split, run=run).final(model).tally
                seconds.append(time.perf_counter() - began)
        base = base or tally.bits_per_byte
        speed = tally.tokens / seconds[1] / whole.place.world
        gain = tally.bits_per_byte - base
        yield f"{name:12} {tally.bits_per_byte:9.5f} {gain:+9.5f} {seconds[0]:9.1f} {seconds[1]:9.1f} {speed:12,.0f}"


def applies(setting: str, config: EvaluateConfig) -> bool:
    """Whether `config` has what a setting changes."""
    where = setting.partition("=")[0].split(".")[1:]
    value: object = config
    for word in where:
        if not hasattr(value, word):
            return False
        value = getattr(value, word)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", default=None)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--documents", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--no-first", action="store_true", help="leave the small split out")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    load_techniques()
    run = from_toml(Run, (options.folder / "config.toml").read_text(encoding="utf-8"))
    dataset = open_dataset(Path(options.data), tokenizer=options.tokenizer)
    with placed(options.device) as place:
        whole = Validation.of(run, dataset, place, Events(None))
        whole = first_documents(whole, options.documents) if options.documents else whole
        model = load_model(options.folder, run, place)
        wanted = evaluators(run.train.seq_len)
        wanted = {name: wanted[name] for name in options.only or wanted}
        documents = len(document_spans(whole.tokens).starts)
        if place.first:
            print(
                f"{len(whole.tokens) - 1:,} targets, {documents:,} documents, {place.device}, torch {torch.__version__}"
            )
            print(f"{'evaluator':12} {'bpb':>9} {'gain':>9} {'first':>9} {'seconds':>9} {'tokens/s/GPU':>12}")
        if options.eager:
            whole = replace(whole, run=overridden(whole.run, ["train.compile=false"]))
        small = None if options.no_first else first_documents(whole, max(2, min(64, documents // 8)))
        for line in measured(whole, small, model, wanted, options.settings):
            if place.first:
                print(line, flush=True)


if __name__ == "__main__":
    main()

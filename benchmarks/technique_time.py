"""What each technique of the forward pass costs: forward and backward of a few layers of the last records' shape.

    python benchmarks/technique_time.py [--tokens 65536] [--layers 4] [--only xsa,smear_v2] [--repeats 15]

Each technique at its defaults is added to one stack, compiled in one graph; packed documents in bf16 on a GPU. Prints
medians in milliseconds, the difference to the stack in microseconds, also for each layer, and seconds to compile.
"""

import argparse
import dataclasses
import statistics
import time
import typing
from typing import Any

import torch

from paramgolf import techniques  # noqa: F401  (fills the registry)
from paramgolf.batch import BOS, Batch
from paramgolf.config import field_types, fits
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.registry import TECHNIQUES
from paramgolf.techniques.model import BranchScale, LeakyReLUSquared, QKGain, QKNorm, Rope, TanhSoftcap, X0Mix


def packed_batch(tokens: int, vocab: int, device: str) -> Batch:
    """Documents of 100 to 2,048 tokens in one row."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(100, 2048, (tokens // 100,), generator=generator)
    starts = torch.cat((torch.zeros(1, dtype=torch.long), lengths.cumsum(0)))
    starts = starts[starts < tokens]
    ids = torch.randint(2, vocab, (1, tokens + 1), generator=generator)
    ids[0, starts] = BOS
    edges = torch.cat((starts, torch.tensor([tokens]))).to(torch.int32)
    return Batch(ids[:, :-1], ids[:, 1:], edges, 2048).to(torch.device(device))


def variants(stack: GPTConfig, only: set[str]) -> dict[str, GPTConfig]:
    """The stack, and the stack with each technique that it can take."""
    found = {"(stack)": stack}
    slots = field_types(GPTConfig)
    for entry in TECHNIQUES.values():
        slot = next((slot for slot in slots if fits(entry.fills, f"model.{slot}")), None)
        if slot is None or (only and entry.name not in only):
            continue
        filler: Any = entry.config()
        if typing.get_origin(slots[slot]) is tuple:
            kept = tuple(item for item in getattr(stack, slot) if type(item) is not type(filler))
            filler = (*kept, filler)
        try:
            found[f"{slot}={entry.name}"] = dataclasses.replace(stack, **{slot: filler})
        except ValueError as error:
            print(f"{entry.name}: {error}")
    return found


def measured(config: GPTConfig, batch: Batch, repeats: int) -> tuple[float, float]:
    """Median milliseconds of a step without optimizer, and seconds until the first was done."""
    torch._dynamo.reset()
    on_gpu = batch.ids.is_cuda
    torch.manual_seed(0)
    model = GPT(config)
    model.reset()
    if on_gpu:
        model.cuda().compute = torch.bfloat16
    model.at(0.0)
    loss = torch.compile(model.loss, fullgraph=True, dynamic=False)
    times = []
    for _ in range(repeats + 3):
        if on_gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        loss(batch).backward()
        model.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[3:]), times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--only", type=lambda text: set(text.split(",")), default=set())
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stack = GPTConfig(
        vocab=options.vocab,
        dim=options.dim,
        layers=options.layers,
        heads=options.dim // 64,
        kv_heads=options.dim // 128,
        context=options.tokens,
        on_read=(X0Mix(),),
        on_qk=(QKNorm(), Rope(channels=16), QKGain()),
        on_branch=(BranchScale(),),
        activation=LeakyReLUSquared(),
        softcap=TanhSoftcap(),
    )
    batch = packed_batch(options.tokens, options.vocab, device)
    print(f"{options.layers} layers of {options.dim}, {options.tokens:,} tokens, {device}, torch {torch.__version__}")
    print(f"{'technique':40} {'ms':>9} {'µs more':>9} {'a layer':>9} {'compile s':>9}")
    plain = 0.0
    for name, config in variants(stack, options.only).items():
        median, compiled = measured(config, batch, options.repeats)
        plain = plain or median
        more = 1000 * (median - plain)
        print(f"{name:40} {median:9.2f} {more:9.0f} {more / options.layers:9.0f} {compiled:9.1f}", flush=True)


if __name__ == "__main__":
    main()

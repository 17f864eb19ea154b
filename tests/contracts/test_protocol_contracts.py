"""The contract of protocols that score without learning: every target once, the same over any number of ranks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probes import registered
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.evaluate.evaluation import evaluate
from paramgolf.evaluate.slots import Bench
from paramgolf.registry import Entry


def cost_of_history(batch: Batch) -> Tensor:
    """A causal stand-in for a model: a target costs its id, and a trifle for every token before it in the row."""
    return batch.targets.float() + batch.ids.cumsum(1).float() * 2.0**-12


def adapts(entry: Entry) -> bool:
    """Whether a protocol changes weights, for which it needs a model."""
    return getattr(entry.config, "adapts", False)


def with_sizes(entry: Entry, **sizes: int) -> Any:
    """The technique with those of `sizes` that it has a setting for."""
    return entry.config(**{name: value for name, value in sizes.items() if name in entry.config.__dataclass_fields__})


def bench_of(tokens: Tensor, forward: Callable[[Batch], Tensor], **sizes: int) -> Bench:
    return Bench(forward=forward, tokens=tokens, device=torch.device("cpu"), **sizes)


@pytest.mark.parametrize("entry", [each for each in registered("evaluate.protocol") if not adapts(each.values[0])])
@given(
    length=st.integers(2, 150),
    context=st.integers(1, 40),
    window=st.integers(0, 50),
    stride=st.integers(1, 60),
    batch_tokens=st.integers(1, 200),
    world=st.integers(1, 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=150)
def test_protocols_count_every_target_once(
    entry: Entry, length: int, context: int, window: int, stride: int, batch_tokens: int, world: int, seed: int
):
    """Whatever the sizes, and the same sums over any number of ranks."""
    tokens = torch.randint(1, 64, (length,), generator=torch.Generator().manual_seed(seed))
    target_bytes = torch.randint(0, 9, (length - 1,), generator=torch.Generator().manual_seed(seed))
    protocol = with_sizes(entry, stride=stride, length=window)
    marks = torch.zeros(length - 1, dtype=torch.int64)
    for rank in range(world):
        bench = bench_of(tokens, cost_of_history, context=context, batch_tokens=batch_tokens, rank=rank, world=world)
        for scored in protocol(bench):
            assert scored.nats.shape == scored.counted.shape == scored.positions.shape
            edges = scored.batch.cu_seqlens
            longest = scored.batch.ids.shape[1] if edges is None else int(edges.diff().max())
            assert longest <= (window or context)
            places = scored.positions[scored.counted]
            marks.index_add_(0, places, torch.ones_like(places))
            assert torch.equal(scored.batch.targets[scored.counted], tokens[places + 1])
            assert torch.equal(scored.batch.ids[scored.counted], tokens[places])
    assert torch.equal(marks, torch.ones_like(marks))
    alone = bench_of(tokens, cost_of_history, context=context, batch_tokens=batch_tokens)
    one = evaluate(protocol, alone, target_bytes).tally
    assert (one.tokens, one.bytes) == (length - 1, int(target_bytes.sum()))
    parts = [evaluated_part(protocol, alone._replace(rank=r, world=world), length - 1) for r in range(world)]
    totals = iter([torch.stack(part).sum(0) for part in zip(*parts, strict=True)])
    whole = evaluate(protocol, alone._replace(world=world), target_bytes, reduce=lambda mine: next(totals)).tally
    assert whole == one


def evaluated_part(protocol: Any, bench: Bench, targets: int) -> tuple[Tensor, Tensor]:
    """What one rank would put into the sum over ranks: nats and counts."""
    told: list[Tensor] = []

    def keep(total: Tensor) -> Tensor:
        told.append(total.clone())
        return torch.ones(targets, dtype=total.dtype)

    evaluate(protocol, bench, torch.zeros(targets, dtype=torch.int32), reduce=keep)
    return told[0], told[1]

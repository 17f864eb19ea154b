"""Reading with memory: where nothing is learned it is the same forward pass."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from adapting import ADAPTERS, ADAPTING, LENGTHS, adaptable_model, bench_for, costs_under, text
from torch._dynamo.testing import CompileCounter

from paramgolf.errors import UsageError
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.past import tokens_back
from paramgolf.techniques.evaluate import LoraTTT
from paramgolf.validation import many_graphs

STILL = replace(ADAPTERS, remember=True, lr=0.0)


def test_without_learning_costs_are_those_of_whole_documents():
    """Documents that fit a window: kept keys are those that a window read at once would have."""
    tokens = text((5, 1, 40, 17, 2, 61, 33, 12, 9))
    bench = bench_for(adaptable_model(), tokens)
    found = costs_under(LoraTTT(adapters=STILL, length=64), bench)
    torch.testing.assert_close(found, costs_under(Documents(length=64), bench), rtol=1e-4, atol=1e-4)


def test_a_document_longer_than_the_memory_looks_back_no_further():
    """Another beginning, out of reach of all layers, changes nothing."""
    tokens, length = text((90,)), 8
    bench = bench_for(adaptable_model(), tokens)
    far = tokens.clone()
    far[1:4] = 2 + (far[1:4] + 5) % 37
    reach = 4 + 5 * (length + 1)  # five passes of attention, a smear
    assert len(bench.model.order) <= 5  # type: ignore[union-attr]
    first = costs_under(LoraTTT(adapters=STILL, length=length), bench)
    other = costs_under(LoraTTT(adapters=STILL, length=length), bench_for(adaptable_model(), far))
    assert not torch.equal(first[:8], other[:8])
    assert torch.equal(first[reach:], other[reach:])


@pytest.mark.parametrize("name", ["remember_short", "remember_phased"])
def test_a_stream_of_another_length_needs_no_other_graph(name):
    """Minutes of compiling on a GPU."""
    counter, model = CompileCounter(), adaptable_model()

    def graphs_for(lengths: tuple[int, ...]) -> int:
        before = counter.frame_count
        bench = bench_for(model, text(lengths))._replace(compiled=partial(torch.compile, backend=counter))
        with many_graphs():
            costs_under(ADAPTING[name], bench)
        return counter.frame_count - before

    torch._dynamo.reset()
    assert graphs_for(LENGTHS[:5]) == 2, "the costs of a chunk, and the step of the optimizer"
    assert graphs_for(LENGTHS) == 0


def test_how_far_back_every_key_stands():
    """A memory of 4 after 6 tokens; the row begins one token before the chunk."""
    back = tokens_back(torch.tensor([5]), torch.tensor([6]), 3, 4)[0].tolist()
    # Places 0..3 hold positions 4, 5, 2, 3; the row is positions 5, 6, 7.
    assert back == [
        [1, 0, 3, 2, -1, -1, -2],
        [2, 1, -1, 3, -1, 0, -1],
        [3, 2, -1, -1, -1, 1, 0],
    ]


def test_parts_and_memory_exclude_each_other():
    with pytest.raises(ValueError, match="each token is read once"):
        replace(STILL, part=20)


def test_a_document_longer_than_the_model_has_positions_is_refused():
    bench = bench_for(adaptable_model(), text((91,)))
    with pytest.raises(UsageError, match="a document of 91 targets"):
        costs_under(LoraTTT(adapters=STILL, length=24), bench)

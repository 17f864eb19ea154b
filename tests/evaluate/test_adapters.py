"""Adapters compute what they say, at every place where a layer runs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from adapting import ADAPTERS, CONTEXT, VOCAB, adaptable_model, bench_for, costs_under, text

from paramgolf.batch import Batch
from paramgolf.errors import UsageError
from paramgolf.evaluate.adapters import AdapterShape, AdapterTarget, RowAdapters, adapted
from paramgolf.evaluate.chunks import rows_for, window_shapes
from paramgolf.evaluate.documents import Documents, Spans
from paramgolf.evaluate.readings import reading_batches, reading_queue, shared_out, unread_pieces
from paramgolf.model.gpt import GPT
from paramgolf.parts import Linear
from paramgolf.techniques.evaluate import LoraTTT
from paramgolf.validation import many_graphs

CPU_ONLY = torch.device("cpu")
FULL = AdapterShape(2, 4.0, ("q", "k", "v", "out", "mlp", "head"))


@pytest.fixture(scope="module")
def model() -> GPT:
    return adaptable_model()


def rows_of_text(rows: int = 3, length: int = 12) -> Batch:
    ids = torch.randint(2, VOCAB, (rows, length + 1), generator=torch.Generator().manual_seed(5))
    return Batch(ids[:, :-1], ids[:, 1:])


def test_fresh_adapters_change_no_bit(model: GPT):
    batch = rows_of_text()
    before = model(batch)
    with adapted(model, FULL, rows=3, device=CPU_ONLY):
        assert torch.equal(model(batch), before)
    assert torch.equal(model(batch), before)


def test_a_layer_that_runs_again_has_adapters_of_its_own_each_time(model: GPT):
    """Layers 0, 1, 1, 2: four projections and a feed-forward a layer, and the head."""
    with adapted(model, FULL, rows=1, device=CPU_ONLY) as adapters:
        passes = sorted(len(delta.whole_a) for delta in adapters.deltas)
    assert passes == [1] * (5 * 2 + 1) + [2] * 5


@pytest.mark.parametrize("target", FULL.targets)
def test_every_target_and_every_pass_matters(model: GPT, target: AdapterTarget):
    batch = rows_of_text()
    before = model(batch)
    with adapted(model, FULL._replace(targets=(target,)), rows=3, device=CPU_ONLY) as adapters:
        for delta in adapters.deltas:
            for whole in delta.whole_b:
                whole[1] = 0.3
                after = model(batch)
                whole.zero_()
                assert torch.equal(after[0], before[0])
                assert torch.equal(after[2], before[2])
                assert not torch.equal(after[1], before[1])


def test_an_adapter_is_a_change_of_the_weight_for_one_row():
    """Of a layer that runs once: W + (α/r)·B A, each row its own."""
    model = adaptable_model(3)
    batch, shape = rows_of_text(2), AdapterShape(2, 3.0, ("q", "out"))
    layer: Linear = model.blocks[0].attention.q
    with adapted(model, shape, rows=2, device=CPU_ONLY) as adapters:
        delta: RowAdapters = layer.delta
        for each in adapters.deltas:
            if each is not delta:
                continue
            each.whole_b[0].normal_(generator=torch.Generator().manual_seed(1))
        with_adapters = model(batch)
        changes = [1.5 * delta.whole_b[0][row] @ delta.whole_a[0][row] for row in range(2)]
    for row in range(2):
        with torch.no_grad():
            layer.weight += changes[row]
            alone = model(Batch(batch.ids[row : row + 1], batch.targets[row : row + 1]))
            layer.weight -= changes[row]
        torch.testing.assert_close(with_adapters[row], alone[0], rtol=1e-4, atol=1e-4)


def test_a_model_without_targets_is_refused(model: GPT):
    with pytest.raises(UsageError, match="hang on"), adapted(model, FULL._replace(targets=()), rows=1, device=CPU_ONLY):
        pass


def test_adapters_that_never_learn_score_as_sliding_windows_inside_documents(model: GPT):
    """Catalogue E13, 6: the forward pass of test-time training is the ordinary one."""
    bench = bench_for(model, text())
    still = LoraTTT(adapters=replace(ADAPTERS, lr=0.0))
    costs = costs_under(still, bench)
    plain = costs_under(Documents(stride=ADAPTERS.chunk), bench)
    torch.testing.assert_close(costs, plain, rtol=1e-4, atol=1e-4)


def test_reading_a_text_that_repeats_gets_cheaper_by_learning(model: GPT):
    pattern = torch.randint(2, VOCAB, (7,), generator=torch.Generator().manual_seed(2))
    tokens = torch.cat((torch.tensor([1]), pattern.repeat(12), torch.tensor([1])))
    bench = bench_for(model, tokens)
    learned = costs_under(LoraTTT(adapters=replace(ADAPTERS, documents=1)), bench)
    still = costs_under(LoraTTT(adapters=replace(ADAPTERS, documents=1, lr=0.0)), bench)
    assert torch.allclose(learned[:6], still[:6])
    assert float(learned[60:].mean()) < 0.7 * float(still[60:].mean())


# who reads what when


def spans_of(*lengths: int) -> Spans:
    ends = torch.tensor(lengths).cumsum(0).numpy()
    return Spans(ends - torch.tensor(lengths).numpy(), ends)


def test_longest_first_or_in_the_order_of_the_file():
    spans = spans_of(3, 9, 5, 9)
    assert reading_queue(spans).starts.tolist() == [3, 17, 12, 0]
    in_order = reading_queue(spans, file_order=True)
    assert in_order.starts.tolist() == [0, 3, 12, 17]
    assert [batch.starts.tolist() for batch in reading_batches(in_order, 2)] == [[3, 0], [17, 12]]


def test_parts_look_back_to_the_start_of_their_document():
    queue = reading_queue(spans_of(4, 10), part=4)
    assert sorted(zip(*(array.tolist() for array in queue), strict=True)) == [
        (0, 4, 0),
        (4, 8, 4),
        (8, 12, 4),
        (12, 14, 4),
    ]


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_every_batch_has_one_reader(world: int):
    batches = reading_batches(reading_queue(spans_of(*range(1, 60))), 4)
    mine = [shared_out(batches, rank, world) for rank in range(world)]
    starts = sorted(start for share in mine for batch in share for start in batch.starts.tolist())
    assert starts == sorted(start for batch in batches for start in batch.starts.tolist())
    loads = [sum(int(batch.lengths.max()) for batch in share) for share in mine]
    assert max(loads) - min(loads) <= 60


@pytest.mark.parametrize("done", [0, 3, 7, 30])
@pytest.mark.parametrize("longest", [1, 4, 10])
def test_what_is_left_is_covered_once(done: int, longest: int):
    readings = reading_queue(spans_of(2, 7, 25, 13))
    pieces = unread_pieces(readings, done, longest)
    covered = [place for fresh, end in zip(pieces.fresh, pieces.ends, strict=True) for place in range(fresh, end)]
    expected = [p for s, e in zip(readings.starts, readings.ends, strict=True) for p in range(s + done, e)]
    assert sorted(covered) == sorted(expected)
    assert (pieces.ends - pieces.starts <= longest).all()
    assert (pieces.starts <= pieces.fresh).all()


def test_windows_come_in_few_shapes_that_halve():
    assert window_shapes(2048, 4, 48) == (256, 512, 1024, 2048)
    assert window_shapes(3072, 3, 48) == (768, 1536, 3072)
    assert window_shapes(CONTEXT, 2, 6) == (CONTEXT,)
    assert [rows_for(alive, 64) for alive in (64, 33, 32, 9, 8, 1)] == [64, 64, 32, 16, 8, 8]
    assert rows_for(3, 3) == 3


def test_short_documents_have_chunks_of_their_own():
    config = replace(ADAPTERS, chunk=48, short=("2000:24", "256:8"))
    assert [config.plan(length, 2048).size for length in (1, 256, 257, 2000, 2001)] == [8, 8, 24, 24, 48]
    assert config.plan(1, 2048).width == 48, "the shapes are those of whole chunks"
    assert config.plan(9999, 20).size == 20


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"short": ("8",)}, "not of the form"),
        ({"short": ("8:0",)}, "not of the form"),
        ({"short": ("8:64",), "chunk": 48}, "longer than chunk=48"),
        ({"rank": 0}, "rank=0 is not positive"),
        ({"part": -1}, "part=-1 is negative"),
        ({"targets": ()}, "hang nowhere"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        replace(ADAPTERS, **wrong)


def test_one_graph_serves_all_windows_and_any_number_of_rows():
    """Without a break, and with the costs of the uncompiled pass; a single row is a graph of its own."""
    graphs: list[int] = []

    def backend(graph: Any, example: Any) -> Any:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    def compiled(function: Any, *, dynamic: bool) -> Any:
        return torch.compile(function, backend=backend, dynamic=dynamic, fullgraph=True)

    torch._dynamo.reset()
    model = adaptable_model()
    protocol = LoraTTT(adapters=replace(ADAPTERS, documents=16, shapes=3, targets=("q", "mlp", "head")), length=96)
    bench = bench_for(model, text((50, 40, 30, 9, 8, 7, 60, 20, 90, 3, 4, 5)))
    plain = costs_under(protocol, bench)
    with many_graphs():
        torch.testing.assert_close(costs_under(protocol, bench._replace(compiled=compiled)), plain)
    assert len(graphs) == 1
    torch._dynamo.reset()

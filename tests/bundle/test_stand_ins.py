"""What scripts carry in place of parts of the package gives what those give."""

import ast
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch

from paramgolf.bundle.amalgamate import own_units
from paramgolf.bundle.heard import heard_events, without_settings_repeated
from paramgolf.bundle.reduce import reduced_run
from paramgolf.bundle.stand_ins import copied_back, copied_state, pieces_alone, tallied, tensors_within
from paramgolf.data.tokenizers import SentencePieceTokenizer, train_sentencepiece
from paramgolf.evaluate.evaluation import Contiguous, evaluate
from paramgolf.evaluate.slots import Bench
from paramgolf.lab.launch import asked_run
from paramgolf.model.gpt import GPT
from paramgolf.optim.groups import Optimizer
from paramgolf.optim.schedule import Progress
from paramgolf.techniques.quant import SelfGenerated


def stepped(optimizer: Optimizer, step: int) -> None:
    """One step along gradients that are the same whenever it is the same step."""
    generator = torch.Generator().manual_seed(step)
    for parameter in optimizer.parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step(Progress(fraction=0.9, step=step, left=2.0))


@pytest.mark.parametrize("preset", ["baseline", "pr1855", "pr2140"])
def test_an_optimizer_goes_on_from_a_copy_of_its_tensors(preset: str):
    run = reduced_run(asked_run(preset))
    model = GPT(replace(run.model, layers=2, repeats=None) if preset == "baseline" else run.model)
    model.reset()
    optimizer = Optimizer(model, run.optim, compiled=True)
    optimizer.muon.advance = optimizer.muon.advance.__wrapped__  # compiled functions are looked at, not run
    stepped(optimizer, 1)
    before = copied_state(optimizer)
    whole = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    assert {id(tensor) for tensor in tensors_within(optimizer)} >= {id(p) for p in optimizer.parameters.values()}
    weights = {name: parameter.detach().clone() for name, parameter in optimizer.parameters.items()}
    stepped(optimizer, 2)
    after = {name: parameter.detach().clone() for name, parameter in optimizer.parameters.items()}
    assert any(not torch.equal(whole[name], tensor) for name, tensor in optimizer.state_dict().items())
    copied_back(optimizer, before)
    assert all(torch.equal(whole[name], tensor) for name, tensor in optimizer.state_dict().items())
    assert all(torch.equal(weights[name], parameter) for name, parameter in optimizer.parameters.items())
    stepped(optimizer, 2)
    assert all(torch.equal(after[name], parameter) for name, parameter in optimizer.parameters.items())


def test_a_script_reads_a_tokenizer_that_is_named_or_found(tmp_path: Path):
    model = train_sentencepiece(list(topics.values())[:40], 512, tmp_path / "small.model")
    table = SentencePieceTokenizer(model).byte_table()
    for spec in (model, str(model)):
        read = pieces_alone(spec)
        for name in ("base_bytes", "has_leading_space", "is_boundary"):
            ours, wanted = getattr(read, name), getattr(table, name)
            assert np.array_equal(ours, wanted)
            assert ours.dtype == wanted.dtype


def test_tensors_are_found_however_deep():
    class Holder:
        def __init__(self) -> None:
            self.inside = ({"a": [torch.ones(1)]}, 3, "text", None, torch.zeros(2))

    found = tensors_within({"holder": Holder(), "function": test_tensors_are_found_however_deep})
    assert [len(tensor) for tensor in found] == [1, 2]


def test_costs_fetched_as_they_come_are_the_same():
    tokens = torch.arange(300) % 7

    def forward(batch):
        return (batch.ids + 1.0) / (batch.targets + 2.0)

    bench = Bench(forward=forward, tokens=tokens, context=32, device=torch.device("cpu"), batch_tokens=64)
    sizes = torch.arange(299, dtype=torch.int32) % 5
    ours, theirs = (
        work(Contiguous(), bench, sizes, reduce=lambda total: 2 * total, told=lambda share: None)
        for work in (tallied, evaluate_unchecked)
    )
    assert ours.tally == theirs.tally
    assert ours.tally.nats > 0


def evaluate_unchecked(protocol, bench, target_bytes, *, reduce, told):
    """The package's, which checks the number of times that targets are counted: those stay what they are."""

    def doubled(total):
        return total if total.dtype == torch.int32 else reduce(total)

    return evaluate(protocol, bench, target_bytes, reduce=doubled, told=told)


def test_lines_that_repeat_settings_are_not_written():
    units = without_settings_repeated(own_units())
    text = ast.unparse(units["paramgolf.challenge_log"].definitions["started"].node)
    for absent in ("tokenizer", "dataset", "num_heads", "tie_embeddings", "rates", "val_loader", "max_wallclock"):
        assert absent not in text
    for present in ("model_params", "world_size", "seed:"):
        assert present in text
    assert heard_events(units)["started"] < heard_events(own_units())["started"]
    assert heard_events(units)["step"] == heard_events(own_units())["step"]


def test_text_of_the_model_s_own_is_short_in_a_proof():
    calibration = reduced_run(asked_run("pr1019")).quant.calibration
    assert isinstance(calibration, SelfGenerated)
    assert calibration.sequences * calibration.length <= 1024

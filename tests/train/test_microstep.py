"""One forward and backward pass, plain and recorded."""

from collections.abc import Sequence

import pytest
import torch

from paramgolf.batch import Batch
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.train.microstep import PlainMicroStep, RecordedMicroStep, Recording


def tiny(device: str) -> GPT:
    torch.manual_seed(0)
    # SDPA: FlexAttention warns when it is not compiled.
    model = GPT(GPTConfig(vocab=32, dim=64, layers=2, heads=2, kv_heads=1, context=128, backend="sdpa"))
    model.reset()
    return model.to(device)


def batch_of(seed: int, device: str, cuts: tuple[int, ...] = ()) -> Batch:
    ids = torch.randint(32, (1, 129), generator=torch.Generator().manual_seed(seed)).to(device)
    edges = torch.tensor([0, *cuts, *[128] * (8 - len(cuts))], dtype=torch.int32, device=device) if cuts else None
    return Batch(ids[:, :-1], ids[:, 1:], edges, 128)


def gradients(model: GPT) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_shares_add_up_to_the_whole():
    model = tiny("cpu")
    step = PlainMicroStep(model.loss)
    total = sum(step.accumulate(batch_of(seed, "cpu"), share=2, phase=0) for seed in (1, 2))
    once = sum(model.loss(batch_of(seed, "cpu")) for seed in (1, 2)) / 2
    torch.testing.assert_close(total, once.detach())
    added = gradients(model)
    model.zero_grad()
    once.backward()
    torch.testing.assert_close(added, gradients(model))


class Again:
    """In place of a CUDA graph: works again, into the tensors of the first time, and over those of all other graphs."""

    def __init__(self, step: RecordedMicroStep, key: object) -> None:
        self.step, self.key = step, key

    def replay(self) -> None:
        for other in self.step.recordings.values():
            for gradient in other.gradients:
                gradient.fill_(torch.nan)
        mine = self.step.recordings[self.key]
        loss, found = self.step.run(mine.batch)
        mine.loss.copy_(loss)
        for own, gradient in zip(mine.gradients, found, strict=True):
            own.copy_(gradient)


def recorded_on_cpu(model: GPT, lengths: Sequence[int]) -> RecordedMicroStep:
    """With a recording for rows of each of `lengths`."""
    step = RecordedMicroStep(model.loss, list(model.parameters()))
    for length in lengths:
        key, ids = (0, (1, length), None, 128), torch.zeros(1, length, dtype=torch.int64)
        batch = Batch(ids, ids.clone(), None, 128)
        step.recordings[key] = Recording(Again(step, key), batch, *step.run(batch))
    return step


def test_gradients_of_recordings_add_up_until_they_are_cleared():
    plain, recorded = tiny("cpu"), tiny("cpu")
    slow, fast = PlainMicroStep(plain.loss), recorded_on_cpu(recorded, (128, 100))
    assert not gradients(recorded)
    for lengths in ((128,), (100,), (128, 100), (128, 128, 100), (100,), (100, 128)):
        for place, length in enumerate(lengths):
            whole = batch_of(place, "cpu")
            batch = Batch(whole.ids[:, :length], whole.targets[:, :length], None, 128)
            torch.testing.assert_close(
                slow.accumulate(batch, share=2, phase=0), fast.accumulate(batch, share=2, phase=0).clone()
            )
        torch.testing.assert_close(gradients(plain), gradients(recorded))
        plain.zero_grad()
        recorded.zero_grad()


def test_a_single_call_hands_its_gradients_out_as_they_are():
    model = tiny("cpu")
    step = recorded_on_cpu(model, (128,))
    step.accumulate(batch_of(1, "cpu"), share=1, phase=0)
    (recording,) = step.recordings.values()
    assert all(mine.grad is own for mine, own in zip(model.parameters(), recording.gradients, strict=True))
    assert not step.sums


@pytest.mark.gpu
@pytest.mark.parametrize("packed", [False, True])
def test_a_recording_does_what_it_recorded(packed: bool):
    plain, recorded = tiny("cuda"), tiny("cuda")
    plain.compute = recorded.compute = torch.bfloat16
    slow, fast = PlainMicroStep(plain.loss), RecordedMicroStep(recorded.loss, list(recorded.parameters()))
    for seed, share, cuts in ((1, 1, (40, 90)), (2, 4, (7,)), (3, 4, (100, 120, 125)), (1, 1, (40, 90))):
        batch = batch_of(seed, "cuda", cuts if packed else ())
        torch.testing.assert_close(
            slow.accumulate(batch, share=share, phase=0), fast.accumulate(batch, share=share, phase=0).clone()
        )
    torch.testing.assert_close(gradients(plain), gradients(recorded), rtol=2e-2, atol=1e-3)
    assert len(fast.recordings) == 1
    for model in (plain, recorded):
        model.zero_grad()
    slow.accumulate(batch, share=1, phase=0)
    fast.accumulate(batch, share=1, phase=0)
    torch.testing.assert_close(gradients(plain), gradients(recorded), rtol=2e-2, atol=1e-3)
    fast.accumulate(batch_of(4, "cuda", (9,) if packed else ()), share=1, phase=1)
    assert len(fast.recordings) == 2

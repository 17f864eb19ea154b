"""One forward and backward pass, plain and recorded."""

import pytest
import torch

from paramgolf.batch import Batch
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.train.microstep import PlainMicroStep, RecordedMicroStep, clear_gradients


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
    total = sum(step(batch_of(seed, "cpu"), share=2, phase=0) for seed in (1, 2))
    once = sum(model.loss(batch_of(seed, "cpu")) for seed in (1, 2)) / 2
    torch.testing.assert_close(total, once.detach())
    added = gradients(model)
    clear_gradients(list(model.parameters()), keep=False)
    once.backward()
    torch.testing.assert_close(added, gradients(model))


def test_kept_gradients_are_zeroed_in_place():
    model = tiny("cpu")
    model.loss(batch_of(1, "cpu")).backward()
    places = [parameter.grad.data_ptr() for parameter in model.parameters()]
    clear_gradients(list(model.parameters()), keep=True)
    assert places == [parameter.grad.data_ptr() for parameter in model.parameters()]
    assert not any(gradient.any() for gradient in gradients(model))


@pytest.mark.gpu
@pytest.mark.parametrize("packed", [False, True])
def test_a_recording_does_what_it_recorded(packed: bool):
    plain, recorded = tiny("cuda"), tiny("cuda")
    plain.compute = recorded.compute = torch.bfloat16
    slow, fast = PlainMicroStep(plain.loss), RecordedMicroStep(recorded.loss, list(recorded.parameters()))
    for seed, share, cuts in ((1, 1, (40, 90)), (2, 4, (7,)), (3, 4, (100, 120, 125)), (1, 1, (40, 90))):
        batch = batch_of(seed, "cuda", cuts if packed else ())
        torch.testing.assert_close(slow(batch, share=share, phase=0), fast(batch, share=share, phase=0).clone())
    torch.testing.assert_close(gradients(plain), gradients(recorded), rtol=2e-2, atol=1e-3)
    assert len(fast.recordings) == 1
    fast(batch_of(4, "cuda", (9,) if packed else ()), share=1, phase=1)
    assert len(fast.recordings) == 2

"""Products of 8-bit numbers against their plain twins and against exact ones."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from kernel_inputs import error, on_gpu

from paramgolf.batch import Batch
from paramgolf.model.fused import FUSED
from paramgolf.model.gpt import GPT
from paramgolf.model.kernels.eight_bits import (
    NORM_STEP,
    eight_bit_product,
    eight_bit_rows,
    norm_codes,
    plain_eight_bit_product,
    takes_eight_bits,
    weight_codes,
)
from paramgolf.model.kernels.squared_feed_forward import packed_square, squared_up_eight_bits
from paramgolf.model.slots import Straight
from paramgolf.presets import preset
from paramgolf.techniques.model import TwoLanes


def test_products_of_8_bit_numbers_come_near_and_have_the_gradients_of_the_exact_ones() -> None:
    generator = torch.Generator().manual_seed(7)
    x = F.rms_norm(torch.randn(48, 512, generator=generator), (512,)).bfloat16().requires_grad_()
    weight = (0.04 * torch.randn(64, 512, generator=generator)).bfloat16().requires_grad_()
    assert takes_eight_bits(weight)
    assert not takes_eight_bits(weight.detach())
    found, exact = eight_bit_product(x, weight), x.float() @ weight.float().T
    assert error(found, plain_eight_bit_product(x, weight)) < 4e-3
    assert 1e-2 < error(found, exact) < 5e-2
    given = torch.randn(48, 64, generator=generator)
    for mine, plain in zip(
        torch.autograd.grad(found, (x, weight), given.bfloat16()),
        torch.autograd.grad(exact, (x, weight), given),
        strict=True,
    ):
        assert error(mine, plain) < 1e-2


def test_codes_of_8_bits_are_cut_off_instead_of_lost() -> None:
    """The largest number that a norm of 512 channels can leave fits; beyond e4m3 there would be NaN."""
    assert norm_codes(torch.tensor([512**0.5])).float().item() * NORM_STEP == pytest.approx(512**0.5, rel=0.07)
    assert norm_codes(torch.tensor([1e6, -1e6])).float().tolist() == [448.0, -448.0]
    codes, step = weight_codes(torch.tensor([[0.0, 0.0], [0.0, 0.0]]))
    assert (codes.float() * step).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.gpu
def test_products_of_8_bit_numbers_equal_their_twins_on_the_device() -> None:
    x, weight = F.rms_norm(on_gpu(1000, 512), (512,)), on_gpu(1536, 512, scale=0.04)
    assert error(eight_bit_rows(x, weight), plain_eight_bit_product(x, weight)) < 5e-3
    codes, step = weight_codes(weight)
    squared = squared_up_eight_bits(norm_codes(x), codes, step * NORM_STEP, 0.5)
    assert error(squared, packed_square(plain_eight_bit_product(x, weight), 0.5)) < 5e-3


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_learns_in_8_bits_what_it_learns_in_16(compiled: bool) -> None:
    """Six steps of the record's layers on one batch: the losses fall together."""
    shape = replace(preset("pr1855").model, layers=3, order=Straight(), stream=TwoLanes(last=1), context=512)
    ids = torch.randint(2, shape.vocab, (1, 512), device="cuda", generator=torch.Generator("cuda").manual_seed(8))
    batch, last = Batch(ids, ids.roll(-1)), []
    for fused in (FUSED, (*FUSED, "fp8")):
        torch.manual_seed(9)
        model = GPT(replace(shape, fused=fused, backend="sdpa"))
        model.reset()
        model.cuda().compute = torch.bfloat16
        loss_of = torch.compile(model.loss, fullgraph=True) if compiled else model.loss
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        for _ in range(6):
            optimizer.zero_grad()
            loss = loss_of(batch)
            loss.backward()
            optimizer.step()
        last.append(float(loss))
    assert last[0] < 6
    assert last[1] == pytest.approx(last[0], rel=0.05)

"""Calibration and export from a GPU, in bf16: what is collected is what the CPU collects, and is kept on the CPU."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_run

from paramgolf.batch import Batch
from paramgolf.model.gpt import GPT
from paramgolf.quant.calibrate import collect_hessians
from paramgolf.quant.plan import QuantConfig, quantize
from paramgolf.stages import fresh_model
from paramgolf.techniques.quant import GPTQ, LQER, AdaptiveClip, AWQLite, SDClip, SelfGenerated, SmallInt8
from paramgolf.train.distributed import Place

CONFIG = QuantConfig(
    attention=GPTQ(clip=SDClip()),
    mlp=GPTQ(clip=SDClip()),
    embed=GPTQ(bits=7, clip=SDClip()),
    scale=SmallInt8(),
    allocate=AdaptiveClip(),
    refine=(AWQLite(width=4), LQER(rank=2, group=2, weighted=True)),
)


def model_on(device: str) -> GPT:
    run = tiny_run()
    model = fresh_model(replace(run, model=replace(run.model, dim=64)), Place(torch.device(device)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator).to(device))
    return model


@pytest.mark.gpu
def test_a_gpu_collects_what_the_cpu_does():
    ids = torch.randint(4, 260, (8, 33), generator=torch.Generator().manual_seed(1))
    seen = {
        device: collect_hessians(
            model_on(device), [Batch(ids[:, :-1], ids[:, 1:]).to(torch.device(device))], QuantConfig(mlp=GPTQ())
        )
        for device in ("cpu", "cuda")
    }
    for name, hessian in seen["cpu"].items():
        assert seen["cuda"][name].device.type == "cpu"
        torch.testing.assert_close(seen["cuda"][name], hessian, rtol=0.05, atol=0.05 * float(hessian.diagonal().mean()))


@pytest.mark.gpu
def test_a_model_on_a_gpu_is_kept_on_the_cpu():
    model = model_on("cuda")
    text = SelfGenerated(sequences=4, length=20, together=4).batches(model, iter(()))
    stored = quantize(model, CONFIG, collect_hessians(model, text, CONFIG))
    for name, parameter in model.named_parameters():
        kept = stored[name].dense()
        assert kept.device.type == "cpu"
        assert kept.shape == parameter.shape

"""Calibration and export from a GPU, in bf16: what is collected is what the CPU collects, and is kept on the CPU.

The same weights give the same artifact from either, and an artifact the same weights to either, bit for bit.
"""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from tiny import tiny_run

from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.artifact.zlib_coder import ZlibCoder
from paramgolf.batch import Batch
from paramgolf.model.gpt import GPT
from paramgolf.quant.calibrate import collect_hessians
from paramgolf.quant.plan import QuantConfig, quantize, restore
from paramgolf.stages import fresh_model
from paramgolf.stored import Stored
from paramgolf.techniques.artifact import BrotliCoder, MixingCoder
from paramgolf.techniques.quant import (
    GPTQ,
    LQER,
    AdaptiveClip,
    AWQLite,
    Binary,
    Int8Rows,
    RateDistortion,
    SDClip,
    SelfGenerated,
    SmallInt8,
    Ternary,
)
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
        # A model on the CPU asks for deterministic kernels, which leaves none for attention on the GPU.
        for device in ("cuda", "cpu")
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


ARTIFACTS = {
    "stepped": (
        QuantConfig(
            attention=RateDistortion(rows="curvature", columns=True, choose_rate=True),
            mlp=RateDistortion(states=8, rows="curvature", columns=True, choose_rate=True, recenter=True),
            embed=RateDistortion(states=4, choose_rate=True),
            scale=SmallInt8(),
        ),
        MixingCoder(),
    ),
    "grids": (CONFIG, ZlibCoder()),
    "low bits": (QuantConfig(attention=Ternary(), mlp=Binary(), embed=Int8Rows(keep=0)), BrotliCoder()),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifacts_are_the_same_from_and_to_a_gpu(name):
    quant, coder = ARTIFACTS[name]
    ids = torch.randint(4, 260, (8, 33), generator=torch.Generator().manual_seed(1))
    host, device = model_on("cpu"), model_on("cuda")
    hessians = collect_hessians(host, [Batch(ids[:, :-1], ids[:, 1:])], quant)

    def size(stored: Mapping[str, Stored]) -> int:
        return len(pack(stored, expected_of(host), coder=coder, digest="0" * 12))

    made = {
        kind: pack(
            quantize(model, quant, hessians, budget_bytes=40_000, size=size),
            expected_of(model),
            coder=coder,
            digest="0" * 12,
        )
        for kind, model in (("cpu", host), ("cuda", device))
    }
    assert made["cpu"] == made["cuda"]
    for model in (host, device):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        restore(model, unpack(made["cpu"], expected_of(model), digest="0" * 12))
    there = dict(device.named_parameters())
    for name, parameter in host.named_parameters():
        assert there[name].device.type == "cuda"
        assert torch.equal(there[name].detach().cpu().view(torch.int32), parameter.detach().view(torch.int32)), name

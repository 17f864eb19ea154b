"""Presets of published milestones: parameters, settings, and what each changed, as published."""

import pytest
import torch

from paramgolf.config import differences
from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.optim.schedule import Progress
from paramgolf.presets import PRESETS, preset
from paramgolf.presets.packed_era import COLD_ADAPTERS
from paramgolf.run import Run
from paramgolf.techniques.artifact import LzmaCoder
from paramgolf.techniques.data import Packed, Shuffled
from paramgolf.techniques.evaluate import SGDTTT, LoraTTT, PhasedTTT, Sliding
from paramgolf.techniques.model import (
    GatedAttention,
    LeakyReLUSquared,
    ParallelHalves,
    QKGain,
    QKNorm,
    Recurrence,
    Rope,
    SmearV2,
    SparseGate,
    TwoLanes,
)
from paramgolf.techniques.optim import EMA, PolarExpress, RowNorm, Warmdown
from paramgolf.techniques.quant import GPTQ, LQER, SDClip, SmallInt8
from paramgolf.train.growth import SeqGrowth


def on_paper(run: Run) -> GPT:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return GPT(run.model)


PUBLISHED = {
    "baseline": 17_059_912,
    "pr414": 26_993_756,
    "pr549": 26_928_220,
    "pr1019": 27_067_484,
    "pr1218": 34_401_371,
    "pr1394": 35_943_512,
    "pr1493": 35_944_536,
    "pr1530": 35_944_602,
    "pr1626": 35_944_602,
    "pr1736": 35_989_658,
    "pr1787": 35_945_658,
    "pr1851": 35_945_671,
    "pr1855": 35_945_671,
    "pr2014": 35_945_671 + 2,
}
"""Printed by the logs of the records (presets catalogue §0)."""


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_milestones_have_the_published_number_of_parameters(name: str, count: int):
    assert parameter_count(on_paper(preset(name))) == count


@pytest.mark.parametrize(("name", "millions"), [("ternary", 73.7), ("binary", 106.1)])
def test_low_bit_milestones_lack_one_matrix_that_no_layer_brings(name: str, millions: float):
    assert (parameter_count(on_paper(preset(name))) + 8192 * 768) / 1e6 == pytest.approx(millions, abs=0.06)


def changes(old: str, new: str) -> dict[str, object]:
    """What `paramgolf diff` prints, without the names."""
    return {change.path: change.new for change in differences(preset(old), preset(new)) if change.path != "name"}


def test_the_last_record_differs_from_pr1787_as_published():
    assert changes("pr1787", "pr1855") == {
        "model.on_embed.smear_v2": SmearV2(width=12),
        "model.on_heads.sparse_gate.scale": 0.5,
        "optim.token.beta2": 0.99,
        "optim.scalar.beta2": 0.99,
        "optim.schedule.share": 0.85,
        "quant.mlp.clip.sigmas": 11.5,
        "quant.embed.clip.sigmas": 14.0,
        "quant.refine.lqer": LQER(rank=4, top=3, bits=4, group=64),
        "evaluate.protocol.adapters.rank": 80,
        "evaluate.protocol.adapters.weight_decay": 0.5,
        "evaluate.protocol.adapters.beta2": 0.99,
        "evaluate.protocol.prefix": 2500,
    }


def test_side_projections_are_stepped_by_muon_and_from_549_to_1204_by_adamw():
    """Presets catalogue §3, group details."""
    by_adamw = [name for name in PRESETS if preset(name).optim.projections == "scalar"]
    assert by_adamw == ["pr549", "pr1019", "pr1060", "pr1204", "pr2058"]


MILESTONES: dict[tuple[str, str], dict[str, object]] = {
    ("pr414", "pr549"): {
        "model.activation": LeakyReLUSquared(slope=0.5),
        "model.on_embed.bigram_hash.rows": 1536,
        "optim.projections": "scalar",
        "train.steps": 9000,
        "artifact.coder": LzmaCoder(),
        "evaluate.protocol": SGDTTT(lr=0.002),
    },
    ("pr1218", "pr1394"): {
        "data.variant": "sp8192",
        "data.loader": Shuffled(),
        "model.vocab": 8192,
        "model.on_value.value_embedding": None,
        "model.order": Recurrence(first=4, last=5, starts=(0.5, 0.5)),
        "optim.on_update.row_norm": RowNorm(),
        "train.reserve_seconds": 12.0,
        "quant.attention.clip": SDClip(sigmas=12.85),
        "quant.mlp.clip": SDClip(sigmas=12.85),
        "quant.embed": GPTQ(bits=8, clip=SDClip(sigmas=20.0)),
    },
    ("pr1394", "pr1493"): {
        "model.on_qk.qk_gain.start": 5.25,
        "model.stream": ParallelHalves(last=4),
        "model.order.first": 3,
        "model.order.starts": (0.35, 0.35),
        "optim.matrix.lr": 0.022,
        "optim.matrix.weight_decay": 0.095,
        "optim.schedule.share": 0.72,
        "optim.average.decay": 0.9965,
        "evaluate.protocol": SGDTTT(lr=0.005),
    },
    ("pr1493", "pr1530"): {
        "data.loader": Packed(),
        "model.context": 98_304,
        "model.on_qk.qk_gain.start": 5.0,
        "model.stream": TwoLanes(last=3),
        "optim.matrix.momentum": 0.97,
        "train.reserve_seconds": 13.0,
        "evaluate.protocol": LoraTTT(adapters=COLD_ADAPTERS),
    },
    ("pr1530", "pr1626"): {
        "optim.matrix.lr": 0.026,
        "optim.schedule.share": 0.75,
        "train.reserve_seconds": 4.0,
        "quant.attention.clip.sigmas": 13.0,
        "quant.mlp.clip.sigmas": 12.0,
        "quant.embed.bits": 7,
        "quant.embed.clip.sigmas": 15.0,
        "quant.calibration.batches_read": 16,
        "evaluate.protocol": PhasedTTT(adapters=AdapterConfig(weight_decay=0.5, alpha=96.0, warm=False), prefix=2000),
    },
    ("pr1626", "pr1736"): {
        "data.variant": "sp8192_lossless_caps_caseops_v1_reserved",
        "model.on_heads.gated_attention": GatedAttention(std=0.005),
        "quant.gate": SmallInt8(),
    },
    ("pr1736", "pr1787"): {
        "model.on_heads.gated_attention": None,
        "model.on_heads.sparse_gate": SparseGate(width=12, scale=1.0),
        "optim.matrix.quintics": PolarExpress(),
        "optim.schedule.floor": 0.1,
        "train.reserve_seconds": 8.0,
        "train.val_every": 0,
        "evaluate.protocol.adapters.alpha": 144.0,
        "evaluate.protocol.adapters.weight_decay": 1.0,
        "evaluate.protocol.adapters.warm": True,
    },
    ("pr1787", "pr1851"): {
        "model.on_embed.smear_v2": SmearV2(width=12),
        "quant.refine.lqer": LQER(rank=4, top=3, bits=4, group=64),
    },
    ("pr1953", "pr2014"): {
        "train.seq_len": 3072,
        "train.seq_growth": SeqGrowth(earlier=(1024, 2048), until=(0.1, 0.7), rewarm=32),
        "train.reserve_seconds": 4.0,
        "evaluate.protocol.length": 3072,
        "evaluate.protocol.phases": 1,
        "evaluate.protocol.adapters.documents": 24,
        "evaluate.protocol.adapters.short": ("256:8", "2000:24"),
    },
}
"""What each changed against the one before it (presets catalogue, tables A to C; #1394 → #1493 also as #1493's log)."""


@pytest.mark.parametrize(("old", "new"), MILESTONES, ids=" to ".join)
def test_a_milestone_differs_from_the_one_before_it_as_published(old: str, new: str):
    assert changes(old, new) == MILESTONES[old, new]


def test_the_settings_of_pr1493_are_those_its_log_prints():
    """That of seed 42."""
    run = preset("pr1493")
    optim, matrix, model = run.optim, run.optim.matrix, run.model
    assert (optim.token.lr, matrix.lr, optim.scalar.lr, optim.clip) == (0.03, 0.022, 0.02, 0.3)
    assert (optim.token.weight_decay, matrix.weight_decay, optim.scalar.weight_decay) == (0.085, 0.095, 0.02)
    assert (matrix.momentum, matrix.momentum_start, matrix.momentum_steps, matrix.steps) == (0.99, 0.92, 1500, 5)
    assert {(group.beta1, group.beta2, group.eps) for group in (optim.token, optim.scalar)} == {(0.9, 0.95, 1e-8)}
    assert (optim.schedule, optim.average) == (Warmdown(share=0.72, floor=0.0), EMA(decay=0.9965))
    assert model.on_qk == (QKNorm(), Rope(channels=16), QKGain(start=5.25))
    assert tuple(model.order(11, 0.35)) == (0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9, 10)
    assert (run.train.batch_tokens, run.train.seq_len, run.train.val_every, run.train.warmup) == (
        786_432,
        2048,
        4000,
        20,
    )
    assert run.contest.train_seconds - run.train.reserve_seconds == 588


def test_the_settings_of_the_last_record():
    """Presets catalogue §5."""
    run = preset("pr1855")
    optim, model = run.optim, run.model
    assert (optim.token.lr, optim.matrix.lr, optim.scalar.lr, optim.clip) == (0.03, 0.026, 0.02, 0.3)
    assert (optim.token.weight_decay, optim.matrix.weight_decay, optim.scalar.weight_decay) == (0.085, 0.095, 0.02)
    matrix = optim.matrix
    assert (matrix.momentum, matrix.momentum_start, matrix.momentum_steps, matrix.steps) == (0.97, 0.92, 1500, 5)
    assert (optim.schedule, optim.average) == (Warmdown(share=0.85, floor=0.1), EMA(decay=0.9965))
    assert (run.train.batch_tokens, run.train.device_tokens, run.train.seq_len) == (786_432, 98_304, 2048)
    assert [len(model.order(11, done)) for done in (0.0, 0.349, 0.35, 1.0)] == [11, 11, 17, 17]
    assert (model.layers, model.dim, model.heads, model.kv_heads, model.vocab) == (11, 512, 8, 4, 8192)
    scales = [optim.schedule(Progress(done, 0, 0.0)) for done in (0.15, 0.575, 0.915, 1.0)]
    assert scales == pytest.approx([1.0, 0.5, 0.1, 0.1])  # training catalogue §11


def test_the_export_of_the_last_record():
    """Presets catalogue §5."""
    quant = preset("pr1855").quant
    assert quant.attention == GPTQ(bits=6, clip=SDClip(sigmas=13.0))
    assert quant.mlp == GPTQ(bits=6, clip=SDClip(sigmas=11.5))
    assert quant.embed == GPTQ(bits=7, clip=SDClip(sigmas=14.0))
    assert quant.gate == SmallInt8()
    assert quant.refine == (LQER(rank=4, top=3, bits=4, group=64),)
    assert preset("pr1855@h100").quant == quant


def test_the_evaluations_that_ran():
    """Presets catalogue §4, table C."""
    sgd = {name: preset(name).evaluate.protocol for name in ("pr549", "pr1413", "pr1493")}
    assert {name: (p.lr, p.epochs, p.chunk, p.momentum, p.rows, p.clip) for name, p in sgd.items()} == {
        "pr549": (0.002, 3, 32_768, 0.9, 32, 1.0),
        "pr1413": (0.005, 3, 32_768, 0.9, 32, 1.0),
        "pr1493": (0.005, 3, 32_768, 0.9, 32, 1.0),
    }
    assert all(isinstance(p, SGDTTT) for p in sgd.values())
    for name in ("pr414", "pr1019", "pr1060", "pr1218", "pr1394"):
        assert preset(name).evaluate.protocol == Sliding(stride=64)
    last = preset("pr1855").evaluate.protocol
    assert (last.phases, last.prefix, last.lr, last.momentum, last.step_tokens) == (3, 2500, 0.001, 0.9, 32_768)
    adapters = last.adapters
    assert (adapters.rank, adapters.alpha, adapters.lr, adapters.chunk, adapters.documents) == (80, 144, 1e-4, 48, 64)
    assert (adapters.beta1, adapters.beta2, adapters.weight_decay, adapters.warm) == (0.0, 0.99, 0.5, True)

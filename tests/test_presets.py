import inspect
from dataclasses import replace

import pytest
import torch

from paramgolf.bundle.reduce import reduced_run
from paramgolf.config import differences, overridden
from paramgolf.errors import UsageError
from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Role, declared
from paramgolf.presets import PRESETS, preset
from paramgolf.presets.proxy import Proxy
from paramgolf.run import Run
from paramgolf.techniques.evaluate import SGDTTT, PhasedTTT, Sliding
from paramgolf.techniques.model import SmearV2
from paramgolf.techniques.optim import EMA, Warmdown
from paramgolf.techniques.quant import GPTQ, LQER, SDClip, SmallInt8
from paramgolf.train.growth import SeqGrowth


def on_paper(run: Run) -> GPT:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return GPT(run.model)


def test_the_baseline_has_the_published_number_of_parameters():
    assert parameter_count(on_paper(preset("baseline"))) == 17_059_912


def test_the_baselines_parameters_by_role():
    """Architecture catalogue §1."""
    sizes: dict[Role, int] = {}
    for _, parameter, role in declared(on_paper(preset("baseline"))):
        sizes[role] = sizes.get(role, 0) + parameter.numel()
    assert sizes == {
        Role.EMBED: 1024 * 512,
        Role.ATTENTION: 9 * (2 * 512 * 512 + 2 * 512 * 256),
        Role.MLP: 9 * 2 * 512 * 1024,
        Role.SCALE: 9 * (8 + 4 * 512) + 4 * 512,
    }


def test_the_baselines_published_settings():
    run = preset("baseline")
    assert (run.train.batch_tokens, run.train.seq_len, run.train.warmup, run.seed) == (524_288, 1024, 20, 1337)
    assert (run.optim.matrix.lr, run.optim.token.lr, run.optim.scalar.lr) == (0.04, 0.05, 0.04)
    assert (run.contest.artifact_bytes, run.contest.train_seconds) == (16_000_000, 600.0)
    assert run.optim.clip == 0.0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_function_of_its_name_with_a_description(name: str):
    assert preset(name) == preset(name) == PRESETS[name]()
    assert preset(name).name == name
    assert len(inspect.getdoc(PRESETS[name]) or "") > 20


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_built_and_shared_out(name: str):
    run = preset(name)
    model = on_paper(run)
    assert parameter_count(model) > 0
    for world in (1, 2, 4, 8):
        assert run.train.accumulation(world) * world * run.train.device_tokens >= run.train.batch_tokens
    assert run.longest_row <= run.model.context


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_made_small_enough_for_a_proof(name: str):
    """Windows of scoring and calibration shrink with the rows; what does not fit is refused."""
    small = reduced_run(preset(name))
    assert max(length for _, length in small.rows) <= small.model.context
    assert type(small.evaluate.protocol) is type(preset(name).evaluate.protocol)


def test_presets_are_told_apart_by_their_digests():
    assert len({preset(name).digest for name in PRESETS}) == len(PRESETS)
    changed = differences(preset("baseline"), preset("demo"))
    assert {"model.dim", "train.steps", "contest.artifact_bytes"} <= {change.path for change in changed}


def test_a_miss_suggests_the_nearest():
    with pytest.raises(UsageError, match="no preset is called 'basline'; did you mean 'baseline'"):
        preset("basline")
    with pytest.raises(UsageError) as caught:
        preset("zzz")
    assert "did you mean" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_demo_repeats_bit_for_bit_and_fits_a_laptop():
    run = preset("demo")
    assert run.train.by == "steps"
    assert run.optim.matrix.precision == "float32"
    assert parameter_count(on_paper(run)) < 5_000_000
    assert replace(run, name="x").digest == run.digest


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


def test_steps_between_milestones_are_small():
    assert changes("pr1530", "pr1626") == {
        "optim.matrix.lr": 0.026,
        "optim.schedule.share": 0.75,
        "train.reserve_seconds": 4.0,
        "quant.attention.clip.sigmas": 13.0,
        "quant.mlp.clip.sigmas": 12.0,
        "quant.embed.bits": 7,
        "quant.embed.clip.sigmas": 15.0,
        "quant.calibration.batches_read": 16,
        "evaluate.protocol": PhasedTTT(adapters=AdapterConfig(weight_decay=0.5, alpha=96.0, warm=False), prefix=2000),
    }
    assert changes("pr1851", "pr1855").keys() < changes("pr1787", "pr1855").keys()
    assert changes("pr1953", "pr2014") == {
        "train.seq_len": 3072,
        "train.seq_growth": SeqGrowth(earlier=(1024, 2048), until=(0.1, 0.7), rewarm=32),
        "train.reserve_seconds": 4.0,
        "evaluate.protocol.length": 3072,
        "evaluate.protocol.phases": 1,
        "evaluate.protocol.adapters.documents": 24,
        "evaluate.protocol.adapters.short": ("256:8", "2000:24"),
    }


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


@pytest.mark.parametrize("name", ["baseline", "pr414", "pr1218", "pr1394", "pr1855", "pr2014"])
def test_the_proxy_contest_changes_what_counts_steps_or_devices(name: str):
    full, proxy = preset(name), preset(f"{name}@h100")
    allowed = {"contest", "name", "data.loader", "train.batch_tokens", "train.device_tokens", "train.seq_growth"}
    allowed |= {"optim.matrix.momentum_steps", "optim.average", "optim.schedule.iterations"}
    for change in differences(full, proxy):
        assert any(change.path == path or change.path.startswith(f"{path}.") for path in allowed), change
    assert proxy.contest.devices == 1
    assert proxy.contest.artifact_bytes == full.contest.artifact_bytes
    assert proxy.name == f"{name}@h100"
    assert proxy.train.accumulation(1) >= 1


def test_the_proxy_scales_by_the_ratio_of_steps_unless_told():
    proxy = preset("pr1855@h100")  # 1/8 of the devices, half the time, a quarter of the batch: a quarter of the steps
    assert proxy.optim.matrix.momentum_steps == 375
    assert 1 / (1 - proxy.optim.average.decay) == pytest.approx(286 / 4, rel=0.01)
    told = Proxy(batch_tokens=98_304, momentum_steps=100, ema_horizon=50.0)(preset("pr1855"))
    assert (told.optim.matrix.momentum_steps, told.optim.average.decay) == (100, 0.98)
    assert told.train.accumulation(1) == 1
    assert Proxy(step_ratio=0.1)(preset("pr1855")).optim.matrix.momentum_steps == 150


def test_a_proxy_of_another_batch_divides_it_into_equal_parts():
    run = preset("baseline@h100/98304")  # a device takes 65,536: two halves, and half of twice as many steps
    assert (run.train.batch_tokens, run.train.device_tokens, run.name) == (98_304, 49_152, "baseline@h100-98304")
    assert run.optim.schedule.iterations == 2 * preset("baseline@h100").optim.schedule.iterations  # type: ignore[attr-defined]


def test_a_proxy_nobody_knows_is_refused():
    with pytest.raises(UsageError, match="multiples of seq_len"):
        preset("pr1855@h100/100000")
    with pytest.raises(UsageError, match="no proxy contest is called 'h100/many'"):
        preset("pr1855@h100/many")
    with pytest.raises(UsageError, match="no proxy contest is called 'h10'; did you mean 'h100'"):
        preset("pr1855@h10")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quant.attention.group": 64}, "quant.attention would keep weights as ternary in groups of 64, model.linear"),
        (
            {"quant.mlp": "binary"},
            "quant.mlp would keep weights as binary in groups of 128, model.linear trains them as",
        ),
        ({"model.linear": "binary_linear"}, "trains them as binary in groups of 128"),
        ({"optim.average": "ema"}, r"does not go with the ternary weights of model.linear: .*\+0.13"),
    ],
)
def test_what_spoils_ternary_weights_is_refused(changes: dict[str, str], reason: str):
    with pytest.raises(UsageError, match=reason):
        overridden(preset("ternary"), [f"{path}={value}" for path, value in changes.items()])


@pytest.mark.parametrize("setting", ["quant.mlp=int8_rows", "quant.embed=binary", "model.linear=dense_linear"])
def test_other_ways_to_keep_weights_go_with_ternary_ones(setting: str):
    assert overridden(preset("ternary"), [setting]) != preset("ternary")

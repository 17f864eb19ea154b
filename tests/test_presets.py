import inspect
from dataclasses import replace

import pytest
import torch

from paramgolf.bundle.reduce import reduced_run
from paramgolf.config import differences, overridden
from paramgolf.errors import UsageError
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.parts import Role, declared
from paramgolf.presets import PRESETS, preset
from paramgolf.presets.proxy import Proxy
from paramgolf.run import Run


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

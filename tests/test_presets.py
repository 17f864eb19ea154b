import inspect
from dataclasses import replace

import pytest
import torch

from paramgolf.config import differences
from paramgolf.errors import UsageError
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.parts import Role, declared
from paramgolf.presets import PRESETS, preset
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

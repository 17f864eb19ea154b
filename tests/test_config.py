import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paramgolf.techniques  # noqa: F401  fills the registry
from paramgolf.config import (
    Change,
    differences,
    digest,
    from_toml,
    overridden,
    override,
    source,
    to_toml,
)
from paramgolf.contest import Contest
from paramgolf.errors import UsageError
from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.model.config import GPTConfig
from paramgolf.model.mlp import GELU, FeedForward
from paramgolf.model.slots import MeanNats, OneLane
from paramgolf.optim.adam import AdamConfig
from paramgolf.optim.groups import OptimConfig
from paramgolf.presets import preset
from paramgolf.run import Run
from paramgolf.techniques.data import Coprime, Packed
from paramgolf.techniques.evaluate import SGDTTT, PhasedTTT, Sliding
from paramgolf.techniques.model import QKGain, QKNorm, Rope, TanhSoftcap
from paramgolf.train.config import TrainConfig

BASE = preset("baseline")


@dataclass(frozen=True, kw_only=True)
class Inner:
    number: int = 3
    ratio: float = 0.5
    maybe: float | None = None
    mode: Literal["fast", "slow"] = "fast"
    bits: Literal[16, 32] = 16
    flag: bool = False
    label: str = "x"
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    needed: int


OUTER = Outer(needed=1)


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("inner.number=7", "number", 7),
        ("inner.number=-1_000", "number", -1000),
        ("inner.ratio=2", "ratio", 2.0),
        ("inner.ratio=1e-3", "ratio", 0.001),
        ("inner.maybe=none", "maybe", None),
        ("inner.maybe=0.25", "maybe", 0.25),
        ("inner.mode=slow", "mode", "slow"),
        ("inner.bits=32", "bits", 32),
        ("inner.flag=TRUE", "flag", True),
        ("inner.label=a=b, c", "label", "a=b, c"),
        (" inner.label = ", "label", ""),
        ("inner.sizes=1,2, 3", "sizes", (1, 2, 3)),
        ("inner.sizes=(4)", "sizes", (4,)),
        ("inner.sizes=", "sizes", ()),
    ],
)
def test_a_setting_takes_the_type_of_its_field(setting, path, value):
    changed = getattr(override(OUTER, setting).inner, path)
    assert changed == value
    assert type(changed) is type(value)
    assert override(OUTER, setting) == replace(OUTER, inner=replace(OUTER.inner, **{path: value}))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("inner.number", "not of the form path=value"),
        ("inner.nmber=3", "did you mean 'number'?"),
        ("iner.number=3", "did you mean 'inner'?"),
        ("inner.number=3.5", "is not of type int"),
        ("inner.number=", "is not of type int"),
        ("inner.ratio=big", "is not of type float"),
        ("inner.ratio=nan", "not a finite number"),
        ("inner.maybe=inf", "not a finite number"),
        ("inner.ratio=1e999", "not a finite number"),
        ("inner.mode=fats", "did you mean 'fast'?"),
        ("inner.bits=8", "none of 16, 32"),
        ("inner.flag=yes", "is not of type bool"),
        ("inner.number.digits=3", "has no fields"),
        ("inner..number=3", "has no field ''"),
        ("=3", "has no field ''"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest_word(setting, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        override(OUTER, setting)


def test_techniques_are_set_by_name():
    assert override(BASE, "model.on_qk=rope,qk_norm").model.on_qk == (Rope(), QKNorm())
    assert override(BASE, "model.on_qk=").model.on_qk == ()
    assert override(BASE, "model.softcap=none").model.softcap is None
    assert override(BASE, "model.activation=gelu").model.activation == GELU()
    assert override(BASE, "model.softcap.cap=20").model.softcap == TanhSoftcap(cap=20.0)
    deeper = override(BASE, "model.on_qk.qk_gain.start=4.0").model.on_qk
    assert deeper == (QKNorm(), Rope(), QKGain(start=4.0))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.on_qk=ropes", "did you mean 'rope'?"),
        ("model.on_qk=gelu", "fills model.activation, not model.on_qk"),
        ("model.on_qk.ropee.base=1", "did you mean 'rope'?"),
        ("model.on_qk.rope=1", "is a technique, not a value"),
        ("model.on_qk.rope.bse=1", "did you mean 'base'?"),
        ("model.on_heads.xsa.last=1", "holds nothing"),
        ("model.heads=3", "model.heads: 512 channels, 3 heads"),
        ("model.layers=0", "model.layers: layers=0 is not positive"),
        ("model.heads=0", "model.heads: heads=0 is not positive"),
        ("train.steps=0", "steps=0 is not positive"),
        ("train.seq_len=0", "seq_len=0 is not positive"),
        ("train.seq_len=2048", "exceed model.context=1024"),
        ("data.loader=packed", "training rows of 65536 tokens exceed"),
        ("quant.calibration=self_generated", "rows of quant.calibration.length of 2047 tokens exceed"),
        ("evaluate.protocol.length=2000", "windows of evaluate.protocol.length of 2000 tokens exceed"),
        ("train.reserve_seconds=600", "leaves nothing"),
        ("contest.train_seconds=0", "train_seconds=0.0 is not positive"),
        ("contest.devices=0", "devices=0 is not positive"),
        ("train.warmup=-1", "warmup=-1 is negative"),
        ("optim.clip=-1", "clip=-1.0 is negative"),
        ("evaluate.batch_tokens=0", "batch_tokens=0 is not positive"),
        ("seed=-1", "seed=-1 is negative"),
        ("evaluate.protocol.length=-1", "length=-1 is negative"),
    ],
)
def test_a_run_refuses_what_cannot_work(setting, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        override(BASE, setting)


@pytest.mark.parametrize(
    ("filler", "settings", "said"),
    [
        (Sliding, {"stride": 0}, "stride=0 is not positive"),
        (Sliding, {"stride": -3}, "stride=-3 is not positive"),
        (Sliding, {"length": -1}, "length=-1 is negative"),
        (SGDTTT, {"momentum": 1.0}, "momentum=1.0 is not from 0 to below 1"),
        (PhasedTTT, {"lr": -0.1}, "lr=-0.1 is negative"),
        (AdapterConfig, {"beta2": 1.0}, "beta2=1.0 is not from 0 to below 1"),
        (Packed, {"ahead": -1}, "ahead=-1 is negative"),
        (Coprime, {"least_shards": 0}, "least_shards=0 is not positive"),
    ],
)
def test_techniques_refuse_what_cannot_work(filler, settings, said):
    with pytest.raises(ValueError, match=said):
        filler(**settings)


def test_settings_that_fit_only_together_come_in_any_order():
    both = ["train.seq_len=2048", "model.context=2048"]
    assert overridden(BASE, both) == overridden(BASE, both[::-1])
    assert overridden(BASE, both).train.seq_len == 2048
    with pytest.raises(UsageError, match="exceed"):
        overridden(BASE, ["seed=5", both[0]])
    with pytest.raises(UsageError, match="no field 'sed'"):
        overridden(BASE, ["sed=5", both[0]])


def test_three_settings_that_fit_only_together():
    groups = ["model.linear.group=64", "quant.attention.group=64", "quant.mlp.group=64"]
    for order in (groups, groups[::-1], [groups[1], "seed=3", groups[0], groups[2]]):
        run = overridden(preset("ternary"), order)
        assert (run.model.linear.group, run.quant.attention.group, run.quant.mlp.group) == (64, 64, 64)
    with pytest.raises(UsageError, match=r"model: quant\.attention would keep .* groups of 128, .* 64"):
        overridden(preset("ternary"), [groups[0], groups[2]])
    with pytest.raises(UsageError, match="no field 'goup'"):
        overridden(preset("ternary"), [*groups[:2], "quant.mlp.goup=64"])


def test_of_two_settings_of_one_path_the_later_holds():
    assert overridden(BASE, ["seed=1", "seed=2"]).seed == 2
    assert overridden(BASE, ["train.seq_len=2048", "model.context=4096", "train.seq_len=512"]).train.seq_len == 512


@pytest.mark.parametrize("name", ["demo", "baseline"])
def test_source_rebuilds_the_run(name):
    run = preset(name)
    classes = {type(part).__name__: type(part) for part in parts(run)}
    assert eval(source(run), classes) == run


def parts(config):
    yield config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(item):
                yield from parts(item)


def test_the_digest_is_of_the_configuration_alone():
    assert replace(BASE, name="other", seed=3).digest == BASE.digest
    assert replace(BASE, train=replace(BASE.train, steps=1)).digest != BASE.digest
    assert len(BASE.digest) == 12


def test_equal_configs_have_equal_digests():
    """A whole number in a float field: equal to Python, and what TOML gives back is a float."""
    whole = replace(BASE, model=replace(BASE.model, softcap=TanhSoftcap(cap=30), mlp=FeedForward(mult=2)))
    assert whole == BASE
    assert digest(whole) == digest(BASE)
    assert from_toml(Run, to_toml(whole)).digest == whole.digest


numbers = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(
    Inner,
    number=st.integers(-(2**63), 2**63 - 1),
    ratio=numbers,
    maybe=st.none() | numbers,
    mode=st.sampled_from(["fast", "slow"]),
    bits=st.sampled_from([16, 32]),
    flag=st.booleans(),
    label=st.text(st.characters(exclude_categories=["Cs"])),
    sizes=st.lists(st.integers(-5, 5)).map(tuple),
)


@given(inner=inners)
@settings(max_examples=150)
def test_toml_gives_back_every_value(inner):
    outer = Outer(inner=inner, needed=2)
    read = from_toml(Outer, to_toml(outer))
    assert read == outer
    assert source(read) == source(outer)
    assert math.copysign(1, read.inner.ratio) == math.copysign(1, inner.ratio)


@pytest.mark.parametrize("name", ["demo", "baseline"])
def test_toml_gives_back_presets(name):
    run = preset(name)
    assert from_toml(Run, to_toml(run)) == run


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 1337", "seed = ", "not TOML"),
        ("seed = 1337", "sed = 1337", "did you mean 'seed'"),
        ("seed = 1337", 'seed = "1337"', "is not of type int"),
        ("seed = 1337", "seed = true", "is not of type int"),
        ("seed = 1337", "seed = 1.0", "is not of type int"),
        ("seed = 1337", "seed = [1]", "is not of type int"),
        ("cap = 30.0", "cap = nan", "not a finite number"),
        ('by = "clock"', 'by = "clocks"', "none of clock, steps"),
        ('technique = "tanh_softcap"', 'technique = "tanh_softcp"', "did you mean 'tanh_softcap'"),
        ('technique = "tanh_softcap"', 'technique = "gelu"', "fills model.activation, not model.softcap"),
        ('technique = "tanh_softcap"\n', "", "does not say which technique"),
        ("on_heads = []", "on_heads = 3", "must be a list"),
        ("heads = 8", "heads = 7", "do not divide"),
    ],
)
def test_toml_that_does_not_fit_is_refused(old, new, said):
    text = to_toml(BASE)
    assert old in text
    with pytest.raises(UsageError, match=said):
        from_toml(Run, text.replace(old, new, 1))


def test_a_missing_field_is_refused_by_name():
    with pytest.raises(UsageError, match="needed"):
        from_toml(Outer, "")


def test_differences_are_told_by_path():
    other = replace(
        BASE,
        contest=replace(BASE.contest, train_seconds=300.0),
        model=replace(BASE.model, on_qk=(QKNorm(), Rope(base=5.0)), softcap=None),
        evaluate=replace(BASE.evaluate, protocol=Sliding()),
    )
    assert {change.path: change for change in differences(BASE, other)} == {
        "contest.train_seconds": Change("contest.train_seconds", 600.0, 300.0),
        "model.on_qk.rope.base": Change("model.on_qk.rope.base", 10_000.0, 5.0),
        "model.on_qk.qk_gain": Change("model.on_qk.qk_gain", QKGain(start=1.5), None),
        "model.softcap": Change("model.softcap", TanhSoftcap(), None),
        "evaluate.protocol": Change("evaluate.protocol", BASE.evaluate.protocol, Sliding()),
    }
    assert differences(BASE, BASE) == []


def test_an_order_that_changed_is_a_difference_even_beside_others():
    turned = replace(BASE, model=replace(BASE.model, on_qk=(Rope(base=5.0), QKNorm(), QKGain())))
    assert [change.path for change in differences(BASE, turned)] == ["model.on_qk.rope.base", "model.on_qk"]
    twice = replace(BASE, model=replace(BASE.model, on_qk=(Rope(), Rope())))
    assert [change.path for change in differences(BASE, twice)] == ["model.on_qk"]


def test_defaults_are_the_plain_thing():
    plain = GPTConfig()
    assert (plain.stream, plain.objective, plain.on_qk, plain.softcap) == (OneLane(), MeanNats(), (), None)
    assert OptimConfig().clip == 0.0
    assert AdamConfig().weight_decay == 0.0
    assert Contest().artifact_bytes == 16_000_000
    assert TrainConfig().accumulation(8) == 1


@pytest.mark.parametrize(
    ("batch", "device", "seq_len", "world", "accumulation"),
    [(524_288, 65_536, 1024, 8, 1), (524_288, 65_536, 1024, 1, 8), (512, 4096, 64, 2, 1), (192, 64, 64, 3, 1)],
)
def test_accumulation_makes_up_the_batch(batch, device, seq_len, world, accumulation):
    assert TrainConfig(batch_tokens=batch, device_tokens=device, seq_len=seq_len).accumulation(world) == accumulation


@pytest.mark.parametrize(("batch", "device", "world"), [(512, 512, 3), (640, 384, 1), (128, 512, 4)])
def test_a_batch_that_does_not_divide_is_refused_with_one_that_does(batch, device, world):
    config = TrainConfig(batch_tokens=batch, device_tokens=device, seq_len=64)
    with pytest.raises(UsageError, match="does not divide") as caught:
        config.accumulation(world)
    mended = int(caught.value.fix.rpartition("=")[2])
    assert TrainConfig(batch_tokens=mended, device_tokens=device, seq_len=64).accumulation(world) >= 1

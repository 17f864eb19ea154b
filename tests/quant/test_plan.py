from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from paramgolf.config import override
from paramgolf.errors import ArtifactError, GolfError
from paramgolf.parts import Part, Role, normal
from paramgolf.quant.plan import QuantConfig, planned, quantize, restore
from paramgolf.stored import Grid, Plain
from paramgolf.techniques.quant import Int8Rows, PlainValues


class OneOfEach(Part):
    """A parameter of every role."""

    def __init__(self):
        super().__init__()
        for role in Role:
            shape = (6,) if role is Role.SCALE else (6, 4)
            self.param(role.value, *shape, role=role, init=normal(1.0))
        self.reset()


@dataclass(frozen=True, kw_only=True)
class Demanding(PlainValues):
    needs_hessian: ClassVar[bool] = True


INT8 = Int8Rows(keep=0)


def test_by_default_nothing_is_quantized():
    model = OneOfEach()
    stored = quantize(model, QuantConfig())
    assert list(stored) == [role.value for role in Role]
    assert torch.equal(stored["scale"].dense(), model.scale)
    assert torch.equal(stored["mlp"].dense(), model.mlp.half().float())


@pytest.mark.parametrize(
    ("field", "roles"),
    [
        ("attention", {Role.ATTENTION}),
        ("mlp", {Role.MLP}),
        ("embed", {Role.EMBED, Role.HEAD, Role.TABLE}),
        ("projection", {Role.PROJECTION}),
        ("gate", {Role.GATE}),
        ("scale", {Role.SCALE}),
    ],
)
def test_a_field_is_a_group_of_roles(field, roles):
    config = replace(QuantConfig(), **{field: INT8})
    stored = quantize(OneOfEach(), config)
    assert {name for name, weight in stored.items() if isinstance(weight.terms[0], Grid)} == {
        role.value for role in roles
    }


def test_quantizers_are_set_by_name():
    @dataclass(frozen=True, kw_only=True)
    class Holder:
        quant: QuantConfig = QuantConfig()

    config = override(override(Holder(), "quant.mlp=int8_rows"), "quant.mlp.keep=0").quant
    assert config.mlp == INT8
    assert override(Holder(), "quant.scale.bits=16").quant.scale == PlainValues()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_diverged_is_refused_by_name(value):
    model = OneOfEach()
    with torch.no_grad():
        model.gate[2, 1] = value
    with pytest.raises(GolfError, match="gate holds NaN or infinity") as caught:
        quantize(model, QuantConfig())
    assert "1 of 24" in caught.value.evidence


@pytest.mark.parametrize(
    ("quantizer", "value", "fits"),
    [
        (PlainValues(), 65504.0, True),
        (PlainValues(), 65520.0, False),
        (INT8, 127 * 65504.0, True),
        (INT8, 127 * 65520.0, False),
        (PlainValues(bits=32), 3e38, True),
    ],
)
def test_what_overflows_its_numbers_is_refused_by_name(quantizer, value, fits):
    model = OneOfEach()
    with torch.no_grad():
        model.mlp[2] = value
    config = QuantConfig(mlp=quantizer)
    if fits:
        assert quantize(model, config)["mlp"].dense()[2] == pytest.approx(model.mlp[2].detach(), rel=1e-3)
    else:
        with pytest.raises(GolfError, match="mlp does not fit"):
            quantize(model, config)


def test_a_hessian_that_is_needed_must_be_there():
    config = QuantConfig(mlp=Demanding())
    with pytest.raises(GolfError, match="Hessian of parameter mlp"):
        quantize(OneOfEach(), config)
    quantize(OneOfEach(), config, {"mlp": torch.eye(4)})
    assert [item.declared.name for item in planned(OneOfEach(), config) if item.quantizer.needs_hessian] == ["mlp"]


def test_restore_copies_the_dense_form():
    model, other = OneOfEach(), OneOfEach()
    stored = quantize(model, QuantConfig(mlp=INT8))
    restore(other, stored)
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, stored[name].dense())
    assert torch.equal(quantize(other, QuantConfig())["scale"].dense(), model.scale)


def test_restore_refuses_other_weights_and_leaves_the_model():
    model = OneOfEach()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    stored = quantize(OneOfEach(), QuantConfig())
    missing = {name: weight for name, weight in stored.items() if name != "gate"}
    with pytest.raises(ArtifactError, match="not those of this model") as caught:
        restore(model, missing)
    assert "gate" in caught.value.evidence
    misshapen = stored | {"scale": stored["scale"]._replace(shape=(1, 6))}
    with pytest.raises(ArtifactError, match="scale has another shape"):
        restore(model, misshapen)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert isinstance(stored["gate"].terms[0], Plain)

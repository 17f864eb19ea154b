"""The contract of every slot of export, over whatever is registered for it: quantizers, clips, whole models, coders."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from probes import registered
from torch import Tensor

from paramgolf.artifact.container import expected_of, pack, unpack
from paramgolf.errors import ArtifactError
from paramgolf.parts import Part, Role, normal
from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.slots import QuantItem
from paramgolf.registry import Entry
from paramgolf.stored import Stored
from paramgolf.techniques.quant import GPTQ, SDClip

quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


# quant.*

NEAR = {"ternary": 0.7, "binary": 0.7}
"""Share of a weight's norm that may be lost where that is not a fifth: these are for weights trained to be so."""
SHAPES = [(), (1,), (7,), (0, 3), (1, 1), (5, 1), (1, 9), (24, 16), (16, 24), (3, 4, 6)]


def hessian_of(entry: Entry, columns: int) -> Tensor | None:
    if not entry.config().needs_hessian:
        return None
    inputs = torch.randn(columns + 8, columns, generator=torch.Generator().manual_seed(1))
    return inputs.mT @ inputs


@pytest.mark.parametrize("entry", registered("quant.attention"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1e-4, 0.05, 1.0, 300.0])
def test_quantizers_keep_what_they_were_given(entry: Entry, shape: tuple[int, ...], size: float):
    """Deterministic, near, on the CPU, and the artifact gives back the very bits."""
    model = Part()
    model.param("weight", *shape, role=Role.ATTENTION, init=normal(size))
    torch.manual_seed(0)
    model.reset()
    weight: Tensor = model.get_parameter("weight").detach()
    before = weight.clone()
    hessian = hessian_of(entry, shape[-1]) if len(shape) >= 2 else None
    stored, again = (entry.config()(weight, hessian) for _ in range(2))
    dense = stored.dense()
    assert stored.shape == shape == tuple(dense.shape)
    assert torch.equal(dense, again.dense())
    assert torch.equal(weight, before), "the weight itself was changed"
    lost = torch.linalg.vector_norm(dense - weight)
    near = NEAR.get(entry.name, 0.2)
    assert lost <= near * torch.linalg.vector_norm(weight) + 0.004 * weight.numel() ** 0.5
    with torch.no_grad():
        model.get_parameter("weight").add_(1.0)
    assert torch.equal(stored.dense(), dense), "what is stored follows later training"
    expected = expected_of(model)
    artifact = pack({"weight": stored}, expected, coder=None, digest="0" * 12)
    assert unpack(artifact, expected, digest="0" * 12)["weight"].dense().numpy().tobytes() == dense.numpy().tobytes()


# quant.*.clip, quant.allocate, quant.refine, quant.calibration


@pytest.mark.parametrize("entry", registered("quant.mlp.clip"))
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (5, 9)])
def test_clips_give_a_step_for_every_row(entry: Entry, shape: tuple[int, int]):
    clip, weight = entry.config(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if weight.numel():
        weight[-1] = 0.0
    for importance in (None, torch.rand(shape[1], generator=torch.Generator().manual_seed(1))):
        steps = clip(weight, importance, 31)
        assert steps.shape[0] >= 1
        assert steps.shape[1:] == shape[:1]
        assert steps.isfinite().all()
        assert (steps >= 0).all()
        assert (steps[:, :-1] > 0).all() or not weight.numel()
        assert isinstance(clip.by_row, bool)


def quant_items() -> list[QuantItem]:
    """Two matrices that share their inputs, a third, and a vector."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for name, rows, columns in (("a", 24, 16), ("b", 8, 16), ("c", 16, 24)):
        inputs = torch.randn(64, columns, generator=generator) * torch.logspace(-1, 1, columns)
        weight, rows_cost = torch.randn(rows, columns, generator=generator), torch.rand(rows, generator=generator)
        items.append(QuantItem(name, Role.MLP, weight, inputs.mT @ inputs, GPTQ(clip=SDClip()), rows_cost))
    return [*items, QuantItem("gain", Role.SCALE, torch.ones(5), None, PlainValues(bits=32))]


def kept_bytes(stored: Mapping[str, Stored]) -> int:
    return sum(
        array.numel() * array.element_size() for each in stored.values() for t in each.terms for array in t.arrays()
    )


def whole_model_outcomes(entry: Entry, budget: int | None) -> dict[str, Stored]:
    items, filler = quant_items(), entry.config()
    if entry.fills == "quant.allocate":
        return filler(items, budget, kept_bytes)
    return filler(items, {item.name: item.alone() for item in items}, budget, kept_bytes)


@pytest.mark.parametrize("slot", ["quant.allocate", "quant.refine"])
@pytest.mark.parametrize("budget", [None, 1200])
def test_whole_models_stay_whole(slot: str, budget: int | None):
    """Not parametrized over the registry, which may hold none."""
    for entry in (parameter.values[0] for parameter in registered(slot)):
        stored, again = (whole_model_outcomes(entry, budget) for _ in range(2))
        assert isinstance(entry.config().needs_hessian, bool)
        assert list(stored) == ["a", "b", "c", "gain"]
        for item in quant_items():
            dense = stored[item.name].dense()
            assert dense.shape == item.weight.shape
            assert torch.equal(dense, again[item.name].dense()), entry.name
            assert torch.linalg.vector_norm(dense - item.weight) < 0.6 * torch.linalg.vector_norm(item.weight)
        assert torch.equal(stored["gain"].dense(), torch.ones(5))


@pytest.mark.parametrize("entry", registered("quant.calibration"))
def test_calibrations_say_whether_they_read_training_text(entry: Entry):
    assert isinstance(entry.config().reads_training_text, bool)


# artifact.coder

STREAMS = st.one_of(
    st.binary(min_size=1, max_size=2000),
    st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=30), st.integers(1, 300)),
)


@pytest.mark.parametrize("entry", registered("artifact.coder"))
@given(data=STREAMS, off=st.integers(-3, 3).filter(bool))
@quick
def test_coders_give_back_every_byte_and_no_other(entry: Entry, data: bytes, off: int):
    coder = entry.config()
    code = coder.encode(data)
    assert code == entry.config().encode(data)
    assert coder.decode(code, len(data)) == data
    for damaged in (code + b"\0", code[:-1]):
        with pytest.raises(ArtifactError):
            coder.decode(damaged, len(data))
    if len(data) + off >= 1:
        with pytest.raises(ArtifactError):
            coder.decode(code, len(data) + off)


def test_coders_have_names_of_their_own():
    identities = [parameter.values[0].config.identity for parameter in registered("artifact.coder")]
    assert len(set(identities)) == len(identities)
    assert all(0 < identity < 256 for identity in identities)

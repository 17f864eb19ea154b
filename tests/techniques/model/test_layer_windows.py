"""Windows by layer, in every backend that knows them."""

import dataclasses

import pytest
import torch
from token_batches import SMALL, packed_documents, plain_rows, random, small_model

from paramgolf.batch import Batch
from paramgolf.errors import UsageError
from paramgolf.model.attention import WINDOWED, attend, choose, plan, preferred, present, takes
from paramgolf.techniques.model import LayerWindows

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [packed_documents((40, 3, 90)), plain_rows(2, 133)], ids=["packed", "rows"])
@pytest.mark.parametrize("backend", WINDOWED)
@pytest.mark.parametrize("window", [1, 7, 200, 0])
def test_a_query_sees_the_last_tokens_of_its_document(backend: str, batch: Batch, window: int, device: str):
    packed = batch.cu_seqlens is not None
    if backend not in present(device) or not takes(backend, packed=packed, windowed=True):
        pytest.skip(f"no {backend} on {device}")
    dtype, width, near = (torch.float32, 16, 1e-5) if device == "cpu" else (torch.bfloat16, 64, 2e-2)
    batch = batch.to(torch.device(device))
    rows, length = batch.ids.shape
    q, k, v = (random(rows, length, n, width, seed=n).to(device, dtype) for n in (4, 2, 2))
    got = attend(q, k, v, plan(backend, batch, (0, window)).within(window)).double()
    segments = batch.segments()
    age = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    seen = (age >= 0) & (age < (window or length)) & (segments[:, :, None] == segments[:, None])
    k, v = (x.repeat_interleave(2, dim=2).double() for x in (k, v))
    scores = torch.einsum("bihe,bjhe->bhij", q.double(), k) / width**0.5
    weights = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1)
    expected = torch.einsum("bhij,bjhe->bihe", weights, v)
    assert (got - expected).norm() / expected.norm() < near


def test_sizes_repeat_over_the_layers():
    config = dataclasses.replace(SMALL, window=LayerWindows(sizes=(3, 5, 0)))
    assert config.windows == (3, 5, 0, 3)
    assert SMALL.windows == (0, 0, 0, 0)


def test_a_token_beyond_all_windows_is_not_seen():
    model = small_model(window=LayerWindows(sizes=(3,)))
    batch = plain_rows(1, 20)
    other = batch._replace(ids=batch.ids.clone())
    other.ids[0, 5] += 1
    with torch.no_grad():
        changed = (model(other) != model(batch))[0].nonzero().flatten().tolist()
    assert changed == list(range(5, 5 + 4 * 2 + 1)), "four layers of window 3 reach 8 tokens back"


def test_backends_without_windows_are_refused_at_once():
    for backend in ("cudnn", "flash", "varlen"):
        with pytest.raises(ValueError, match="knows no windows"):
            dataclasses.replace(SMALL, backend=backend, window=LayerWindows())
        dataclasses.replace(SMALL, backend=backend, window=LayerWindows(sizes=(0,)))
    with pytest.raises(UsageError, match="in windows"):
        choose("cudnn", "cpu", packed=False, windowed=True)
    for device in ("cpu", "cuda", "mps"):
        for packed in (False, True):
            assert set(preferred(device, packed=packed, windowed=True)) <= set(WINDOWED)


def test_masks_are_built_once_for_each_window():
    made = plan("sdpa", packed_documents(), (4, 0, 4, 0))
    assert sorted(made.masks) == [0, 4]
    assert made.within(4) is made
    assert made.within(0).mask is made.masks[0]

"""Every attention backend against the definition, and against the definition written once more."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.errors import UsageError
from paramgolf.model.attention import KERNELS, AttentionPlan, attend, choose, plan, preferred, present, takes
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT

# Runs are compiled; here the kernels' results matter, not their speed.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
BACKENDS = [name for name in KERNELS if name != "plain"]
LENGTHS = (37, 1, 64, 90)


def packed_batch(device: str, lengths: tuple[int, ...] = LENGTHS) -> Batch:
    total = sum(lengths)
    starts = torch.tensor([0, *lengths]).cumsum(0)[:-1]
    ids = torch.full((1, total), 5)
    ids[0, starts] = BOS
    edges = torch.cat((starts, torch.tensor([total] * 4))).to(torch.int32)
    return Batch(ids, ids.clone(), edges, max(lengths)).to(torch.device(device))


def rows_batch(device: str, rows: int = 3, length: int = 160) -> Batch:
    ids = torch.full((rows, length), 5)
    return Batch(ids, ids.clone()).to(torch.device(device))


def heads(batch: Batch, *, query: int, key: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    """q, k, v."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(*batch.ids.shape, n, width, generator=generator) for n in (query, key, key)]
    return [tensor.to(batch.ids.device, dtype) for tensor in made]


def truth(q: Tensor, k: Tensor, v: Tensor, batch: Batch) -> Tensor:
    """One document, one head and one query at a time, in fp64: slow, and without a mask to get wrong."""
    edges = [0, batch.ids.shape[1]] if batch.cu_seqlens is None else batch.cu_seqlens.unique().tolist()
    out = torch.zeros(q.shape, dtype=torch.float64, device=q.device)
    group = q.shape[2] // k.shape[2]
    for row in range(q.shape[0]):
        for first, last in pairwise(edges):
            for head in range(q.shape[2]):
                one_q = q[row, first:last, head].double()
                one_k, one_v = (x[row, first:last, head // group].double() for x in (k, v))
                for place in range(last - first):
                    scores = one_k[: place + 1] @ one_q[place] / q.shape[-1] ** 0.5
                    out[row, first + place, head] = scores.softmax(0) @ one_v[: place + 1]
    return out


@pytest.mark.parametrize("kind", ["rows", "packed"])
@pytest.mark.parametrize("key", [1, 2, 4])
def test_the_definition_is_right(kind: str, key: int):
    batch = rows_batch("cpu", 2, 19) if kind == "rows" else packed_batch("cpu", (7, 1, 12))
    q, k, v = heads(batch, query=4, key=key, width=8, dtype=torch.float32)
    got = attend(q, k, v, plan("plain", batch))
    torch.testing.assert_close(got.double(), truth(q, k, v, batch), rtol=1e-5, atol=1e-6)


# What torch says of its own code while it traces FlexAttention and variable-length attention on a GPU.
TORCH_ON_ITSELF = [
    "ignore::DeprecationWarning",  # of the compiler under flash-attn-4, of itself
    "ignore:Dynamo detected a call to a `functools.lru_cache`",
    "ignore:The .grad attribute of a Tensor that is not a leaf",
    "ignore:flex_attention called without torch.compile",
]


def quiet(test):
    for message in TORCH_ON_ITSELF:
        test = pytest.mark.filterwarnings(message)(test)
    return test


@quiet
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["rows", "packed"])
@pytest.mark.parametrize("key", [1, 2, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree_with_the_definition(backend: str, key: int, kind: str, device: str):
    """Outputs and gradients; fp32 on the CPU, bf16 on a GPU."""
    packed = kind == "packed"
    if backend not in present(device) or not takes(backend, packed=packed):
        pytest.skip(f"{backend} does no {kind} on {device} here")
    batch = packed_batch(device) if packed else rows_batch(device)
    dtype, width = (torch.float32, 16) if device == "cpu" else (torch.bfloat16, 64)
    given = heads(batch, query=4, key=key, width=width, dtype=dtype)
    weight = torch.randn(given[0].shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    learns = (backend, device) != ("flex", "cpu")
    given = [tensor.requires_grad_(learns) for tensor in given]
    results = []
    for name in ("plain", backend):
        output = attend(*given, plan(name, batch))
        assert output.shape == given[0].shape
        assert output.dtype == dtype
        results.append([output, *(torch.autograd.grad((output * weight).float().sum(), given) if learns else ())])
    for expected, got in zip(*results, strict=True):
        error = (got - expected).float().norm() / expected.float().norm()
        assert error < (1e-5 if device == "cpu" else 2e-2), f"relative error {error:.2e}"


@quiet
@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["rows", "packed"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_compile_without_a_break(backend: str, kind: str):
    packed = kind == "packed"
    if backend not in present("cuda") or not takes(backend, packed=packed):
        pytest.skip(f"{backend} does no {kind} on cuda here")
    model = GPT(GPTConfig(vocab=64, dim=128, layers=2, heads=2, kv_heads=1, context=256, backend=backend))
    torch.manual_seed(0)
    model.reset()
    model.cuda().compute = torch.bfloat16
    batch = packed_batch("cuda") if packed else rows_batch("cuda")
    compiled = torch.compile(model.loss, dynamic=False)(batch)
    torch.testing.assert_close(compiled, model.loss(batch), rtol=1e-2, atol=1e-2)
    with torch.no_grad():  # the compiler plans scoring otherwise than training
        scored = torch.compile(model, dynamic=False)(batch)
        torch.testing.assert_close(scored, model(batch), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in present("cpu")])
def test_a_backend_that_is_not_here_is_refused(backend: str):
    with pytest.raises(UsageError, match=f"'{backend}' cannot do whole rows on cpu") as caught:
        choose(backend, "cpu", packed=False)
    assert "plain" in caught.value.evidence
    model = GPT(GPTConfig(vocab=64, dim=16, layers=1, heads=2, kv_heads=1, context=200, backend=backend))
    with pytest.raises(UsageError, match="packed documents on cpu"):
        model(packed_batch("cpu"))


def test_flex_on_the_cpu_says_that_it_cannot_train():
    model = GPT(GPTConfig(vocab=64, dim=16, layers=1, heads=2, kv_heads=1, context=160, backend="flex"))
    model.reset()
    with pytest.raises(UsageError, match="cannot train on the CPU"):
        model.loss(rows_batch("cpu"))
    with torch.no_grad():
        assert model.loss(rows_batch("cpu")).isfinite()


def test_whole_rows_only_and_documents_only():
    assert [name for name in KERNELS if not takes(name, packed=True)] == ["cudnn", "flash"]
    assert [name for name in KERNELS if not takes(name, packed=False)] == ["varlen"]


@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("packed", [False, True])
def test_auto_takes_one_that_is_there(device: str, packed: bool):
    assert choose("auto", device, packed=packed) == "sdpa"
    assert preferred("cuda", packed=packed)[0] == "fa3"


def test_a_plan_keeps_documents_apart_whatever_the_backend():
    batch = packed_batch("cpu", (5, 3))
    q, k, v = heads(batch, query=2, key=1, width=4, dtype=torch.float32)
    for backend in present("cpu"):
        how = plan(backend, batch)
        assert isinstance(how, AttentionPlan)
        before = attend(q, k, v, how)
        changed = k.clone()
        changed[:, :5] += 1.0
        after = attend(q, changed, v, how)
        assert torch.equal(after[:, 5:], before[:, 5:])
        assert not torch.equal(after[:, :5], before[:, :5])

"""What processes share: the place of compiled kernels, gradients."""

import os
from pathlib import Path

import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir, default_cache_dir, triton_cache_dir

from paramgolf.train.distributed import buckets, keep_compiled

PLACES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in PLACES:
        monkeypatch.setenv(name, "")  # so that what the code sets is undone
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("before", [None, default_cache_dir()], ids=["nothing", "torch's own"])
def test_compiled_kernels_are_kept_where_the_run_says(unset, tmp_path: Path, before: str | None):
    if before is not None:
        unset.setenv("TORCHINDUCTOR_CACHE_DIR", before)
    keep_compiled(tmp_path / "compiled")
    assert cache_dir() == str(tmp_path / "compiled")
    assert triton_cache_dir(0) == str(tmp_path / "compiled" / "triton")


def test_a_place_that_somebody_chose_holds(unset, tmp_path: Path):
    for name in PLACES:
        unset.setenv(name, str(tmp_path / name))
    keep_compiled(tmp_path / "compiled")
    assert [os.environ[name] for name in PLACES] == [str(tmp_path / name) for name in PLACES]


def test_a_place_that_cannot_be_written_to_is_left_alone(unset, tmp_path: Path):
    (tmp_path / "file").touch()
    keep_compiled(tmp_path / "file" / "compiled")
    assert not set(PLACES) & os.environ.keys()


def test_buckets_hold_every_tensor_once_in_order():
    tensors = [torch.zeros(size) for size in (3, 4, 1, 9, 1, 2, 5)]
    found = list(buckets(tensors, most=8))
    assert [[tensor.numel() for tensor in bucket] for bucket in found] == [[3, 4, 1], [9], [1, 2, 5]]
    assert [id(tensor) for bucket in found for tensor in bucket] == [id(tensor) for tensor in tensors]
    assert not list(buckets([]))

"""How a batch comes to its device."""

import pytest
import torch

from paramgolf.batch import Batch


def packed() -> Batch:
    ids = torch.arange(1, 9, dtype=torch.int32).view(1, 8)
    return Batch(ids, ids.roll(-1), torch.tensor([0, 3, 8], dtype=torch.int32), 8)


def test_ids_become_int64_and_offsets_stay_as_they_are() -> None:
    batch = packed()
    moved = batch.to(torch.device("cpu"))
    assert moved.ids.dtype == moved.targets.dtype == torch.int64
    assert moved.cu_seqlens is not None
    assert moved.cu_seqlens.dtype == torch.int32
    assert torch.equal(moved.ids, batch.ids)
    assert moved.max_seqlen == 8


@pytest.mark.gpu
def test_a_batch_goes_to_a_busy_gpu_without_waiting_for_it() -> None:
    device = torch.device("cuda")
    for _ in range(2):  # the first time memory is pinned anew, which waits
        torch.cuda.synchronize()
        torch.cuda._sleep(2_000_000_000)
        busy = torch.cuda.Event()
        busy.record()
        moved = packed().to(device)
        waited = busy.query()
    assert not waited
    assert torch.equal(moved.ids.cpu(), packed().ids.long())
    assert torch.equal(moved.targets.cpu(), packed().targets.long())

"""Ranks and devices. The only place that reads what torchrun puts into the environment."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from paramgolf.errors import UsageError

BUCKET_ELEMENTS = 1 << 23
"""Of gradients that travel together: 32 MiB, enough to fill the links, few enough to have several under way."""


class Place(NamedTuple):
    """Where this process stands."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def synchronize(self) -> None:
        """Wait until the device has done everything asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def sum_on_host(self, total: Tensor) -> Tensor:
        """A CPU tensor summed over ranks."""
        if self.world > 1:
            dist.all_reduce(total)
        return total

    def gather(self, share: Tensor) -> Callable[[], Tensor]:
        """Start to collect (k, ...) `share`s of every rank; the result waits and gives (world·k, ...) in rank order."""
        whole = share.new_empty(self.world * len(share), *share.shape[1:])
        # Under its later name from torch 2.13 on, where the earlier one warns.
        collect = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        work = collect(whole, share.contiguous(), async_op=True)

        def arrived() -> Tensor:
            work.wait()
            return whole

        return arrived

    def agree(self, values: Sequence[float]) -> list[float]:
        """Rank 0's `values` on every rank, so that all take the same decision."""
        if self.world == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(told, src=0)
        return told.tolist()

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world > 1:
            dist.barrier()


def pick_device(wanted: str, local_rank: int = 0) -> torch.device:
    """The device called `wanted` ("auto", "cpu", "cuda", "mps"). Raises `UsageError` when it is not there."""
    able = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(name for name in able if able[name]) if wanted == "auto" else wanted
    if kind not in able:
        raise UsageError(f"no device is called {wanted!r}", evidence=f"known: auto, {', '.join(able)}")
    if not able[kind]:
        raise UsageError(f"there is no {kind} device here", fix="paramgolf doctor")
    return torch.device(kind, local_rank) if kind == "cuda" else torch.device(kind)


@contextmanager
def placed(wanted: str = "auto") -> Iterator[Place]:
    """Join the process group when torchrun started this process; leave it at the end."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = pick_device(wanted, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world == 1:
        yield Place(device)
        return
    # Decisions and scores travel as CPU tensors over gloo, gradients over NCCL.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Place(device, rank, world)
    finally:
        dist.destroy_process_group()


def keep_compiled(folder: Path) -> None:
    """Let torch's compiler keep its kernels in `folder`, where the next process finds them, unless told otherwise.

    Call it before anything is compiled. `TORCHINDUCTOR_CACHE_DIR` and `TRITON_CACHE_DIR` hold where somebody set them;
    torch itself sets the first to its own default when some of its modules are imported. Where `folder` cannot be
    written to, everything stays as it is.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder.absolute())
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder.absolute() / "triton"))


def average_over_ranks(tensors: Sequence[Tensor], world: int) -> None:
    """Replace each of `tensors`, fp32 on one device, by its mean over ranks.

    In buckets: while one travels, the next is put together and the one before it is taken apart.
    """
    if world == 1:
        return
    under_way = []
    for bucket in buckets(tensors):
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        under_way.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, work in under_way:
        work.wait()
        flat /= world
        parts = flat.split([tensor.numel() for tensor in bucket])
        means = [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)]
        torch._foreach_copy_(bucket, means)


def buckets(tensors: Sequence[Tensor], most: int = BUCKET_ELEMENTS) -> Iterator[list[Tensor]]:
    """`tensors` in order, in groups of at most `most` elements; a larger one stands alone."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(other.numel() for other in bucket) + tensor.numel() > most:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket

"""One forward and backward pass of training: run plainly, or recorded once as a CUDA graph and replayed.

A replay costs the host one launch where a step has over a thousand kernels.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from paramgolf.batch import Batch

Loss = Callable[[Batch], Tensor]


class MicroStep(Protocol):
    """Adds the gradients of one batch, divided by `share`, to the parameters' and returns that share of the loss.

    0-d fp32, which the next call may overwrite. `phase` names what the kernels depend on beside shapes.
    """

    def __call__(self, batch: Batch, *, share: int, phase: Hashable) -> Tensor: ...


class PlainMicroStep:
    """Forward and backward as they come."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, batch: Batch, *, share: int, phase: Hashable) -> Tensor:
        loss = self.loss(batch) / share
        loss.backward()
        return loss.detach()


class Recording(NamedTuple):
    """A graph with the tensors it reads and writes."""

    graph: Any
    batch: Batch
    loss: Tensor


class RecordedMicroStep:
    """Forward and backward as a CUDA graph for each phase and shape. Gradient buffers are zeroed, never freed."""

    def __init__(self, loss: Loss, parameters: Sequence[Tensor]) -> None:
        self.loss = loss
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.weight = torch.ones((), device=self.parameters[0].device)
        """1 / share: a tensor, so that batch growth records nothing anew."""
        self.recordings: dict[Hashable, Recording] = {}
        self.pool: Any = None

    def __call__(self, batch: Batch, *, share: int, phase: Hashable) -> Tensor:
        self.weight.fill_(1.0 / share)
        key = (phase, batch.ids.shape, None if batch.cu_seqlens is None else batch.cu_seqlens.shape, batch.max_seqlen)
        if key not in self.recordings:
            self.recordings[key] = self.record(batch)
        recording = self.recordings[key]
        for target, value in zip(recording.batch, batch, strict=True):
            if isinstance(target, Tensor) and isinstance(value, Tensor):
                target.copy_(value, non_blocking=True)
        recording.graph.replay()
        return recording.loss

    def record(self, batch: Batch) -> Recording:
        """Compile on a side stream, then record without running; gradients stay as they were."""
        edges = None if batch.cu_seqlens is None else batch.cu_seqlens.clone()
        own = Batch(batch.ids.clone(), batch.targets.clone(), edges, batch.max_seqlen)
        before = [parameter.grad.clone() for parameter in self.parameters if parameter.grad is not None]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.run(own)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Beside several ranks a thread of NCCL asks after its collectives, which must not end the recording.
        watched = "thread_local" if torch.distributed.is_initialized() else "global"
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode=watched):
            loss = self.run(own)
        # One recording runs at a time, so that all can use the same memory for activations.
        self.pool = self.pool or graph.pool()
        for parameter, gradient in zip(self.parameters, before, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)
        return Recording(graph, own, loss)

    def run(self, batch: Batch) -> Tensor:
        """Forward and backward, as they will be replayed."""
        loss = self.loss(batch) * self.weight
        loss.backward()
        return loss.detach()


def clear_gradients(parameters: Sequence[Tensor], *, keep: bool) -> None:
    """Forget all gradients: zero their buffers when a recording adds to them (`keep`), else free them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if keep and gradients:
        torch._foreach_zero_(gradients)
        return
    for parameter in parameters:
        parameter.grad = None

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

    def accumulate(self, batch: Batch, *, share: int, phase: Hashable) -> Tensor: ...


class PlainMicroStep:
    """Forward and backward as they come."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def accumulate(self, batch: Batch, *, share: int, phase: Hashable) -> Tensor:
        loss = self.loss(batch) / share
        loss.backward()
        return loss.detach()


class Recording(NamedTuple):
    """A graph with the tensors it reads and writes."""

    graph: Any
    batch: Batch
    loss: Tensor
    gradients: list[Tensor | None]
    """Of each parameter; none where the backward pass does not reach."""


class RecordedMicroStep:
    """Forward and backward as a CUDA graph for each phase and shape, its gradients in tensors of its own.

    The first call after gradients were cleared hands those out as they are: a graph that added to what is there would
    take a kernel for each parameter, and a pass over all of them to begin at zero. Calls after it add to sums.
    """

    def __init__(self, loss: Loss, parameters: Sequence[Tensor]) -> None:
        self.loss = loss
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.sums: list[Tensor] = []
        """Where gradients of several calls are added up, made when there are any."""
        self.weight = torch.ones((), device=self.parameters[0].device)
        """1 / share: a tensor, so that batch growth records nothing anew."""
        self.recordings: dict[Hashable, Recording] = {}
        self.pool: Any = None

    def accumulate(self, batch: Batch, *, share: int, phase: Hashable) -> Tensor:
        self.weight.fill_(1.0 / share)
        key = (phase, batch.ids.shape, None if batch.cu_seqlens is None else batch.cu_seqlens.shape, batch.max_seqlen)
        if key not in self.recordings:
            self.recordings[key] = self.record(batch)
        recording = self.recordings[key]
        for target, value in zip(recording.batch, batch, strict=True):
            if isinstance(target, Tensor) and isinstance(value, Tensor):
                target.copy_(value, non_blocking=True)
        self.set_apart()
        recording.graph.replay()
        self.hand_out(recording.gradients)
        return recording.loss

    def record(self, batch: Batch) -> Recording:
        """Compile on a side stream, then record without running; gradients stay as they were."""
        edges = None if batch.cu_seqlens is None else batch.cu_seqlens.clone()
        own = Batch(batch.ids.clone(), batch.targets.clone(), edges, batch.max_seqlen)
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
            loss, gradients = self.run(own)
        # One recording runs at a time, so that all can use the same memory for activations.
        self.pool = self.pool or graph.pool()
        return Recording(graph, own, loss, gradients)

    def run(self, batch: Batch) -> tuple[Tensor, list[Tensor | None]]:
        """Forward and backward, as replayed: the loss and new gradients, those that were there left alone."""
        earlier = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.loss(batch) * self.weight
        loss.backward()
        found = [parameter.grad for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, earlier, strict=True):
            parameter.grad = gradient
        return loss.detach(), found

    def set_apart(self) -> None:
        """Bring gradients of earlier calls to where no replay writes."""
        if not self.sums and any(parameter.grad is not None for parameter in self.parameters):
            self.sums = [torch.empty_like(parameter) for parameter in self.parameters]
        moving = [
            (parameter, own, gradient)
            for parameter, own in zip(self.parameters, self.sums, strict=False)
            if (gradient := parameter.grad) is not None and gradient is not own
        ]
        if moving:
            torch._foreach_copy_([own for _, own, _ in moving], [gradient for *_, gradient in moving])
        for parameter, own, _ in moving:
            parameter.grad = own

    def hand_out(self, gradients: Sequence[Tensor | None]) -> None:
        """Add `gradients` to those of earlier calls; where there are none, give them as they are."""
        pairs = [
            (parameter, gradient)
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
            if gradient is not None
        ]
        adding = [(sums, gradient) for parameter, gradient in pairs if (sums := parameter.grad) is not None]
        if adding:
            torch._foreach_add_([sums for sums, _ in adding], [gradient for _, gradient in adding])
        for parameter, gradient in pairs:
            parameter.grad = gradient if parameter.grad is None else parameter.grad

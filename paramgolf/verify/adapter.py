"""Our own evaluators as a `Predictor`: a model, a protocol of `evaluate.protocol`, and nothing else.

Distributions are those that costs were taken from: the logits that the last calls of `cross_entropy` were given, after
every adapter, tilt and mixture. Where a fused kernel takes the cost there are none, and the judge tries every token.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench, EvaluationProtocol
from paramgolf.verify.predictor import Doubles, Predicted, TokenStream

BenchMaker = Callable[[Tensor], Bench]
"""(N,) int64 tokens -> what a protocol scores them with."""
CALLS = 4
"""Calls of `cross_entropy` that are looked back upon: a protocol may take a step before it yields."""
SAME_COST = 1e-5


class EvaluatedModel:
    """Scores a stream by `protocol`; every pass starts from the weights that the model had when this was made."""

    def __init__(
        self, model: nn.Module, protocol: EvaluationProtocol, bench: BenchMaker, *, isolated: bool = False
    ) -> None:
        self.model = model
        self.protocol = protocol
        self.bench = bench
        self.isolated = isolated
        """Whether documents are claimed not to see one another."""
        self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.tokens = torch.zeros(0, dtype=torch.int64)

    def begin(self, stream: TokenStream) -> None:
        """See `Predictor.begin`."""
        self.model.load_state_dict(self.weights)
        self.tokens = torch.from_numpy(stream.tokens)

    def predict(self, asked: frozenset[int]) -> Iterator[Predicted]:
        """See `Predictor.predict`."""
        heard = CostEar()
        parts = iter(self.protocol(self.bench(self.tokens)))
        while (scored := next_part(parts, heard if asked else None)) is not None:
            places = scored.positions[scored.counted]
            nats = scored.nats.cpu()[scored.counted].double().numpy()
            yield Predicted(places.numpy(), nats, heard.distributions(scored, asked) if asked else {})


def next_part(parts: Iterator[Scored], heard: "CostEar | None") -> Scored | None:
    """The next part of a protocol, with the ear open while it is made; None at the end."""
    if heard is None:
        return next(parts, None)
    with heard:
        return next(parts, None)


class CostEar(TorchFunctionMode):
    """Keeps what the last calls of `cross_entropy` were given, and what came out."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: deque[tuple[Tensor, Tensor]] = deque(maxlen=CALLS)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is F.cross_entropy and (kwargs or {}).get("reduction") == "none":
            self.calls.append((args[0].detach(), out.detach()))
        return out

    def distributions(self, scored: Scored, asked: frozenset[int]) -> dict[int, Doubles]:
        """Log-probabilities behind the costs of `scored`, for asked targets whose cost a kept call explains."""
        told: dict[int, Doubles] = {}
        positions, counted = scored.positions.flatten().numpy(), scored.counted.flatten().numpy()
        nats = scored.nats.detach().flatten()
        for index in np.flatnonzero(counted & np.isin(positions, list(asked))).tolist():
            for logits, costs in self.calls:
                fits = costs.numel() == nats.numel() and abs(float(costs.flatten()[index] - nats[index])) <= SAME_COST
                if fits:
                    row = F.log_softmax(logits.flatten(0, -2)[index].double(), -1)
                    told[int(positions[index])] = row.cpu().numpy()
        return told

"""Our own evaluators as a `Predictor`: a model, a protocol of `evaluate.protocol`, and nothing else."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from paramgolf.evaluate.slots import Bench, EvaluationProtocol
from paramgolf.verify.predictor import Predicted, TokenStream

BenchMaker = Callable[[Tensor], Bench]
"""(N,) int64 tokens -> what a protocol scores them with."""


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
        """See `Predictor.predict`. No distributions: the judge puts every token in the target's place."""
        for scored in self.protocol(self.bench(self.tokens)):
            places = scored.positions[scored.counted]
            yield Predicted(places.numpy(), scored.nats.cpu()[scored.counted].double().numpy())

"""Predictors for the judge: cheats as they were submitted, each beside an honest twin, all on one small real model.

Those that learn are in planted_learners.py, those that count in planted_counts.py.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
import torch.nn.functional as F
from tiny import tiny_run
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.data.tokenizers import ByteTokenizer
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.slots import Bench
from paramgolf.model.gpt import GPT
from paramgolf.techniques.model import SmearV1
from paramgolf.verify.adapter import EvaluatedModel
from paramgolf.verify.predictor import Predicted, TokenStream

VOCAB = 260
ROW = 32


def real_texts(number: int, longest: int = 110) -> list[str]:
    """Paragraphs of the language reference."""
    parts = (" ".join(part.split()) for _, topic in sorted(topics.items()) for part in topic.split("\n\n"))
    return [part[:longest] for part in parts if len(part) > 60][:number]


def real_tokens(documents: int = 8) -> np.ndarray:
    """(N,) byte260 ids, BOS before each document and behind the last."""
    ids = ByteTokenizer().encode(real_texts(documents))
    return np.concatenate([*(np.concatenate(([BOS], part)) for part in ids), [BOS]]).astype(np.int64)


def small_model(vocab: int = VOCAB, **changes: object) -> GPT:
    """Two layers of width 16 whose costs depend on everything they may see."""
    torch.manual_seed(3)
    model = GPT(replace(tiny_run().model, vocab=vocab, **changes))
    model.reset()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


class Rows:
    """The honest base: windows side by side, several to a part, distributions for what is asked."""

    telling = True
    rows = 4

    def __init__(self, model: GPT) -> None:
        self.model = model

    def begin(self, stream: TokenStream) -> None:
        self.tokens = torch.from_numpy(stream.tokens)
        self.targets = stream.targets

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, V) as the model stands."""
        return self.model.logits(self.model.hidden(Batch(ids, ids)))

    def parts(self) -> Iterator[Tensor]:
        """(B, T) places of the targets of each part; the last window is padded by repeating its end."""
        starts = torch.arange(0, self.targets, ROW)
        for chosen in starts.split(self.rows):
            yield (chosen[:, None] + torch.arange(ROW)).clamp(max=self.targets - 1)

    def logprobs(self, places: Tensor) -> Tensor:
        """(B, T) places -> (B, T, V)."""
        return F.log_softmax(self.logits(self.tokens[places]), -1).double()

    def predict(self, asked: frozenset[int]) -> Iterator[Predicted]:
        for places in self.parts():
            yield self.predicted(places, self.logprobs(places), asked)
            self.learn(places)

    def learn(self, places: Tensor) -> None:
        """Nothing."""

    def predicted(self, places: Tensor, logprobs: Tensor, asked: frozenset[int]) -> Predicted:
        flat, rows = places.flatten(), logprobs.flatten(0, 1)
        flat, index = np.unique(flat.numpy(), return_index=True)
        rows = rows[torch.from_numpy(index)]
        nats = -rows.gather(1, self.tokens[torch.from_numpy(flat) + 1][:, None]).squeeze(1)
        told = {int(i): row.numpy() for i, row in zip(flat, rows) if int(i) in asked} if self.telling else {}
        return Predicted(flat, nats.numpy(), told)


class Silent(Rows):
    """Honest, and gives no distributions."""

    telling = False


class FutureLeak(Rows):
    """The temperature of a target depends on the token after it."""

    def logprobs(self, places: Tensor) -> Tensor:
        after = self.tokens[(places + 2).clamp(max=self.targets)]
        return F.log_softmax(self.logits(self.tokens[places]) * (1 + 0.1 * (after % 2))[..., None], -1).double()


class PastTemperature(Rows):
    """Twin: the temperature depends on the token before."""

    def logprobs(self, places: Tensor) -> Tensor:
        before = self.tokens[places]
        return F.log_softmax(self.logits(before) * (1 + 0.1 * (before % 2))[..., None], -1).double()


class OffByOne(Rows):
    """The mask is off by one: a target is among what the model sees."""

    def logprobs(self, places: Tensor) -> Tensor:
        return F.log_softmax(self.logits(self.tokens[places + 1]), -1).double()


class RefittedTemperature(Rows):
    """The temperature that is best for a window, found on the window."""

    rows = 1

    def logprobs(self, places: Tensor) -> Tensor:
        logits, targets = self.logits(self.tokens[places]), self.tokens[places + 1]
        grid = [F.log_softmax(logits * scale, -1) for scale in np.linspace(0.2, 2.0, 60)]
        costs = [F.nll_loss(tried.flatten(0, 1), targets.flatten()) for tried in grid]
        return grid[int(torch.stack(costs).argmin())].double()


class BestOfTwo(Silent):
    """The cheaper of two temperatures for each target."""

    def logprobs(self, places: Tensor) -> Tensor:
        logits = self.logits(self.tokens[places])
        return torch.maximum(F.log_softmax(logits, -1), F.log_softmax(logits * 0.3, -1)).double()


class WordGate(Rows):
    """A gate that opens where the target begins a word: it looks at the target."""

    def logprobs(self, places: Tensor) -> Tensor:
        logits = self.logits(self.tokens[places])
        opens = self.tokens[places + 1] == 4 + ord(" ")
        return F.log_softmax(logits * torch.where(opens, 1.5, 0.8)[..., None], -1).double()


class GatedOnPrefix(Rows):
    """Twin: the gate asks whether the token before was a space."""

    def logprobs(self, places: Tensor) -> Tensor:
        before = self.tokens[places]
        opens = before == 4 + ord(" ")
        return F.log_softmax(self.logits(before) * torch.where(opens, 1.5, 0.8)[..., None], -1).double()


class OtherCost(Rows):
    """Shows an honest distribution and counts another cost."""

    def predicted(self, places: Tensor, logprobs: Tensor, asked: frozenset[int]) -> Predicted:
        return (part := super().predicted(places, logprobs, asked))._replace(nats=0.9 * part.nats)


class ByteSpread(Rows):
    """PPM: p^(1/n) for each of the n bytes of a token, mixed with a byte model, multiplied up again."""

    def __init__(self, model: GPT, pieces: list[bytes], share: float = 0.5) -> None:
        super().__init__(model)
        self.lengths = torch.tensor([max(len(piece), 1) for piece in pieces]).double()
        frequent = torch.bincount(
            torch.from_numpy(np.frombuffer(b"".join(pieces), np.uint8).astype(np.int64)), minlength=256
        )
        bytes_p = (frequent + 1).double() / (frequent + 1).sum()
        self.bytes_p = [bytes_p[list(piece or b"\0")] for piece in pieces]
        self.share = share

    def logprobs(self, places: Tensor) -> Tensor:
        rows = super().logprobs(places)
        spread = (rows / self.lengths).exp()
        mixed = [
            torch.log((1 - self.share) * spread[..., token, None] + self.share * p).sum(-1)
            for token, p in enumerate(self.bytes_p)
        ]
        return torch.stack(mixed, -1)


class SkippedTail(Rows):
    """Leaves out the rows that do not fill a batch."""

    def parts(self) -> Iterator[Tensor]:
        for places in super().parts():
            if len(places) == self.rows:
                yield places


class CutTail(Rows):
    """Drops what does not fill a row, as the official script does, and says how long a row is."""

    context = ROW

    def parts(self) -> Iterator[Tensor]:
        for places in super().parts():
            whole = places[:, 0] + ROW <= self.targets
            if whole.any():
                yield places[whole]


class DoubledTail(Rows):
    """Windows that reach past the end are shifted back and count again what was counted."""

    def parts(self) -> Iterator[Tensor]:
        for start in range(0, self.targets, ROW):
            yield torch.arange(ROW)[None] + min(start, self.targets - ROW)


class Reading(Rows):
    """Reads a file while it scores."""

    def __init__(self, model: GPT, path: Path) -> None:
        super().__init__(model)
        self.path = path

    def begin(self, stream: TokenStream) -> None:
        super().begin(stream)
        self.held = self.path.read_bytes()


class Calling(Rows):
    """Asks the network, and goes on without an answer."""

    def begin(self, stream: TokenStream) -> None:
        import socket

        super().begin(stream)
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=0.2).close()
        except OSError:
            self.answer = None


def packed(model: GPT) -> EvaluatedModel:
    """Our own evaluator of packed documents, claimed to be isolated."""

    def bench(tokens: Tensor) -> Bench:
        return Bench(model, tokens, ROW, torch.device("cpu"), 128)

    return EvaluatedModel(model, Documents(), bench, isolated=True)


def smeared_model() -> GPT:
    """A model whose tokens borrow from their predecessor in the same document."""
    return small_model(on_input=(SmearV1(),), context=128)


def leaky_smeared_model() -> GPT:
    """The same without the mask at document starts: the leak of #1667."""
    model = smeared_model()
    gate = model.on_input[0]
    gate.forward = lambda x, now: torch.lerp(x, F.pad(x, (0, 0, 1, -1)), torch.sigmoid(gate.gate).to(x.dtype))
    return model

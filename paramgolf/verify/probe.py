"""A predictor under examination: its passes over one stream, each run once and kept."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paramgolf.batch import BOS
from paramgolf.verify.passes import NEVER, OnePass, one_pass, replaced_tokens
from paramgolf.verify.predictor import Doubles, Ints, Predictor, TokenStream

LEAST_TOLERANCE = 1e-6
"""Nats below which a changed cost is rounding. Same shapes give the same bits on nearly every machine."""


@dataclass(kw_only=True)
class Probe:
    """Probes share passes: the plain one, its repetition, and one for each changed stream."""

    predictor: Predictor
    stream: TokenStream
    cuts: int = 8
    """How many places the stream is changed after."""
    seed: int = 0
    kept: dict[str, OnePass] = field(default_factory=dict)
    changed_cuts: dict[int, Ints] = field(default_factory=dict)

    def named(self, name: str, stream: TokenStream, asked: frozenset[int] = frozenset()) -> OnePass:
        """The pass over `stream`, run once under `name`."""
        if name not in self.kept:
            self.kept[name] = one_pass(self.predictor, stream, asked)
        return self.kept[name]

    @property
    def base(self) -> OnePass:
        """The pass over the stream as it is, distributions asked for at the targets next to the cuts."""
        return self.named("base", self.stream, frozenset(int(k) - 1 for k in self.cut_places()))

    @property
    def again(self) -> OnePass:
        """The same once more."""
        return self.named("again", self.stream)

    @property
    def noise(self) -> float:
        """Most that a cost differs between two equal passes, nats."""
        return largest(np.abs(self.base.nats - self.again.nats))

    @property
    def tolerance(self) -> float:
        """Change of a cost, in nats, that counts as one."""
        return max(LEAST_TOLERANCE, 4 * self.noise)

    def cut_places(self) -> Ints:
        """Tokens from which on the stream is changed: spread over it, none at a document's start."""
        able = np.flatnonzero(self.stream.tokens != BOS)
        able = able[able >= 2]
        if not len(able):
            return able
        random = np.random.Generator(np.random.PCG64(self.seed))
        strata = np.array_split(able, min(self.cuts, len(able)))
        return np.array([int(random.choice(stratum)) for stratum in strata], np.int64)

    def after(self, cut: int) -> OnePass:
        """The pass over the stream with every token from `cut` on changed."""
        where = np.arange(len(self.stream.tokens)) >= cut
        return self.named(f"after {cut}", replaced_tokens(self.stream, where, self.seed + cut), frozenset({cut - 1}))

    def reacting(self, cut: int) -> Ints:
        """Targets before token `cut` whose cost changes when the tokens from `cut` on do."""
        if cut not in self.changed_cuts:
            change = np.abs(self.after(cut).nats - self.base.nats)[: cut - 1]
            self.changed_cuts[cut] = np.flatnonzero(change > self.tolerance)
        return self.changed_cuts[cut]

    def leaks_forward(self) -> dict[int, Ints]:
        """Cut -> targets before it that react, for cuts where some do."""
        return {int(cut): self.reacting(int(cut)) for cut in self.cut_places() if len(self.reacting(int(cut)))}

    def unscored_yet(self, target: int) -> NDArray[np.bool_]:
        """(N,) tokens after `target`'s own that the predictor scores in the same part or later: unknown to it."""
        order = self.base.order
        later = np.zeros(len(self.stream.tokens), np.bool_)
        later[target + 2 :] = (order[target + 1 :] >= order[target]) | (order[target + 1 :] == NEVER)
        return later

    def depends_on_unscored(self, target: int) -> float:
        """Nats by which the cost of `target` changes with tokens that were not yet scored when it was."""
        where = self.unscored_yet(target)
        stream = replaced_tokens(self.stream, where, self.seed + 31 * target + 1)
        changed = self.named(f"unscored {target}", stream)
        return float(abs(changed.nats[target] - self.base.nats[target]))

    def true_leaks(self, most: int = 4) -> dict[int, float]:
        """Reacting targets that react to what was not yet scored, and by how much; at most `most` are tried."""
        leaks = self.leaks_forward()
        tried = dict.fromkeys(int(t) for found in leaks.values() for t in (found[-1], found[0]))
        changes = {target: self.depends_on_unscored(target) for target in list(tried)[:most]}
        return {target: change for target, change in changes.items() if not change <= self.tolerance}

    @property
    def learns(self) -> bool:
        """Whether what is served first changes the costs of what is served last, in documents that stayed as they were:
        the predictor adapts, or sees that far."""
        order = self.base.order
        early, late = served_first_and_last(order)
        changed = np.concatenate(([False], early))
        document = np.cumsum(self.stream.tokens == BOS)
        untouched = late & ~np.isin(document[1:], document[changed])
        first = self.named("early", replaced_tokens(self.stream, changed, self.seed + 7))
        change = np.abs(first.nats - self.base.nats)[untouched if untouched.any() else late]
        return bool((change > self.tolerance).any())


def served_first_and_last(order: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(T,) targets in the first and in the last quarter of the parts, of the stream where all stand in one part."""
    places = np.where(order == NEVER, order.max(), order)
    if places.min() == places.max():
        places = np.arange(len(order))
    ends = np.quantile(places, 0.25, method="lower"), np.quantile(places, 0.75, method="higher")
    late = places >= ends[1] if ends[1] > ends[0] else places > ends[0]
    return places <= ends[0], late


def largest(values: Doubles) -> float:
    """The largest of `values` that is a number; 0 when there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else 0.0

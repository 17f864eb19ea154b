"""One table from short names to the dataclasses that configure techniques."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

from paramgolf.errors import UsageError


class Entry(NamedTuple):
    """What the registry knows of one technique."""

    name: str
    config: type
    fills: str
    """Dotted path of the field of `Run` that takes it, as `model.on_heads`, or a pattern as `quant.*`."""
    source: str
    """Paper or pull request, as `arXiv 2603.09078; PR #265`."""
    effect: str
    """What its source measured, in bits per byte unless it says otherwise."""
    neutral: bool
    """Whether adding it leaves a model's function unchanged until it has been trained."""

    @property
    def glossary(self) -> str:
        """The whole entry: the docstring of the file that implements it."""
        module = inspect.getmodule(self.config)
        return inspect.cleandoc((module.__doc__ if module else None) or self.config.__doc__ or "")


TECHNIQUES: dict[str, Entry] = {}


def technique(
    name: str, *, fills: str, source: str, effect: str = "", neutral: bool = False
) -> Callable[[type[Any]], type[Any]]:
    """Register a frozen dataclass under the short name that presets, TOML and the command line use.

    Raises `ValueError` when the name is taken.
    """

    def register(config: type[Any]) -> type[Any]:
        if name in TECHNIQUES:
            raise ValueError(f"technique {name!r} is already {TECHNIQUES[name].config.__qualname__}")
        TECHNIQUES[name] = Entry(name, config, fills, source, effect, neutral)
        return config

    return register


def lookup(name: str) -> Entry:
    """The technique called `name`; a miss is a `UsageError` that suggests the nearest."""
    if name in TECHNIQUES:
        return TECHNIQUES[name]
    raise UsageError(f"no technique is called {name!r}{nearest(name, TECHNIQUES)}", fix="paramgolf techniques")


def name_of(config: object) -> str | None:
    """The short name under which the class of `config` is registered, if it is."""
    return next((entry.name for entry in TECHNIQUES.values() if entry.config is type(config)), None)


def nearest(word: str, words: Any) -> str:
    """The hint `; did you mean 'x'?`, or nothing when no word is near."""
    close = get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

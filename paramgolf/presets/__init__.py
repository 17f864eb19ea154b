"""Presets by name: functions that return a `Run`, each a difference from another or from the plain model."""

from collections.abc import Callable

from paramgolf.errors import UsageError
from paramgolf.presets.baseline import baseline
from paramgolf.presets.demo import demo
from paramgolf.registry import nearest
from paramgolf.run import Run

PRESETS: dict[str, Callable[[], Run]] = {"demo": demo, "baseline": baseline}


def preset(name: str) -> Run:
    """The run that `name` stands for. Raises `UsageError` with the nearest name on a miss."""
    if name not in PRESETS:
        raise UsageError(f"no preset is called {name!r}{nearest(name, PRESETS)}", fix="paramgolf presets")
    return PRESETS[name]()

"""Presets by name: functions that return a `Run`, each a difference from another or from the plain model."""

from collections.abc import Callable
from dataclasses import replace

from paramgolf.errors import UsageError
from paramgolf.presets.april import (
    pr1204,
    pr1218,
    pr1285,
    pr1334,
    pr1394,
    pr1412,
    pr1413,
    pr1493,
    pr1514,
    pr1529,
)
from paramgolf.presets.baseline import baseline
from paramgolf.presets.demo import demo
from paramgolf.presets.frontier import pr1945, pr1953, pr2014, pr2135, pr2140
from paramgolf.presets.golf import golf
from paramgolf.presets.march import pr162, pr198, pr287, pr315, pr414, pr549, pr1019, pr1060, seq2048, seq4096
from paramgolf.presets.nonrecord import binary, pr1110, pr2058, ternary
from paramgolf.presets.packed_era import pr1530, pr1626, pr1667, pr1729, pr1736, pr1787, pr1851, pr1855
from paramgolf.presets.proxy import Proxy
from paramgolf.registry import nearest
from paramgolf.run import Run

MARCH = (baseline, seq2048, seq4096, pr162, pr198, pr287, pr315, pr414, pr549, pr1019, pr1060)
APRIL = (pr1204, pr1218, pr1285, pr1334, pr1394, pr1412, pr1413, pr1493, pr1514, pr1529)
PACKED = (pr1530, pr1626, pr1667, pr1729, pr1736, pr1787, pr1851, pr1855)
FRONTIER = (pr1945, pr1953, pr2014, pr2140, pr2135)
NON_RECORD = (ternary, binary, pr1110, pr2058)

PRESETS: dict[str, Callable[[], Run]] = {
    make.__name__: make for make in (demo, golf, *MARCH, *APRIL, *PACKED, *FRONTIER, *NON_RECORD)
}
PROXIES: dict[str, Proxy] = {"h100": Proxy()}
"""What may follow a preset's name after an @."""


def preset(name: str) -> Run:
    """The run that `name` stands for, `pr1855`, or in a proxy contest, `pr1855@h100`.

    `pr1855@h100/98304` is that contest with batches of so many tokens. Raises `UsageError` with the
    nearest name on a miss, and for a batch that does not hold whole rows.
    """
    plain, at, proxy = name.partition("@")
    if plain not in PRESETS:
        raise UsageError(f"no preset is called {plain!r}{nearest(plain, PRESETS)}", fix="paramgolf presets")
    run = PRESETS[plain]()
    if not at:
        return run
    contest, slash, batch = proxy.partition("/")
    if contest not in PROXIES or (slash and not batch.isdecimal()):
        raise UsageError(f"no proxy contest is called {proxy!r}{nearest(proxy, PROXIES)}", fix=f"{plain}@h100")
    chosen = replace(PROXIES[contest], batch_tokens=int(batch)) if slash else PROXIES[contest]
    try:
        return replace(chosen(run), name=name.replace("/", "-"))
    except ValueError as error:
        raise UsageError(f"{name}: {error}", fix=f"{plain}@h100") from None

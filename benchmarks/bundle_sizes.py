"""Bytes of the one file that a submission is, for every preset, and what each module costs in it.

    python benchmarks/bundle_sizes.py                        # every preset
    python benchmarks/bundle_sizes.py baseline pr1855        # these
    python benchmarks/bundle_sizes.py baseline --set "model.fused=()"
    python benchmarks/bundle_sizes.py pr1855 --modules 30    # bytes saved by leaving each module out, the dearest 30

`brotli` is the same minified script by brotli at its best setting, without the lines that unpack it.
`made` and `packed` are seconds.
"""

import argparse
import ast
import time
from collections import defaultdict
from collections.abc import Iterator

import brotli

from paramgolf.bundle.amalgamate import Script, amalgamate, own_units
from paramgolf.bundle.shrink import packed
from paramgolf.lab.launch import asked_run
from paramgolf.presets import PRESETS


def brotli_bytes(text: str) -> int:
    """Bytes of `text` by brotli."""
    return len(brotli.compress(text.encode(), quality=11, lgwin=24))


def statements(script: Script) -> Iterator[ast.stmt]:
    """The definitions of a script, those of optional libraries too."""
    for node in ast.parse(script.lean).body:
        for inner in node.body if isinstance(node, ast.Try) else [node]:
            if not isinstance(inner, ast.Import | ast.ImportFrom):
                yield inner


def module_costs(script: Script) -> list[tuple[float, str]]:
    """What leaving each module out of the lean script saves, as a share of the whole, the dearest first."""
    homes = {name: module for module, unit in own_units().items() for name in unit.definitions}
    groups: dict[str, list[str]] = defaultdict(list)
    for node in statements(script):
        targets = node.targets if isinstance(node, ast.Assign) else []
        name = getattr(node, "name", ast.unparse(targets[0]) if targets else "")
        groups[homes.get(name, "the configuration")].append(ast.unparse(node))
    whole = brotli_bytes("\n".join(text for texts in groups.values() for text in texts))
    costs = []
    for module in groups:
        rest = "\n".join(text for other, texts in groups.items() if other != module for text in texts)
        costs.append((1 - brotli_bytes(rest) / whole, module))
    return sorted(costs, reverse=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--modules", type=int, default=0)
    asked = parser.parse_args()
    print(f"{'preset':24} {'file':>8} {'brotli':>8} {'minified':>9} {'readable':>9} {'made':>5} {'packed':>6}")
    for name in asked.presets:
        began = time.perf_counter()
        script = amalgamate(asked_run(name, tuple(asked.settings)))
        made = time.perf_counter()
        shipped = packed(script.lean)
        seconds = f"{made - began:5.0f} {time.perf_counter() - made:6.0f}"
        sizes = len(shipped.content), brotli_bytes(shipped.minified), len(shipped.minified), len(script.readable)
        print(f"{name:24} {sizes[0]:8,} {sizes[1]:8,} {sizes[2]:9,} {sizes[3]:9,} {seconds}", flush=True)
        for share, module in module_costs(script)[: asked.modules]:
            print(f"    {share * sizes[0]:7,.0f}  {module}")


if __name__ == "__main__":
    main()

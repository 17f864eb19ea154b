"""The step's matrix products, in milliseconds and TFLOP/s: cuBLAS, our Triton kernels and QuACK's under many tilings.

    python benchmarks/product_time.py                 # the feed-forward's fused products (H100: about a minute)
    python benchmarks/product_time.py --quick         # the same by the tilings that were near the best (half a minute)
    python benchmarks/product_time.py --sums          # the products that add to the stream (a quarter of a minute)
    python benchmarks/product_time.py --all           # every product of a layer and the head, QuACK beside cuBLAS

Each row is printed as soon as it is known, with its relative error against fp32; what does not compile or run says why.
Needs a GPU. On a CPU, `--tokens 256` runs the plain products only.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paramgolf.model.kernels import quack_present
from paramgolf.model.kernels.eight_bits import NORM_STEP, norm_codes, weight_codes
from paramgolf.model.kernels.squared_feed_forward import (
    packed_derivative,
    packed_square,
    squared_up_eight_bits,
)

SLOPE = 0.5
CHECKED = 512
"""Rows at the start and at the end that are compared with fp32."""
Work = Callable[[], Tensor]


def milliseconds(work: Work, repeats: int = 7) -> float:
    """Of one call: the best of `repeats` runs of ten, so that a clock that falls for a moment does not count."""
    calls = 10 if torch.cuda.is_available() else 1
    for _ in range(2):
        work()
    times = []
    for _ in range(repeats):
        wait()
        began = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        times.append(1000 * (time.perf_counter() - began) / calls)
    return min(times)


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def error(found: Tensor, wanted: Callable[[slice], Tensor]) -> float:
    """Relative, of the first and last rows."""
    parts = [slice(0, CHECKED), slice(len(found) - CHECKED, len(found))]
    apart = [(found[part].float() - wanted(part), wanted(part)) for part in parts]
    return float(torch.cat([a for a, _ in apart]).norm() / torch.cat([b for _, b in apart]).norm())


def show(name: str, work: Work, flops: float, wanted: Callable[[slice], Tensor]) -> None:
    """One row. Whatever fails is said, and the next candidate has its turn."""
    began = time.perf_counter()
    try:
        first = work()
        off = error(first, wanted)
        del first
        made = time.perf_counter() - began
        spent = milliseconds(work)
        print(f"{name:72} {spent:8.3f} {flops / spent / 1e9:8.0f} {off:9.1e} {made:8.1f}", flush=True)
    except Exception as failure:
        print(f"{name:72} {type(failure).__name__}: {str(failure).splitlines()[:1]}"[:200], flush=True)


def heading(title: str) -> None:
    print(f"\n{title:72} {'ms':>8} {'TFLOP/s':>8} {'error':>9} {'first, s':>8}", flush=True)


def drawn(*shape: int, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(*shape, device="cuda" if torch.cuda.is_available() else "cpu")).bfloat16()


def quack_here() -> bool:
    return torch.cuda.is_available() and quack_present()


Candidate = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Left, right and, backward, the square -> the product with its epilogue."""


def triton_candidates(*, quick: bool) -> Iterator[tuple[str, Candidate]]:
    """Tilings of our own kernel."""
    if find_spec("triton") is None or not torch.cuda.is_available():
        return
    from paramgolf.model.kernels.gpu.squared_products import Tiling, run_squared_product

    cuts = [
        (128, 256, 64, 8, 3, True),
        (128, 256, 64, 8, 4, True),
        (256, 128, 64, 8, 3, True),
        (128, 128, 64, 4, 3, False),
        (128, 128, 64, 8, 4, True),
    ]
    for cut in cuts[:1] if quick else cuts:
        how = Tiling(*cut)

        def work(left: Tensor, right: Tensor, square: Tensor | None, how: Tiling = how) -> Tensor:
            return run_squared_product(left, right, square, SLOPE, how)

        yield f"Triton {how}".replace("Tiling", ""), work


def quack_candidates(*, quick: bool) -> Iterator[tuple[str, Candidate]]:
    """Tilings of QuACK's, the likely ones first."""
    if not quack_here():
        return
    turns, together = ((128, 192), (128, 208), (128, 128), (192, 128)), ((128, 256), (256, 128), (256, 192))
    near = [(192, 128, (1, 2)), (128, 192, (2, 1)), (128, 128, (2, 1)), (128, 128, (1, 2))]
    cuts = [(*shape, True, cluster, 8, wide) for *shape, cluster in near for wide in (False, True)]
    if not quick:
        cuts += [(*shape, True, cluster, 8, False) for shape in turns for cluster in ((2, 1), (1, 2), (1, 1))]
        cuts += [(*shape, False, (2, 1), 8, False) for shape in together]
        cuts += [(192, 128, True, (1, 2), bands, False) for bands in (1, 16)]
    for cut in cuts:

        def work(left: Tensor, right: Tensor, square: Tensor | None, cut: Any = cut) -> Tensor:
            from paramgolf.model.kernels.gpu.quack_products import (
                QuackTiling,
                run_quack_square,
                run_quack_square_derivative,
            )

            if square is None:
                return run_quack_square(left, right, SLOPE, QuackTiling(*cut))
            return run_quack_square_derivative(left, right, square, SLOPE, QuackTiling(*cut))

        rows, columns, pingpong, cluster, bands, wide = cut
        how = f"{'in turn' if pingpong else 'together'}, cluster {cluster}, bands {bands}{', wide' if wide else ''}"
        yield f"QuACK {rows}x{columns} {how}", work


def time_squared(tokens: int, dim: int, hidden: int, *, quick: bool = False) -> None:
    """The feed-forward's first product with its square, and the gradient of its second with the derivative."""
    x = F.rms_norm(drawn(tokens, dim), (dim,))
    up, down = drawn(hidden, dim, scale=0.04), drawn(dim, hidden, scale=0.04)
    a, flops = packed_square(x @ up.T, SLOPE), 2.0 * tokens * dim * hidden

    def wanted_square(rows: slice) -> Tensor:
        return packed_square(x[rows].float() @ up.T.float(), SLOPE).float()

    def wanted_gradient(rows: slice) -> Tensor:
        return x[rows].float() @ down.float() * packed_derivative(a[rows], SLOPE)

    candidates = [*triton_candidates(quick=quick), *quack_candidates(quick=quick)]
    heading(f"forward: {tokens}x{dim} . {dim}x{hidden}, squared")
    show("cuBLAS, the product alone", lambda: x @ up.T, flops, lambda rows: x[rows].float() @ up.T.float())
    for name, work in candidates:
        show(name, lambda: work(x, up, None), flops, wanted_square)  # noqa: B023
    if torch.cuda.is_available():
        (codes, step), eight = weight_codes(up), norm_codes(x)
        show("8 bits", lambda: squared_up_eight_bits(eight, codes, step * NORM_STEP, SLOPE), flops, wanted_square)
    heading(f"backward: {tokens}x{dim} . {dim}x{hidden}, times the square's derivative")
    show("cuBLAS, the product alone", lambda: x @ down, flops, lambda rows: x[rows].float() @ down.float())
    turned = down.T.contiguous().T
    for name, work in candidates:
        show(name, lambda: work(x, down, a), flops, wanted_gradient)  # noqa: B023
        if name.startswith("QuACK"):
            show(f"{name}, weights turned", lambda: work(x, turned, a), flops, wanted_gradient)  # noqa: B023


def time_products(tokens: int, dim: int, hidden: int, vocab: int) -> None:
    """Every plain product of a layer and the head, each way: cuBLAS, and QuACK's default and whole-tile kernels."""
    for name, inside, out in (
        ("queries, keys, values", dim, 2 * dim),
        ("output", dim, dim),
        ("up", dim, hidden),
        ("down", hidden, dim),
        ("head", dim, vocab),
    ):
        x, weight, gradient = drawn(tokens, inside), drawn(out, inside, scale=0.04), drawn(tokens, out)
        flops = 2.0 * tokens * inside * out
        moved = [2.0 * (a * b + c * d + e * f) for a, b, c, d, e, f in (
            (tokens, inside, inside, out, tokens, out),
            (tokens, out, inside, out, tokens, inside),
            (tokens, out, tokens, inside, out, inside),
        )]  # fmt: skip
        ways: tuple[tuple[str, Tensor, Tensor], ...] = (
            ("forward", x, weight.T),
            ("gradient of inputs", gradient, weight),
            ("gradient of weights", gradient.T, x),
        )
        heading(name)
        for (way, left, right), bytes_moved in zip(ways, moved, strict=True):
            bound = f"{way}, {bytes_moved / 3e9:.3f} ms of memory at 3 TB/s"
            show(f"cuBLAS {bound}", lambda: left @ right, flops, lambda rows: left[rows].float() @ right.float())  # noqa: B023
            if (
                way != "gradient of weights"
            ):  # of few tiles, whose depth is to be split: five times slower (docs/LOG.md)
                show_quack(way, left, right, flops)


def time_sums(tokens: int, dim: int, hidden: int) -> None:
    """The last products of both halves with the stream added: what replaces a product and a pass over three tensors."""
    for name, inside in (("feed-forward", hidden), ("attention", dim)):
        stream, a, weight = drawn(tokens, dim), drawn(tokens, inside), drawn(dim, inside, scale=0.04)

        def wanted(rows: slice, stream: Tensor = stream, a: Tensor = a, weight: Tensor = weight) -> Tensor:
            return stream[rows].float() + a[rows].float() @ weight.T.float()

        flops = 2.0 * tokens * inside * dim
        heading(f"{name}: {tokens}x{inside} . {inside}x{dim}, added to the stream")
        show("cuBLAS, the product alone", lambda: a @ weight.T, flops, lambda rows: wanted(rows) - stream[rows].float())  # noqa: B023
        show("cuBLAS after a copy (addmm)", lambda: torch.addmm(stream, a, weight.T), flops, wanted)  # noqa: B023
        if not quack_here():
            continue
        from paramgolf.model.kernels.gpu.quack_products import QuackTiling, run_quack_sum

        for cut in (
            QuackTiling(),
            QuackTiling(wide=False),
            QuackTiling(128, 192, cluster=(2, 1)),
            QuackTiling(128, 128, cluster=(2, 1)),
            QuackTiling(128, 256, False, (2, 1), wide=False),
            QuackTiling(256, 128, False, (1, 2), wide=False),
        ):
            name = str(cut).removeprefix("QuackTiling")
            show(f"QuACK {name}", lambda: run_quack_sum(stream, a, weight, cut), flops, wanted)  # noqa: B023


def untouched(acc: Any) -> dict[str, Any]:
    """An epilogue that leaves the sum as it is."""
    return {}


def show_quack(way: str, left: Tensor, right: Tensor, flops: float) -> None:
    """The same product by QuACK: two groups in turn, or together on one tile."""
    if not quack_here():
        return
    from quack.epilogue.frontend import gemm_epilogue

    from paramgolf.model.kernels.gpu.quack_products import QuackTiling, quack_options

    plain = gemm_epilogue()(untouched)
    for how in (QuackTiling(), QuackTiling(128, 256, False, (2, 1))):

        def work(how: QuackTiling = how) -> Tensor:
            out = left.new_empty(left.shape[0], right.shape[1])
            plain.gemm(left, right, out, epi_args={}, b_kn=True, **quack_options(how))
            return out

        cut = f"{how.rows}x{how.columns} {'in turn' if how.pingpong else 'together'}"
        show(f"  QuACK {way} {cut}", work, flops, lambda rows: left[rows].float() @ right.float())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=98_304)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--quick", action="store_true", help="the few tilings that have been near the best")
    parser.add_argument("--all", action="store_true", help="the plain products of a layer and the head too")
    parser.add_argument("--sums", action="store_true", help="the products that add to the stream alone")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", torch.__version__)
    if not options.sums:
        time_squared(options.tokens, options.dim, options.hidden, quick=options.quick)
    time_sums(options.tokens, options.dim, options.hidden)
    if options.all:
        time_products(options.tokens, options.dim, options.hidden, options.vocab)


if __name__ == "__main__":
    main()

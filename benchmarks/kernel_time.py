"""Attention backends and our kernels alone, in milliseconds: medians on one batch of real documents.

    python benchmarks/kernel_time.py pr1855 --data data/english8192 --set data.variant=sp8192 --tokens 98304

Attention is timed through every backend that can do the preset's batches on this device; the kernels, which need a
GPU, at the preset's width with hidden width 4 and its vocabulary, beside the products and passes that they replace.
`--quick` times variants of FlashAttention-4 in place of all backends, `--backward` those of its backward pass alone.
Tilings of products: `product_time.py`.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paramgolf import techniques  # noqa: F401  (fills the registry)
from paramgolf.batch import Batch
from paramgolf.config import overridden
from paramgolf.data.dataset import open_dataset
from paramgolf.model.attention import attend, plan, present, takes
from paramgolf.model.kernels.eight_bits import code_product, norm_codes, weight_codes
from paramgolf.model.kernels.flash4 import flash4_backward, flash4_forward, flash4_reach
from paramgolf.model.kernels.lane_step import lane_step_gradient
from paramgolf.model.kernels.mixed_norm import mixed_norm_gradient
from paramgolf.model.kernels.own_value import own_value, own_value_gradient
from paramgolf.model.kernels.query_key import query_key, query_key_gradient
from paramgolf.model.kernels.reworked_attention import (
    SUMS_WIDTH,
    attention_sums_run,
    document_blocks,
    reworked_gradient,
    values_of,
)
from paramgolf.model.kernels.softcapped_loss import head_costs
from paramgolf.model.kernels.squared_feed_forward import squared_up, squared_up_eight_bits, squared_up_gradient
from paramgolf.model.rotation import Rotation, rotary_rates
from paramgolf.presets import preset
from paramgolf.run import Run
from paramgolf.techniques.model import Rope
from paramgolf.train.distributed import pick_device

REPEATS = 15
SLOW = ("plain", "sdpa")
"""Backends that hold every pair of tokens: only where rows are short."""


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one call. On a GPU many are queued before the clock is read, so that launching them does not count."""
    calls = 10 if device.type == "cuda" else 1
    for _ in range(3):
        work()
    times = []
    for _ in range(REPEATS):
        wait(device)
        began = time.perf_counter()
        for _ in range(calls):
            work()
        wait(device)
        times.append(1000 * (time.perf_counter() - began) / calls)
    return statistics.median(times)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_attention(run: Run, batch: Batch, device: torch.device) -> None:
    model, packed = run.model, batch.cu_seqlens is not None
    dtype, width = torch.bfloat16 if device.type == "cuda" else torch.float32, model.dim // model.heads
    print(f"{'attention':12} {'key heads':>9} {'values':>10} {'forward':>9} {'backward':>9}")
    for backend in present(device.type):
        long = batch.ids.shape[1] > 8192
        no_gradient = (backend, device.type) == ("flex", "cpu")
        if not takes(backend, packed=packed) or (long and backend in SLOW) or no_gradient:
            continue
        how = plan(backend, batch)
        compiled: Any = torch.compile(attend, dynamic=False) if device.type == "cuda" else attend
        for kv, apart in dict.fromkeys(((model.kv_heads, True), (model.kv_heads, False), (model.heads, True))):
            shape = batch.ids.shape
            given = [torch.randn(*shape, n, width, device=device, dtype=dtype) for n in (model.heads, kv, kv)]
            if not apart:
                given[2] = torch.cat(given, dim=2)[:, :, -kv:]
            for tensor in given:
                tensor.requires_grad_()
            y = compiled(*given, how)
            weight = torch.randn_like(y)

            def back(y: Tensor = y, weight: Tensor = weight, given: list[Tensor] = given) -> object:
                return torch.autograd.grad(y, given, weight, retain_graph=True)

            with torch.no_grad():
                forward = milliseconds(lambda: compiled(*given, how), device)  # noqa: B023
            lie = "apart" if apart else "in product"
            print(f"{backend:12} {kv:9d} {lie:>10} {forward:9.3f} {milliseconds(back, device):9.3f}", flush=True)


def time_groups(run: Run, batch: Batch, device: torch.device, *, tiles: bool) -> None:
    """FlashAttention-4's backward pass: sums of shared keys' gradients kept in it, or left to the queries' kernel."""
    model, edges, longest = run.model, batch.cu_seqlens, batch.max_seqlen
    tokens, width = batch.ids.numel(), model.dim // model.heads
    if edges is None or model.heads == model.kv_heads or "fa4" not in present(device.type):
        return
    q, k, v, dy = (
        torch.randn(tokens, n, width, device=device).bfloat16()
        for n in (model.heads, model.kv_heads, model.kv_heads, model.heads)
    )
    saved = [q, k, v, *flash4_forward(q, k, v, edges, longest, 0)]
    whole, apart = (flash4_backward(dy, saved, edges, longest, 0, spread) for spread in (False, True))
    sums = (apart[0], *(tensor.float().sum(-2) for tensor in apart[1:]))
    off = [float((a.float() - b.float()).norm() / b.float().norm()) for a, b in zip(sums, whole)]
    print("gradients of groups apart against together, relative:", *(f"{part:.1e}" for part in off))
    for spread in (False, True):
        spent = milliseconds(lambda: flash4_backward(dy, saved, edges, longest, 0, spread), device)  # noqa: B023
        print(f"fa4 backward, groups {'apart' if spread else 'together':8} {spent:27.3f}", flush=True)
    if attention_sums_run() and width == SUMS_WIDTH:
        time_reworked(run, batch, saved, dy, device)
        time_sums(saved, dy, edges, device)
    if tiles:
        time_flash4_tiles(saved, flash4_reach(edges, longest, 0), device)


def time_sums(saved: list[Tensor], dy: Tensor, edges: Tensor, device: torch.device) -> None:
    """Its backward kernel alone, as `reworked_attention` runs it."""
    from paramgolf.model.kernels.gpu.flash4_sums import run_flash4_sums

    (q, k, v, y, log_sums), (tokens, heads, width) = saved, saved[0].shape
    exact, slot = flash4_backward(dy, saved, edges, tokens, 0, False), padded_rows_of(edges, tokens)
    padded = 64 * len(document_blocks(edges, tokens))
    stats = torch.full((2, heads, padded), 1e30, device=device)
    stats[0, :, slot], stats[1, :, slot] = log_sums * math.log2(math.e), (dy.float() * y).sum(-1).T
    sums = torch.zeros(heads, padded * width, device=device)
    dk, dv = run_flash4_sums(q, k, v, dy, stats, sums, edges)
    # As flash4_layout.py says that they lie.
    lain = sums.view(heads, padded // 64, width // 8, 4, 8, 4, 2, 2).permute(0, 1, 3, 6, 4, 2, 5, 7)
    dq = lain.reshape(heads, padded, width)[:, slot].transpose(0, 1) * width**-0.5
    errors = " ".join(f"{relative(mine, plain):.1e}" for mine, plain in zip((dq, dk, dv), exact, strict=True))
    spent = milliseconds(lambda: run_flash4_sums(q, k, v, dy, stats, sums, edges), device)
    print(f"{'fa4 backward kernel alone':40} {spent:9.3f}  errors of dq, dk, dv {errors}", flush=True)


def padded_rows_of(edges: Tensor, tokens: int) -> Tensor:
    """(T,): the padded row of each token."""
    blocks = document_blocks(edges, tokens)
    first, used, row = blocks // 128, blocks % 128, torch.arange(64, device=edges.device)
    place, there = first[:, None] + row, row < used[:, None]
    found = torch.empty(tokens, dtype=torch.int64, device=edges.device)
    found[place[there]] = torch.arange(there.numel(), device=edges.device)[there.flatten()]
    return found


def relative(found: Tensor, wanted: Tensor) -> float:
    """The norm of the difference."""
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def time_reworked(run: Run, batch: Batch, saved: list[Tensor], dy: Tensor, device: torch.device) -> None:
    """All that attention's backward pass is from gated heads to the wide product: handed on, and one after another."""
    from paramgolf.model.kernels.gpu.own_value_rows import run_own_value_readied
    from paramgolf.model.kernels.gpu.query_key_rows import run_query_key_backward

    q, k, (tokens, heads, width), edges = saved[0], saved[1], saved[0].shape, batch.cu_seqlens
    assert edges is not None
    kv = k.shape[1]
    wide = torch.randn(tokens, (heads + 2 * kv) * width, device=device).bfloat16()
    logits, gain = torch.randn(tokens, heads, device=device).bfloat16(), torch.randn(heads, device=device)
    channels = next((part.channels for part in run.model.on_qk if isinstance(part, Rope) and part.channels), width)
    turn = Rotation(rotary_rates(channels, 1e4), tokens).to(device)
    v, blocks = values_of(wide, kv, width), document_blocks(edges, tokens)
    y, log_sums = flash4_forward(q, k, v, edges, tokens, 0)
    kept, angles = [q, k, y, log_sums, logits], [turn.cos, turn.sin, gain]

    def handed_on() -> tuple[Tensor, ...]:
        return reworked_gradient(wide, angles, kept, dy, [edges, blocks], [0.5, 1.0])

    def in_turn() -> tuple[Tensor, ...]:
        of_y, of_tap, of_logits = own_value_gradient(y, v, logits, dy, 0.5, 1.0)
        found = flash4_backward(of_y, [q, k, v, y, log_sums], edges, tokens, 0, True)
        given = [*found, of_tap]
        of_wide = query_key_gradient(wide, given, turn.cos, turn.sin, gain, kv, tokens, copies=heads // kv)
        return *of_wide, of_logits

    off = " ".join(f"{relative(mine, plain):.1e}" for mine, plain in zip(handed_on(), in_turn(), strict=True))
    print(f"gradients handed on against one after another: {off}")
    _, _, sums = run_own_value_readied((y, v, logits, dy), log_sums, blocks, 0.5, 1.0)
    whole: Any = torch.compile(document_blocks)
    for name, work in {
        "all, one after another": in_turn,
        "all, handed on": handed_on,
        "own value and gate, sums cleared": lambda: run_own_value_readied(
            (y, v, logits, dy), log_sums, blocks, 0.5, 1.0
        ),
        "queries and keys from sums": lambda: run_query_key_backward(
            wide, [sums, k, k, k], turn.cos, turn.sin, gain, kv, tokens, blocks=blocks
        ),
        "blocks of padded rows": lambda: whole(edges, tokens),
    }.items():
        print(f"{name:40} {milliseconds(work, device):9.3f}", flush=True)


def time_flash4_tiles(saved: list[Tensor], reach: dict[str, Any], device: torch.device) -> None:
    """Its forward pass with other tiles, and with the heads of a group in one tile or not."""
    from flash_attn.cute.interface import _flash_attn_fwd

    for packed in (True, False):
        for tile in (None, (192, 128), (192, 96), (192, 64), (128, 128), (128, 96), (128, 64), (64, 128)):

            def forward(tile: Any = tile, packed: bool = packed) -> Any:
                return _flash_attn_fwd(*saved[:3], return_lse=True, tile_mn=tile, pack_gqa=packed, **reach)[0]

            name = f"fa4 forward, tile {tile or 'its own'}, groups {'together' if packed else 'apart'}"
            try:
                off = float((forward().float() - saved[3].float()).norm() / saved[3].float().norm())
                print(f"{name:56} {milliseconds(forward, device):9.3f} {off:9.1e}", flush=True)
            except Exception as failure:  # what does not fit says so, and the next has its turn
                print(f"{name:56} {type(failure).__name__}: {str(failure)[:80]!r}", flush=True)


def time_passes(run: Run, tokens: int, device: torch.device) -> None:
    """Kernels bound by memory, with what they read and write in a second."""
    model = run.model
    dim, heads, kv, width = model.dim, model.heads, model.kv_heads, model.dim // model.heads

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).bfloat16()

    x, x0, skip, a, m, dn, du = (draw(tokens, dim) for _ in range(7))
    wide, q, k, v = draw(tokens, dim + 2 * kv * width), *(draw(tokens, n, width) for n in (heads, kv, kv))
    logits, gain, write = draw(tokens, heads), draw(heads).float(), draw(2, 2).float()
    channels = next((part.channels for part in model.on_qk if isinstance(part, Rope) and part.channels), width)
    turn = Rotation(rotary_rates(channels, 1e4), tokens).to(device)
    weights = {count: draw(count, dim).float() for count in (2, 3)}
    halves, spread = wide[:, : dim + kv * width], q.view(tokens, kv, -1, width)
    rows: list[tuple[str, Callable[[], object], list[Tensor]]] = [
        ("queries and keys", lambda: query_key(wide, turn.cos, turn.sin, gain, kv, tokens), [halves, halves]),
        (
            "their gradient",
            lambda: query_key_gradient(wide, [q, k, v, v], turn.cos, turn.sin, gain, kv, tokens),
            [halves, q, k, v, v, wide],
        ),
        (
            "the same, groups apart",
            lambda: query_key_gradient(
                wide, [q, spread, spread, v], turn.cos, turn.sin, gain, kv, tokens, copies=heads // kv
            ),
            [halves, q, spread, spread, v, wide],
        ),
        ("own value and gate", lambda: own_value(q, v, logits, 0.5, 1.0), [q, v, q]),
        ("their gradient", lambda: own_value_gradient(q, v, logits, q, 0.5, 1.0), [q, v, q, q, v]),
        (
            "gradient of mix and norm",
            lambda: mixed_norm_gradient(du, dn, None, None, [x, x0], weights[2], 0.5),
            [du, dn, x, x0, x, x0],
        ),
        (
            "gradient of skip, mix and norm",
            lambda: mixed_norm_gradient(du, dn, None, None, [x, skip, x0], weights[3], 0.5),
            [du, dn, x, skip, x0, x, skip, x0],
        ),
        (
            "gradient of a step of two lanes",
            lambda: lane_step_gradient([du, dn], [x, x0, a, m], write),
            [du, dn, x, x0, a, m, a, m],
        ),
    ]
    print(f"{'kernel bound by memory':40} {'ms':>9} {'GB/s':>7}")
    for name, work, moved in rows:
        spent = milliseconds(work, device)
        moves = sum(tensor.numel() * tensor.element_size() for tensor in moved)
        print(f"{name:40} {spent:9.3f} {moves / spent / 1e6:7.0f}", flush=True)


def time_kernels(run: Run, tokens: int, device: torch.device) -> None:
    dim, hidden, vocab = run.model.dim, 4 * run.model.dim, run.model.vocab

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(*shape, device=device)).bfloat16()

    x, up, down, head = (
        draw(tokens, dim),
        draw(hidden, dim, scale=0.04),
        draw(dim, hidden, scale=0.02),
        draw(vocab, dim),
    )
    targets = torch.randint(0, vocab, (tokens,), device=device)
    a, h, wide, eight = squared_up(x, up, 0.5), x @ up.T, draw(2 * dim, dim), norm_codes(x)
    (codes, step), wide_codes, head_codes = weight_codes(up), weight_codes(wide), weight_codes(head)
    square = torch.compile(lambda h: F.leaky_relu(h, 0.5).square())
    rows: dict[str, Callable[[], object]] = {
        "up product": lambda: x @ up.T,
        "leaky square": lambda: square(h),
        "up product and square": lambda: squared_up(x, up, 0.5),
        "down product's gradient": lambda: x @ down,
        "the same times the square's derivative": lambda: squared_up_gradient(x, down, a, 0.5),
        "up product and square, 8 bits": lambda: squared_up_eight_bits(eight, codes, step, 0.5),
        "query, key and value product": lambda: x @ wide.T,
        "the same, 8 bits": lambda: code_product(eight, *wide_codes),
        "head product": lambda: x @ head.T,
        "head product, 8 bits": lambda: code_product(eight, *head_codes),
        "head product and loss": lambda: head_costs(x, head, targets, 30.0, False),
        "head product, loss and gradient": lambda: head_costs(x, head, targets, 30.0, True),
    }
    for name, work in rows.items():
        print(f"{name:40} {milliseconds(work, device):9.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--tokens", type=int, default=98_304)
    parser.add_argument("--quick", action="store_true", help="FlashAttention-4's variants in place of all backends")
    parser.add_argument("--backward", action="store_true", help="variants of attention's backward pass, nothing else")
    options = parser.parse_args()
    # The gradient is taken many times over.
    torch._functorch.config.donated_buffer = False
    run, device = overridden(preset(options.preset), options.settings), pick_device("auto")
    shards = open_dataset(options.data, run.data.variant).train
    sizes = {"tokens": options.tokens, "seq_len": run.train.seq_len, "rank": 0, "world": 1}
    batch = run.data.loader.build(shards, seed=run.seed, **sizes).next().to(device)
    if batch.cu_seqlens is not None:
        lengths = batch.cu_seqlens.diff().double()
        print(f"{int((lengths > 0).sum())} documents in {options.tokens:,} tokens, ", end="")
        print(f"sum of squared lengths over tokens {float(lengths.square().sum()) / options.tokens:,.0f}")
    if options.quick or options.backward:
        time_groups(run, batch, device, tiles=options.quick)
    if options.backward:
        return
    if not options.quick:
        time_attention(run, batch, device)
    if device.type == "cuda":
        time_kernels(run, options.tokens, device)
        time_passes(run, options.tokens, device)


if __name__ == "__main__":
    main()

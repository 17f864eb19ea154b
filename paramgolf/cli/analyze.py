"""`analyze`: the export workbench on one trained checkpoint. Nothing is trained; every point is an exact round trip."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from paramgolf.cli.analyze_options import AnalyzeOptions, opened_workbench
from paramgolf.cli.options import Json
from paramgolf.cli.output import print_json, print_rows, print_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paramgolf.lab.analysis.points import Point

Vary = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
SCORED_HEADER = ("export", "bytes", "bpb", "lost", "pack s", "unpack s")


def bytes_command(
    artifact: Path, /, *, by: Literal["role", "tensor"] = "role", config: Path | None = None, json: Json = False
) -> int:
    """Say where the bytes of an artifact go, beside the entropy of what they hold.

    Parameters
    ----------
    artifact
        Folder of a run, or its artifact.
    by
        Add up by role, or show every tensor.
    config
        The config.toml that an artifact outside its run's folder was exported under.
    json
        Print as JSON.
    """
    from paramgolf.lab.analysis.tensor_bytes import artifact_bytes_of, grouped_bytes

    rows, size, overhead = artifact_bytes_of(artifact, config)
    rows = grouped_bytes(rows, by)
    if json:
        print_json({"bytes": size, "header": overhead, "rows": [row._asdict() for row in rows]})
        return 0
    names = ("tensor",) if by == "tensor" else ()
    header = (*names, "role", "kind", "numbers", "raw bytes", "entropy", "bytes", "share", "bits each")
    shown = [
        (
            *((row.tensor,) if by == "tensor" else ()),
            row.role,
            row.kind,
            f"{row.numbers:,}",
            f"{row.raw:,}",
            f"{row.entropy:,}",
            f"{row.share:,}",
            f"{row.share / size:.1%}",
            f"{8 * row.share / max(row.numbers, 1):.3f}",
        )
        for row in rows
    ]
    numeric = range(len(names) + 2, len(header))
    print_rows(header, shown, right=numeric)
    print_text(
        f"\n{size:,} bytes, {overhead:,} of them header; entropy is that of each array alone (order 0), in bytes"
    )
    return 0


def sensitivity_command(
    run: str,
    /,
    *,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
    by: Literal["role", "tensor"] = "tensor",
    json: Json = False,
) -> int:
    """Quantize each tensor or role alone, everything else as it was trained: what it costs in bytes and in score.

    Parameters
    ----------
    run
        Folder of a run, or with --weights a preset.
    by
        One point a tensor, or one a role.
    json
        Print as JSON.
    """
    from paramgolf.lab.analysis.sensitivity import SLOPE_BYTES, sensitivity

    with opened_workbench(run, options) as bench:
        rows = sensitivity(bench, by=by)
        exact = bench.exact_bpb()
    if json:
        print_json({"trained_bpb": exact, "slope_bytes": SLOPE_BYTES, "rows": [row._asdict() for row in rows]})
        return 0
    shown = [
        (r.name, r.role, f"{r.weights:,}", f"{r.bytes:,}", f"{r.bits:.3f}", f"{r.lost:+.5f}", f"{-r.slope:+.5f}")
        for r in rows
    ]
    header = (by, "role", "weights", "bytes", "bits each", "lost", f"per {SLOPE_BYTES // 1000} kB more")
    print_rows(header, shown, right=range(2, 7))
    total = sum(r.lost for r in rows)
    print_text(f"\ntrained weights {exact:.4f} bpb; all rows together lose {total:+.5f} if losses add up")
    return 0


def codecs_command(
    run: str,
    /,
    *,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
    json: Json = False,
) -> int:
    """Give the same stored weights to every coder: bytes, seconds, and a check that they come back.

    Parameters
    ----------
    run
        Folder of a run, or with --weights a preset.
    json
        Print as JSON.
    """
    from paramgolf.lab.analysis.codecs import shoot_out

    with opened_workbench(run, options) as bench:
        rows = shoot_out(bench)
    if json:
        print_json({"rows": [row._asdict() for row in rows]})
        return 0
    best = rows[0].bytes
    shown = [
        (
            r.coder,
            f"{r.bytes:,}",
            f"{r.bytes / best - 1:+.2%}",
            f"{r.bits:.3f}",
            f"{r.encode_seconds:.2f}",
            f"{r.decode_seconds:.2f}",
        )
        for r in rows
    ]
    print_rows(("coder", "bytes", "over best", "bits a weight", "pack s", "unpack s"), shown, right=range(1, 6))
    return 0


def clip_command(
    run: str,
    /,
    *,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
    vary: Vary = (),
    json: Json = False,
) -> int:
    """Export with wider and narrower steps: bytes and score of each.

    Parameters
    ----------
    run
        Folder of a run, or with --weights a preset.
    vary
        A setting and its values, as quant.mlp.clip.sigmas=10,12,14; of several all combinations. By default the
        steps of every quantizer times a few factors, or, where the export fills a budget, that budget.
    json
        Print as JSON.
    """
    from paramgolf.lab.analysis.sweep import scaled_runs, sweep_runs, varied_runs

    with opened_workbench(run, options) as bench:
        own = bench.subject.run
        points = sweep_runs(bench, "clip", varied_runs(own, vary) if vary else scaled_runs(bench))
        exact = bench.exact_bpb()
    print_points(points, exact, json=json)
    return 0


def permute_command(
    run: str,
    /,
    *,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
    json: Json = False,
) -> int:
    """Export with the hidden units of every feed-forward in other orders: the same function, other bytes.

    Parameters
    ----------
    run
        Folder of a run, or with --weights a preset.
    json
        Print as JSON.
    """
    from paramgolf.lab.analysis.permute import permutation_survey

    with opened_workbench(run, options) as bench:
        points = permutation_survey(bench)
        exact = bench.exact_bpb()
    print_points(points, exact, json=json)
    return 0


def residuals_command(
    run: str,
    /,
    *,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
    budget: int | None = None,
    bits: Literal[2, 3, 4] = 2,
    role: Vary = (),
    json: Json = False,
) -> int:
    """Find the tensors for which a second, finer term pays for its bytes, and spend what the budget leaves on them.

    Parameters
    ----------
    run
        Folder of a run, or with --weights a preset.
    budget
        Bytes of the artifact; by default the contest's less the code.
    bits
        Of a code of the second term.
    role
        Only tensors of this role; may be repeated.
    json
        Print as JSON.
    """
    from paramgolf.lab.analysis.residuals import residual_allocation

    with opened_workbench(run, options) as bench:
        room = bench.budget if budget is None else budget
        found = residual_allocation(bench, budget=room, bits=bits, only=role)
    if json:
        rows = [row._asdict() for row in found.rows]
        print_json({"before": found.before._asdict(), "after": found.after._asdict(), "rows": rows})
        return 0
    shown = [
        (r.name, r.role, f"{r.bytes:,}", f"{r.won:+.5f}", f"{r.rate:+.5f}", "taken" if r.taken else "")
        for r in found.rows
    ]
    print_rows(("tensor", "role", "bytes more", "bpb won", "per 100 kB", ""), shown, right=(2, 3, 4))
    print_text()
    print_points([found.before, found.after], None, json=False)
    print_text(f"budget {room:,}")
    return 0


def pareto_command(
    run: str,
    /,
    *,
    options: AnalyzeOptions = AnalyzeOptions(),  # noqa: B008
    vary: Vary = (),
    coder: Vary = (),
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Draw bits per byte against bytes for many exports, with the budget: an SVG and a page to explore.

    Parameters
    ----------
    run
        Folder of a run, or with --weights a preset.
    vary
        A setting and its values, as quant.mlp.clip.sigmas=10,12,14; of several all combinations. By default the
        steps of every quantizer times a few factors, or, where the export fills a budget, that budget.
    coder
        Short name of a coder; with several, every export under each.
    out
        Folder for pareto.svg and pareto.html; by default where the points are kept.
    json
        Print the points as JSON.
    """
    from paramgolf.lab.analysis.charts import Chart, chart_html, chart_svg
    from paramgolf.lab.analysis.sweep import pareto_front, scaled_runs, sweep_runs, varied_runs, with_coders

    with opened_workbench(run, options) as bench:
        own = bench.subject.run
        runs = varied_runs(own, vary) if vary else scaled_runs(bench)
        points = sweep_runs(bench, "pareto", with_coders(runs, coder))
        exact = bench.exact_bpb()
        folder = out or bench.subject.folder
        title = f"{own.name}, {bench.subject.params:,} parameters"
        chart = Chart(title, points, bench.budget, exact)
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / "pareto.svg": chart_svg(chart), folder / "pareto.html": chart_html(chart)}
    for file, text in files.items():
        file.write_text(text)
    print_points(points, exact, json=json, best=pareto_front(points))
    if not json:
        print_text("\n" + "\n".join(str(file) for file in files))
    return 0


def print_points(points: "Sequence[Point]", exact: float | None, *, json: bool, best: "Sequence[Point]" = ()) -> None:
    """Measured exports as a table, those of the front with a star."""
    if json:
        print_json({"trained_bpb": exact, "points": [point._asdict() for point in points]})
        return
    shown = [
        (
            point.label + (" *" if point in best else ""),
            f"{point.bytes:,}",
            "" if point.bpb is None else f"{point.bpb:.5f}",
            "" if point.lost is None else f"{point.lost:+.5f}",
            f"{point.encode_seconds:.2f}",
            f"{point.decode_seconds:.2f}",
        )
        for point in points
    ]
    print_rows(SCORED_HEADER, shown, right=range(1, 6))
    if len(points) > 1 and len({(point.bytes, point.bpb) for point in points}) == 1:
        print_text("\nall of them are one export: what was varied has no say in it")
    if exact is not None:
        print_text(f"\ntrained weights {exact:.5f} bpb" + ("; * no other is both smaller and better" if best else ""))

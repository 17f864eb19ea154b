"""Bits per byte against bytes: the front that exports of one checkpoint reach, as SVG and as a page that answers."""

import html
from collections.abc import Sequence
from importlib import import_module
from io import StringIO
from typing import NamedTuple

from paramgolf.errors import UsageError
from paramgolf.lab.analysis.points import Point
from paramgolf.lab.analysis.sweep import pareto_front

MISSING_PLOT = 'pip install "paramgolf[plot]"'


class Chart(NamedTuple):
    """What is drawn."""

    title: str
    points: Sequence[Point]
    cap: int
    """Bytes that weights may take: the contest's budget less the code."""
    exact: float
    """Score of the trained weights."""

    @property
    def series(self) -> dict[str, list[Point]]:
        """The scored points by coder or survey, whatever follows the last comma of their labels."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            if point.bpb is not None:
                _, comma, name = point.label.rpartition(", ")
                found.setdefault(name if comma else point.survey, []).append(point)
        return found


def chart_svg(chart: Chart) -> str:
    """The chart as one SVG file. Raises `UsageError` when matplotlib is not installed."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed", fix=MISSING_PLOT) from None
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for name, points in chart.series.items():
        axes.scatter([p.bytes / 1e6 for p in points], [p.bpb or 0.0 for p in points], s=28, label=name, zorder=3)
    best = pareto_front(chart.points)
    axes.step(
        [p.bytes / 1e6 for p in best], [p.bpb or 0.0 for p in best], where="post", color="0.45", lw=1, label="front"
    )
    axes.axvline(chart.cap / 1e6, color="tab:red", ls="--", lw=1.2, label=f"budget less code, {chart.cap:,}")
    axes.axhline(chart.exact, color="tab:green", ls=":", lw=1.2, label=f"trained weights, {chart.exact:.4f}")
    axes.set_xlabel("bytes of the artifact, MB")
    axes.set_ylabel("bits per byte after the round trip")
    axes.set_title(chart.title, loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize="small")
    text = StringIO()
    with rc_context({"svg.hashsalt": "paramgolf", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def chart_html(chart: Chart) -> str:
    """The chart as one HTML file that needs nothing else: hover for a point's numbers, drag to zoom.

    Raises `UsageError` when plotly is not installed.
    """
    try:
        graph_objects = import_module("plotly.graph_objects")
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed", fix=MISSING_PLOT) from None
    figure = graph_objects.Figure()
    for name, points in chart.series.items():
        figure.add_scatter(
            x=[p.bytes for p in points],
            y=[p.bpb for p in points],
            mode="markers",
            name=name,
            customdata=[[html.escape(p.label), p.lost, chart.cap - p.bytes] for p in points],
            hovertemplate="%{customdata[0]}<br>%{x:,} bytes, %{customdata[2]:,} left<br>%{y:.4f} bpb, "
            "%{customdata[1]:+.4f} by export<extra></extra>",
        )
    best = pareto_front(chart.points)
    shape = {"shape": "hv", "color": "gray", "width": 1}
    figure.add_scatter(x=[p.bytes for p in best], y=[p.bpb for p in best], mode="lines", name="front", line=shape)
    figure.add_vline(chart.cap, line_dash="dash", line_color="firebrick", annotation_text=f"{chart.cap:,} bytes")
    figure.add_hline(chart.exact, line_dash="dot", line_color="green", annotation_text=f"trained {chart.exact:.4f}")
    figure.update_layout(
        title=html.escape(chart.title),
        template="plotly_white",
        xaxis_title="bytes of the artifact",
        yaxis_title="bits per byte after the round trip",
    )
    return figure.to_html(include_plotlyjs=True, full_html=True)

"""Figures of the analyses, as matplotlib figures: saved as PNG, SVG, PDF or a page, or put into the report."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from harness_analysis.errors import AnalysisError
from harness_analysis.metrics.cost_quality import non_decreasing_hull
from harness_analysis.outcomes.matrix import COST_UNITS
from harness_analysis.routing.evaluation import ZERO, Evaluation

FIGURE_KINDS = (".png", ".svg", ".pdf", ".html")
_PAGE = (
    '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{name}</title><body>{svg}</body></html>\n'
)
Figure = Any
"""A `matplotlib.figure.Figure`; the library is imported when the first one is made."""


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure by its file's ending; the file appears whole or not at all.

    Raises:
        AnalysisError: an ending that is not known, or a place that cannot be written.
    """
    if path.suffix.lower() not in FIGURE_KINDS:
        raise AnalysisError(f"{path}: figures are written as {', '.join(FIGURE_KINDS)}")
    partial = path.with_name(path.name + ".partial")
    try:
        if path.suffix.lower() == ".html":
            partial.write_text(
                _PAGE.format(name=html.escape(path.stem), svg=as_svg(figure)), encoding="utf-8"
            )
        else:
            figure.savefig(partial, dpi=150, format=path.suffix[1:].lower())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise AnalysisError(f"{path}: cannot be written: {error.strerror}") from None


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG without its XML heading, to be put into a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def deferral_figure(evaluation: Evaluation) -> Figure:
    """Draw accuracy against the budget of a query, one line per router."""
    from matplotlib.ticker import LogFormatter

    figure, axes = _axes(f"budget of a query ({COST_UNITS[evaluation.test.unit]})", "accuracy")
    _colour_lines(axes, len(evaluation.results))
    for result in evaluation.results:
        style = "--" if result.name in {ZERO, "oracle"} else "-"
        axes.plot(
            result.curve.budgets,
            result.curve.accuracy,
            style,
            marker="o",
            markersize=3,
            label=f"{result.name} ({result.area.estimate:.3f})",
        )
    if evaluation.results[0].curve.budgets.min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(LogFormatter())
        axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    figure.legend(title="router (area)", fontsize=8, loc="outside right upper")
    return figure


def plane_figure(evaluation: Evaluation) -> Figure:
    """Draw the cost-quality plane: single models as points, routers as their non-decreasing hulls."""
    figure, axes = _axes(f"mean cost of a query ({COST_UNITS[evaluation.test.unit]})", "accuracy")
    high = evaluation.costs_range[1]
    _colour_lines(axes, len(evaluation.results))
    for result in evaluation.results:
        cost, quality = non_decreasing_hull(result.plane[:, 0], result.plane[:, 1])
        style = "--" if result.name in {ZERO, "oracle"} else "-"
        axes.plot(
            np.append(cost, high),
            np.append(quality, quality[-1]),
            style,
            label=f"{result.name} ({result.aiq.estimate:.3f})",
        )
    cost, quality = evaluation.test.cost.mean(axis=0), evaluation.test.correct.mean(axis=0)
    axes.scatter(cost, quality, s=14, color="black", zorder=3)
    if len(cost) <= 12:
        for model, x, y in zip(evaluation.test.models, cost, quality, strict=True):
            axes.annotate(model, (x, y), fontsize=6, xytext=(3, 3), textcoords="offset points")
    figure.legend(title="router (AIQ)", fontsize=8, loc="outside right upper")
    return figure


def bars_figure(
    table: pa.Table, label: str, value: str, *, low: str = "", high: str = "", title: str = ""
) -> Figure:
    """Draw one horizontal bar per row with its interval.

    Args:
        table: rows.
        label: column that names a bar.
        value: column of its length; rows without one are left out.
        low: column of the lower end of its interval.
        high: column of the upper end.
        title: of the axis, the column's name by default.
    """
    rows = [row for row in table.to_pylist() if row[value] is not None and np.isfinite(row[value])]
    figure, axes = _axes(title or value, "", height=max(2.5, 0.28 * len(rows) + 1.2))
    names = [str(row[label]) for row in rows]
    values = np.array([row[value] for row in rows])
    error = None
    if low and high and all(row[low] is not None and np.isfinite(row[low]) for row in rows):
        error = np.abs(np.array([[row[value] - row[low], row[high] - row[value]] for row in rows])).T
    axes.barh(range(len(rows)), values, xerr=error, color="#4c78a8", error_kw={"lw": 1})
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    return figure


def lines_figure(table: pa.Table, x: str, y: str, by: str | None, *, x_title: str, y_title: str) -> Figure:
    """Draw one line per value of `by`, or one line."""
    figure, axes = _axes(x_title, y_title)
    rows = [row for row in table.to_pylist() if row[y] is not None]
    for group in dict.fromkeys(row[by] if by else "" for row in rows):
        part = [row for row in rows if not by or row[by] == group]
        axes.plot(
            [row[x] for row in part], [row[y] for row in part], marker="o", markersize=3, label=str(group)
        )
    if by:
        axes.legend(fontsize=7)
    return figure


def learning_figure(table: pa.Table, metric: str) -> Figure:
    """Draw a metric with its interval against the number of training queries, one line per router."""
    figure, axes = _axes("training queries", metric.replace("_", " ").replace("f1", "F1"))
    rows = table.to_pylist()
    for router in dict.fromkeys(row["router"] for row in rows):
        part = [row for row in rows if row["router"] == router]
        sizes, value = ([row[name] for row in part] for name in ("training_queries", metric))
        (line,) = axes.plot(sizes, value, marker="o", markersize=3, label=router)
        low, high = ([row[f"{metric}_{end}"] for row in part] for end in ("low", "high"))
        axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.legend(fontsize=7)
    return figure


def sla_figure(curves: pa.Table, unit: str) -> Figure:
    """Draw the running share of satisfied requests and the running cost of a request, one line per run.

    Args:
        curves: those of `sla_tables`.
        unit: of the cost, of `COST_UNITS`.
    """
    figure, _ = _axes("", "", height=6.5)
    figure.clear()
    above, below = figure.subplots(2, 1, sharex=True)
    rows = curves.to_pylist()
    for line in dict.fromkeys(row["line"] for row in rows):
        part = [row for row in rows if row["line"] == line]
        at = [row["request"] for row in part]
        above.plot(at, [row["satisfied"] for row in part], label=line)
        below.plot(at, [row["mean_cost"] for row in part])
    for alpha in sorted({row["alpha"] for row in rows}):
        above.axhline(alpha, color="black", linestyle=":", linewidth=1)
    above.set_ylabel("share satisfied so far")
    below.set_ylabel(f"cost of a request so far ({COST_UNITS[unit]})", fontsize=8)
    below.set_xlabel("request")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    above.legend(fontsize=7)
    return figure


def stacked_figure(table: pa.Table, label: str, columns: list[str], title: str) -> Figure:
    """Draw one horizontal bar per row, cut into columns."""
    rows = table.to_pylist()
    figure, axes = _axes(title, "", height=max(2.5, 0.28 * len(rows) + 1.2))
    left = np.zeros(len(rows))
    for column in columns:
        values = np.array([row[column] for row in rows])
        axes.barh(range(len(rows)), values, left=left, label=column)
        left += values
    axes.set_yticks(range(len(rows)), [str(row[label]) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return figure


def _colour_lines(axes: Any, lines: int) -> None:
    """Give so many lines a colour each; beyond twenty they come again."""
    import matplotlib as mpl

    axes.set_prop_cycle(color=mpl.color_sequences["tab10" if lines <= 10 else "tab20"])


def _axes(x_title: str, y_title: str, height: float = 4.5) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(7.5, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes

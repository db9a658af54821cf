"""One self-contained page about outcomes: what was solved, at which cost, and what routing would change."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness_analysis import descriptive, plots
from harness_analysis.errors import AnalysisError
from harness_analysis.outcomes.matrix import COST_UNITS
from harness_analysis.outcomes.table import Outcomes
from harness_analysis.routing.evaluation import Evaluation
from harness_analysis.routing.tables import comparison_table, evaluation_table

MAX_ROWS = 60

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
.absent { color: #777; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: a heading, what to make of it, a table and a figure."""

    title: str
    text: str
    table: pa.Table
    figure: plots.Figure


def write_report(outcomes: Outcomes, path: Path, evaluation: Evaluation | None = None) -> list[str]:
    """Write the page; parts that the outcomes cannot support say so in its text.

    Args:
        outcomes: to report on.
        path: of the page.
        evaluation: of routers, where one was made.

    Returns:
        The titles of the parts that are in it.

    Raises:
        AnalysisError: the file cannot be written.
    """
    parts: list[str] = []
    there: list[str] = []
    for title, make in _SECTIONS:
        try:
            section = make(outcomes)
        except AnalysisError as error:
            parts.append(f'<h2>{title}</h2><p class="absent">Not shown: {html.escape(str(error))}.</p>')
            continue
        parts.append(_rendered(section))
        there.append(section.title)
    if evaluation is not None:
        for section in _routing_sections(evaluation):
            parts.append(_rendered(section))
            there.append(section.title)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(outcomes.name)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(outcomes.name)}</h1>"
        f"<p>{_summary(outcomes)}</p>{''.join(parts)}"
        f"<p class='absent'>Made by joule-harness {version('joule-harness')}.</p></body></html>\n"
    )
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise AnalysisError(f"{path}: cannot be written: {error.strerror}") from None
    return there


def _summary(outcomes: Outcomes) -> str:
    t = outcomes.table
    row = t.agg(
        rows=t.count(),
        queries=t.query_id.nunique(),
        models=t.model_id.nunique(),
        judged=t.correct.count(),
        measured=(t.energy_kind == "measured").sum(),
        estimated=(t.energy_kind == "estimated").sum(),
    )
    s = {k: v or 0 for k, v in row.to_pyarrow().to_pylist()[0].items()}
    return (
        f"{s['rows']:,} answers of {s['models']:,} models to {s['queries']:,} queries; {s['judged']:,} have a verdict,"
        f" {s['measured']:,} measured joules and {s['estimated']:,} estimated ones. Intervals are 95 %."
    )


def _solvability(outcomes: Outcomes) -> Section:
    table = descriptive.solvability(outcomes)
    figure = plots.bars_figure(
        table, "model_id", "solved", low="low", high="high", title="share of queries solved"
    )
    return Section("Solvability", "The share of queries that each model solves.", table, figure)


def _coverage(outcomes: Outcomes) -> Section:
    table = descriptive.joint_coverage(outcomes)
    figure = plots.lines_figure(
        table,
        "up_to_params_b",
        "covered",
        None,
        x_title="models up to this size (billions of parameters)",
        y_title="share of queries solved by some model",
    )
    text = "The share of queries that at least one model up to a size solves: what a perfect router could send there."
    return Section("Joint coverage", text, table, figure)


def _efficiency(outcomes: Outcomes) -> Section:
    table = descriptive.efficiency(outcomes)
    figure = plots.bars_figure(
        table, "model_id", "per_joule", low="per_joule_low", high="per_joule_high", title="accuracy per joule"
    )
    text = "Accuracy per mean joule and watt. The intervals are of the queries; the instrument's bounds stand beside."
    return Section("Intelligence per joule and per watt", text, table, figure)


def _savings(outcomes: Outcomes) -> Section:
    table = descriptive.savings_by_size(outcomes)
    figure = plots.lines_figure(
        table,
        "up_to_params_b",
        "saved",
        "resource",
        x_title="local models up to this size (billions of parameters)",
        y_title="saved by a perfect router",
    )
    text = (
        "What sending each query to the smallest model that solves it saves, against the largest model alone."
    )
    return Section("Savings by size", text, table, figure)


_SECTIONS: tuple[tuple[str, Callable[[Outcomes], Section]], ...] = (
    ("Solvability", _solvability),
    ("Joint coverage", _coverage),
    ("Intelligence per joule and per watt", _efficiency),
    ("Savings by size", _savings),
)


def _routing_sections(evaluation: Evaluation) -> list[Section]:
    unit = COST_UNITS[evaluation.test.unit]
    left_out = f" Left out: {'; '.join(evaluation.test.left_out)}." if evaluation.test.left_out else ""
    text = (
        f"Trained on {len(evaluation.training):,} queries, measured on {len(evaluation.test):,} others. Budgets and"
        f" costs in {unit}; F1, accuracy and savings at threshold {evaluation.threshold:g}.{left_out}"
    )
    sections = [
        Section("Routers by budget", text, evaluation_table(evaluation), plots.deferral_figure(evaluation)),
    ]
    pairs = comparison_table(evaluation)
    if pairs.num_rows:
        sections.append(
            Section(
                "Routers on the cost-quality plane, and pair by pair",
                "Differences of areas on the same resamples; significant where the interval excludes 0.",
                pairs,
                plots.plane_figure(evaluation),
            )
        )
    return sections


def _rendered(section: Section) -> str:
    return (
        f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>"
        f"{plots.as_svg(section.figure)}{_html_table(section.table)}"
    )


def _html_table(table: pa.Table) -> str:
    rows: Sequence[dict[str, Any]] = table.slice(0, MAX_ROWS).to_pylist()
    heading = "".join(f"<th>{html.escape(name)}</th>" for name in table.column_names)
    body = "".join("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
    more = table.num_rows - len(rows)
    note = f"<p class='absent'>{more} more rows are not shown.</p>" if more > 0 else ""
    return f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>{note}"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))

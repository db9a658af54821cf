"""The data card of a benchmark: what is in it, under which licences, how it was cleaned and how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from harness_analysis.publishing.manifest import OUTCOMES, PublishedDataset, PublishedJob

_INTRODUCTION = """# Queries, verdicts and telemetry

Each row of `jobs/*.results.parquet` is one answer to one query by one model on one kind of hardware, with its tokens,
seconds and joules; `jobs/*.verdicts.parquet` holds every verdict on it, `datasets/*.parquet` the queries with domains
and references. A split is a dataset of its own, named after the one it was made from. `manifest.json` has the SHA-256
and the rows of every file. Columns that name the owner's machines were left out."""

_READING = """## Reading it

    harness import bench FOLDER                       # checks every hash and count, then makes the datasets
    harness route evaluate FOLDER/outcomes.parquet
    harness analyze solvability FOLDER/outcomes.parquet"""

_MEASURED = """## How it was measured

Means are over rows of one model, hardware, kind of energy, source, scope and method, and never over measured and
estimated rows together. `source` says where joules come from, `scope` which part of the machine they cover, `method`
how a run's energy was shared among its queries, `coverage` how much of an answer's time had samples. A dash is not
known."""


def data_card(folder: Path, datasets: Sequence[PublishedDataset], jobs: Sequence[PublishedJob]) -> str:
    """Return the card of a folder whose Parquet files are written."""
    parts = [_front_matter(datasets, jobs), _INTRODUCTION, _datasets(datasets), _steps(datasets)]
    if jobs:
        results = pl.concat([pl.read_parquet(folder / job.results) for job in jobs])
        verdicts = pl.concat([pl.read_parquet(folder / job.verdicts) for job in jobs])
        parts += [_MEASURED, _measurements(results), "## Verdicts", _verdicts(verdicts)]
    parts.append(_READING if jobs else _READING.rpartition("\n")[0].rpartition("\n")[0])
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(datasets: Sequence[PublishedDataset], jobs: Sequence[PublishedJob]) -> str:
    configs = [("queries", [d.file for d in datasets])]
    if jobs:
        configs += [
            ("outcomes", [OUTCOMES]),
            ("results", [job.results for job in jobs]),
            ("verdicts", [job.verdicts for job in jobs]),
        ]
    lines = ["---", "configs:"]
    for name, files in configs:
        lines += [f"- config_name: {name}", "  data_files:", *(f"  - {file}" for file in files)]
    return "\n".join([*lines, "---"])


def _datasets(datasets: Sequence[PublishedDataset]) -> str:
    rows = [
        [
            d.name,
            f"{d.rows:,}",
            ", ".join(f"{licence} ({count:,})" for licence, count in d.licences.items()),
            d.parent,
            d.origin,
        ]
        for d in datasets
    ]
    return "## Datasets\n\n" + _table(["dataset", "rows", "licences (rows)", "made from", "origin"], rows)


def _steps(datasets: Sequence[PublishedDataset]) -> str:
    """Return what importing, cleaning, labelling and splitting counted, of each dataset once."""
    reports: dict[str, dict[str, Any] | None] = {}
    for d in datasets:
        reports |= d.reports
    rows: list[list[Any]] = []
    for name, report in reports.items():
        if report is None:
            rows.append([name, "-", "no report is kept"])
            continue
        kind = str(report.get("kind", "-"))
        if steps := report.get("steps"):
            rows += [
                [name, f"{kind}: {step['step']}", f"{step['removed']:,} of {step['rows_before']:,} removed"]
                for step in steps
            ]
        else:
            numbers = [f"{k.replace('_', ' ')} {v:,}" for k, v in report.items() if type(v) is int]
            by = f"by {report['by']}: " if isinstance(report.get("by"), str) else ""
            rows.append([name, kind, by + ", ".join(numbers)])
    return "## How the queries were made\n\n" + _table(["dataset", "step", "counted"], rows)


def _measurements(results: pl.DataFrame) -> str:
    kind = (
        pl.when(pl.col("joules").is_null())
        .then(None)
        .when(pl.col("energy_source") == "estimated")
        .then(pl.lit("estimated"))
        .otherwise(pl.lit("measured"))
    )
    keys = ["model_id", "hardware", "kind", "energy_source", "device_scope", "attribution"]
    found = (
        results.with_columns(kind.alias("kind"))
        .group_by(keys)
        .agg(
            (pl.col("state") == "done").sum().alias("answers"),
            (pl.col("state") == "failed").sum().alias("failed"),
            pl.col("joules").count().alias("with_joules"),
            pl.col("joules").mean().alias("mean_joules"),
            pl.col("coverage").mean().alias("mean_coverage"),
            pl.col("total_s").mean().alias("mean_s"),
        )
        .sort(keys)
    )
    heading = [
        "model", "hardware", "energy", "source", "scope", "method", "answers", "failed", "with joules",
        "mean J", "mean coverage", "mean s",
    ]  # fmt: skip
    return _table(heading, [list(row) for row in found.iter_rows()])


def _verdicts(verdicts: pl.DataFrame) -> str:
    keys = ["job", "method", "model_id"]
    found = (
        verdicts.group_by(keys)
        .agg(
            pl.col("official").any().alias("official"),
            pl.col("correct").count().alias("judged"),
            pl.col("correct").is_null().sum().alias("undecided"),
            pl.col("correct").mean().alias("right"),
        )
        .sort(keys)
    )
    heading = ["job", "method", "model", "official", "judged", "undecided", "share right"]
    rows = [["yes" if v is True else "no" if v is False else v for v in row] for row in found.iter_rows()]
    return _table(heading, rows) if rows else "None of the answers has a verdict."


def _table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heading, ["---"] * len(heading), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.replace("|", "\\|").split())

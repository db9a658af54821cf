"""What the demo prints when its job is over: a line per query, the totals, and where to look further."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from harness_proto.v1 import jobs_pb2
from rich.table import Table

from harness_cli.metrics import print_metrics
from harness_cli.output import cell, console, significant


def print_report(
    database_url: str, job_id: str, detail: jobs_pb2.JobDetail, folder: Path, *, by_model: bool = False
) -> None:
    """Print the demo's results from its own database: a line per query, or a column per model."""
    from harness_analysis import connect

    rows = connect(database_url).results(job_id).to_arrow().to_pylist()
    if by_model:
        print_metrics(rows, "table", job_id)
    else:
        _print_queries(rows)
    click.echo()
    for line in summary_lines(rows, detail):
        click.echo(line)
    click.echo()
    click.echo(f"The database is {folder / 'harness.db'}. Look further with:")
    program = program_name()
    for arguments in (
        f"results {job_id} --db {database_url}",
        f"results {job_id} --db {database_url} -o results.csv",
        f"job show {job_id} --db {database_url}",
        f"samples {job_id} --db {database_url} -o samples.parquet",
        "agent doctor",
    ):
        click.echo(f"  {program} {arguments}")


def program_name() -> str:
    """Return what starts this very `harness` from the current folder: its name if that is on PATH, else its path."""
    beside = Path(sys.executable).with_name("harness")
    on_path = shutil.which("harness")
    if not beside.exists() or (on_path and Path(on_path).resolve() == beside.resolve()):
        return "harness"
    with contextlib.suppress(ValueError):
        return str(beside.relative_to(Path.cwd()))
    return str(beside)


def _print_queries(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("query")
    for heading in ("tokens", "first token s", "total s", "tokens/s", "joules", "low .. high"):
        table.add_column(heading, justify="right")
    table.add_column("source")
    table.add_column("answer")
    for row in rows:
        verdict = {True: "[green]right[/green]", False: "[red]wrong[/red]", None: "-"}[row["correct"]]
        bounds = (
            f"{cell(row['joules_low'])} .. {cell(row['joules_high'])}" if row["joules"] is not None else "-"
        )
        table.add_row(
            row["query_id"],
            f"{cell(row['prompt_tokens'])} + {cell(row['output_tokens'])}",
            _seconds(row["time_to_first_token_s"]),
            _seconds(row["total_s"]),
            cell(row["tokens_per_s"]),
            cell(row["joules"]),
            bounds,
            row["energy_source"] or "-",
            f"[red]failed[/red]: {row['error']}" if row["error"] else verdict,
        )
    console().print(table)


def summary_lines(rows: Sequence[Mapping[str, Any]], detail: jobs_pb2.JobDetail) -> list[str]:
    """Return the totals in plain sentences; nothing is called measured that was estimated."""
    done = [r for r in rows if not r["error"]]
    judged = [r for r in done if r["correct"] is not None]
    tokens = sum(r["output_tokens"] or 0 for r in done)
    lines = [
        f"{len(done)} of {len(rows)} queries answered, {tokens} output tokens,"
        f" {sum(r['correct'] for r in judged)} of {len(judged)} judged right."
    ]
    known = [r["joules"] for r in done if r["joules"] is not None]
    if known:
        lines.append(
            f"Per query: {significant(sum(known) / len(known))} J in the mean,"
            f" {significant(sum(known) / tokens) if tokens else '-'} J per output token."
        )
    for total in detail.totals:
        lines.append(
            f"{total.source_id} ({total.energy_source}, scope {total.scope}):"
            f" {significant(total.attributed_joules, 6)} J in queries"
            f" + {significant(total.unattributed_joules, 6)} J outside them"
            f" (loading, warm-up, idle) = {significant(total.device_joules, 6)} J of the device."
        )
    if not detail.totals:
        lines.append("No joules: no source could be read; `harness agent doctor` says why.")
    if any(t.energy_source == "estimated" for t in detail.totals):
        lines.append(
            "These joules are ESTIMATED from CPU time, not measured: no energy counter can be read here"
            " (`harness agent doctor` says why)."
        )
    return lines


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

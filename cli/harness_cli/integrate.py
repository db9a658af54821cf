"""`harness integrate`: joules from recorded files, with the code that the coordinator runs live."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import (
    EnergyError,
    QueryColumns,
    SampleColumns,
    SourceEnergy,
    SourceTraits,
)
from harness_coordinator.recorded import (
    RecordedFileError,
    RecordedSamples,
    RecordedWindows,
    read_samples,
    read_windows,
)

from harness_cli.failure import bad_input
from harness_cli.finite_range import FiniteRange
from harness_cli.output import cell, format_option, print_rows

LONGEST_BASELINE_NS = 60_000_000_000
SHORTEST_BASELINE_NS = 10_000_000_000
REST_NS = 1_000_000_000
"""A device needs a moment to fall to idle after its last query."""
COLUMNS = (
    "id",
    "joules",
    "joules_low",
    "joules_high",
    "net_joules",
    "idle_joules",
    "coverage",
    "method",
    "flags",
)
REFERENCE_COLUMNS = ("reference_joules", "difference_percent")


@click.command()
@click.argument("samples", type=click.Path(path_type=Path))
@click.option(
    "--windows", required=True, type=click.Path(path_type=Path), help="Windows or queries to integrate."
)
@click.option(
    "--method",
    type=click.Choice(["auto", "counter", "power"]),
    default="auto",
    show_default=True,
    help="Which measure: energy_j, power_w, or the counter where it is believable.",
)
@click.option(
    "--inside",
    type=click.Choice(["auto", "shape", "linear"]),
    default="auto",
    show_default=True,
    help="How energy runs inside an update period: along the activity, straight, or as the data tell.",
)
@click.option(
    "--activity",
    type=click.Path(path_type=Path),
    help="When the device worked (columns as in WINDOWS); by default the windows themselves.",
)
@click.option(
    "--attribution",
    type=click.Choice(["tokens", "time", "exclusive"]),
    default="tokens",
    show_default=True,
    help="How overlapping windows share.",
)
@click.option(
    "--alpha", type=FiniteRange(min=0), help="Output tokens a prompt token counts for; else fitted."
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="START_NS:END_NS",
    help="A time without work, for idle power; else 10 to 60 s before and after all windows, where recorded.",
)
@click.option(
    "--power-column",
    default="power_w",
    show_default=True,
    metavar="NAME",
    help="The column of watts, where SAMPLES calls it something else.",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="A meter's recording of the same time (columns as in SAMPLES): says how far SAMPLES is from it.",
)
@click.option("--source", help="Which source, where SAMPLES holds several.")
@click.option(
    "--counter-wrap", "wrap_j", type=float, default=math.nan, help="Where energy_j starts again, J."
)
@click.option(
    "--max-power", "max_power_w", type=float, default=math.nan, help="Power limit of the device, W."
)
@click.option(
    "--averaging", "averaging_s", type=float, default=math.nan, help="Time a power reading averages over, s."
)
@click.option(
    "--gain-error", type=float, default=math.nan, help="Relative gain error of power_w, 0.05 if not given."
)
@format_option
def integrate(
    samples: Path,
    windows: Path,
    method: str,
    inside: str,
    activity: Path | None,
    attribution: str,
    alpha: float | None,
    baselines: tuple[str, ...],
    power_column: str,
    reference: Path | None,
    source: str | None,
    wrap_j: float,
    max_power_w: float,
    averaging_s: float,
    gain_error: float,
    output_format: str,
) -> None:
    """Compute joules, with bounds, of WINDOWS over recorded SAMPLES; no server needed.

    SAMPLES (.csv, .parquet, .jsonl): t_ns and power_w or energy_j. WINDOWS: id, start_ns, end_ns; optional
    first_token_ns, prompt_tokens, output_tokens. All times on one clock, in ns.
    """
    try:
        recorded = read_samples(samples, source, power_column)
        asked = read_windows(windows)
        meter = read_samples(reference) if reference else None
        loads = read_windows(activity).queries if activity else None
        idle = [_baseline(text) for text in baselines] or _idle_times(recorded.samples, asked.queries, loads)
        result = measure_source(
            SourceTraits(
                recorded.source,
                counter_wrap_j=wrap_j,
                max_power_w=max_power_w,
                averaging_s=averaging_s,
                gain_error=gain_error,
            ),
            recorded.samples,
            asked.queries,
            _run_window(asked.queries),
            idle,
            attribution=attribution,
            method=method,
            inside=inside,
            alpha=alpha,
            activity=loads,
        )
    except (RecordedFileError, EnergyError) as error:
        raise bad_input(str(error)) from error
    rows, summary = window_rows(asked, result), summary_of(result)
    if meter is not None:
        add_reference(rows, summary, asked, meter)
    if output_format == "json":
        click.echo(json.dumps({"windows": rows, "summary": summary}, indent=2))
        return
    shown = (*COLUMNS, *REFERENCE_COLUMNS) if meter is not None else COLUMNS
    print_rows(rows, output_format, columns=shown)
    if output_format == "table":
        click.echo()
        for name, value in summary.items():
            click.echo(f"{name}: {cell(value)}")


def window_rows(asked: RecordedWindows, result: SourceEnergy) -> list[dict[str, Any]]:
    """One mapping per window, absent values None."""
    queries = result.queries
    columns = {
        "joules": queries.joules,
        "joules_low": queries.joules_low,
        "joules_high": queries.joules_high,
        "net_joules": queries.net_joules,
        "idle_joules": queries.idle_joules,
        "prefill_joules": queries.prefill_joules,
        "decode_joules": queries.decode_joules,
        "coverage": queries.coverage,
        "cross_check_joules": queries.cross_check_joules,
    }
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(asked.ids):
        row: dict[str, Any] = {"id": name}
        row |= {what: _number(values[k]) if len(values) else None for what, values in columns.items()}
        row |= {"method": result.method, "flags": list(queries.flags[k])}
        rows.append(row)
    return rows


def summary_of(result: SourceEnergy) -> dict[str, Any]:
    """What the whole run used, how it was divided, and how it was measured."""
    return {
        "total_joules": _number(result.device_joules),
        "total_joules_low": _number(result.device_joules_low),
        "total_joules_high": _number(result.device_joules_high),
        "attributed_joules": _number(result.attributed_joules),
        "unattributed_joules": _number(result.unattributed_joules),
        "alpha": _number(result.alpha),
        "alpha_standard_error": _number(result.alpha_standard_error),
        "source": result.source_id,
        "method": result.method,
        "attribution": result.attribution,
        "coverage": _number(result.coverage),
        "cross_check_joules": _number(result.cross_check_joules),
        "baseline_watts": [_number(baseline.power_w) for baseline in result.baselines],
        "update_period_s": _number(result.period_s),
        "stamp_lag_s": _number(result.lag_s),
        "activity_explains": _number(result.explained),
        "flags": list(result.flags),
    }


def add_reference(
    rows: list[dict[str, Any]], summary: dict[str, Any], asked: RecordedWindows, meter: RecordedSamples
) -> None:
    """Add what a meter saw in each window, and over all of them, and how far the samples are from it, %."""
    start, end = asked.queries.start_ns, asked.queries.end_ns
    span = _run_window(asked.queries)
    alone = [
        measure_source(
            SourceTraits(meter.source), meter.samples, _no_queries(), window, inside="linear"
        ).device_joules
        for window in [*zip(start.tolist(), np.maximum(start, end).tolist(), strict=True), span]
    ]
    for row, joules in zip([*rows, summary], alone, strict=True):
        ours = row.get("joules", row.get("total_joules"))
        row["reference_joules"] = _number(joules)
        row["difference_percent"] = 100 * (ours / joules - 1) if ours is not None and joules > 0 else None


def _no_queries() -> QueryColumns:
    none, unknown = np.zeros(0, np.int64), np.zeros(0)
    return QueryColumns(none, none, none, unknown, unknown)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _run_window(queries: QueryColumns) -> tuple[int, int]:
    """From the first start to the last end of windows that make sense."""
    usable = queries.end_ns >= queries.start_ns
    if not usable.any():
        raise bad_input("every window ends before it starts; check that start_ns and end_ns are not swapped")
    return int(queries.start_ns[usable].min()), int(queries.end_ns[usable].max())


def _baseline(text: str) -> tuple[int, int]:
    start, _, end = text.partition(":")
    try:
        return int(start), int(end)
    except ValueError:
        raise bad_input(f"--baseline {text!r} must be START_NS:END_NS, two whole numbers") from None


def _idle_times(
    samples: SampleColumns, windows: QueryColumns, loads: QueryColumns | None
) -> list[tuple[int, int]]:
    """The recorded time before and after all work, at most 60 s of each and only where it is at least 10 s."""
    parts = [windows] if loads is None else [windows, loads]
    first = min(int(np.minimum(part.start_ns, part.end_ns).min()) for part in parts) - REST_NS
    last = max(int(np.maximum(part.start_ns, part.end_ns).max()) for part in parts) + REST_NS
    begin, finish = int(samples.t_ns.min()), int(samples.t_ns.max())
    before = (max(begin, first - LONGEST_BASELINE_NS), first)
    after = (last, min(finish, last + LONGEST_BASELINE_NS))
    return [(start, end) for start, end in (before, after) if end - start >= SHORTEST_BASELINE_NS]

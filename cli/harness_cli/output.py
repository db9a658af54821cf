"""Listings as a table that fits the terminal, as JSON, or as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

MIN_TEXT_WIDTH = 8
"""Text columns fold on a narrow terminal, but never out of sight."""

COLUMN_GAP = 2

ROWS_AT_ONCE = 200
"""A long table begins at once: its widths are known, so it need not be laid out as a whole."""

FORMATS = ("table", "json", "csv")

format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How the listing is printed.",
)


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    output_format: str,
    *,
    columns: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    empty: str = "Nothing to show.",
    fold: bool = False,
) -> None:
    """Print rows; `columns` chooses and orders those of the table, JSON and CSV carry every column.

    Args:
        rows: one mapping per row, all with the same keys.
        output_format: `table`, `json` or `csv`.
        columns: the columns of the table form, all when None.
        labels: headings of the table form by column.
        empty: what the table form says when there are no rows.
        fold: say once above the table what is the same in every row, and leave out what no row has.
    """
    if output_format == "json":
        click.echo(json.dumps([_plain(row) for row in rows], indent=2, default=str))
    elif output_format == "csv":
        click.echo(to_csv(rows, columns), nl=False)
    elif not rows:
        click.echo(empty)
    else:
        shown = list(columns or rows[0])
        if fold:
            shown = _fold(rows, shown, labels or {})
        out = console()
        widths = _column_widths(rows, {name: (labels or {}).get(name, name) for name in shown}, out.width)
        numeric = {name: _numeric(rows, name) for name in widths}
        for start in range(0, len(rows), ROWS_AT_ONCE):
            table = Table(
                box=None, pad_edge=False, header_style="bold", show_edge=False, show_header=start == 0
            )
            for name, width in widths.items():
                table.add_column(
                    (labels or {}).get(name, name),
                    justify="right" if numeric[name] else "left",
                    overflow="fold",
                    width=width,
                )
            for row in rows[start : start + ROWS_AT_ONCE]:
                table.add_row(*(cell(row.get(name)) for name in widths))
            out.print(table)
        if left_out := [(labels or {}).get(name, name) for name in shown if name not in widths]:
            click.echo(
                f"Too narrow here for: {', '.join(left_out)} (a wider terminal or --format csv has them)"
            )


def _column_widths(
    rows: Sequence[Mapping[str, Any]], headings: Mapping[str, str], room: int
) -> dict[str, int]:
    """Return the widths of the first columns that there is room for: one that cannot be read is not shown.

    Numbers never fold, their headings do between words; texts fold, but not below `MIN_TEXT_WIDTH`. What room is
    left goes to the texts first, beginning with those that are nearly whole.
    """
    widths: dict[str, int] = {}
    wanted: dict[str, int] = {}
    left = room + COLUMN_GAP
    for name, heading in headings.items():
        values = max(len(cell(row.get(name))) for row in rows)
        wanted[name] = max(len(heading), values)
        words = max(map(len, heading.split()), default=0)
        least = max(words, values) if _numeric(rows, name) else min(MIN_TEXT_WIDTH, wanted[name])
        left -= least + COLUMN_GAP
        if widths and left < 0:
            break
        widths[name] = least
    left = room + COLUMN_GAP - sum(least + COLUMN_GAP for least in widths.values())
    for name in sorted(widths, key=lambda name: (_numeric(rows, name), wanted[name] - widths[name])):
        more = min(wanted[name] - widths[name], max(0, left))
        widths[name] += more
        left -= more
    return widths


def _numeric(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(isinstance(row.get(name), int | float | None) for row in rows)


def _fold(rows: Sequence[Mapping[str, Any]], shown: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    """Print what all rows share and return the columns that are left."""
    varying: list[str] = []
    shared: list[str] = []
    for name in shown:
        first = rows[0].get(name)
        if all(_absent(row.get(name)) for row in rows):
            continue
        if len(rows) > 1 and all(row.get(name) == first for row in rows):
            shared.append(f"{labels.get(name, name)} {cell(first)}")
        else:
            varying.append(name)
    if shared:
        click.echo(f"All rows: {', '.join(shared)}")
    return varying


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Return rows as CSV with a heading; absent values are empty cells."""
    buffer = io.StringIO()
    names = list(rows[0]) if rows else list(columns or ())
    writer = csv.writer(buffer, lineterminator="\n")
    if names:
        writer.writerow(names)
    for row in rows:
        writer.writerow(["" if _absent(row.get(n)) else row.get(n) for n in names])
    return buffer.getvalue()


def cell(value: Any) -> str:
    """Return a table cell: four significant digits for numbers, a dash for what is absent."""
    if _absent(value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "-"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(v) for v in value) or "-"
    return str(value)


def significant(value: float, digits: int = 4) -> str:
    """Return a number with `digits` significant digits and no exponent where people expect none."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude >= 6 or magnitude < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def console(*, stderr: bool = False) -> Console:
    """Return a console that keeps full width when its output is not a terminal."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made = Console(stderr=stderr, highlight=False, width=200, no_color=True)
    return made


def when(render: Callable[[Any], str], value: Any) -> str:
    """Return `render(value)`, or a dash when the value is absent."""
    return "-" if _absent(value) else render(value)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == ""


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}

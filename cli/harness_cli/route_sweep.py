"""`harness route sweep`: how many neighbours to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness_cli.failure import bad_input
from harness_cli.outcome_options import (
    check_figure,
    cost_option,
    open_source,
    outcome_options,
    output_options,
    plain_failures,
    say_left_out,
)
from harness_cli.output import format_option
from harness_cli.router_options import (
    embedding_option,
    seed_option,
    train_share_option,
)
from harness_cli.tables import check_output, deliver_table


@click.command()
@outcome_options
@cost_option
@click.option("--k", "neighbours", default="1,5,10,50,100", show_default=True, help="Numbers with commas.")
@click.option(
    "--ask",
    type=click.Choice(["vote", "score"]),
    default="vote",
    show_default=True,
    help="The smallest model that was right, as knn-vote, or mean scores, as knn.",
)
@click.option("--threshold", type=float, default=0.5, show_default=True, help="With --ask score.")
@embedding_option
@train_share_option()
@seed_option()
@output_options
@format_option
def sweep(
    unit: str,
    neighbours: str,
    ask: Any,
    threshold: float,
    embedding: str,
    train_share: float,
    seed: int,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Try numbers of neighbours: F1 and deferral area of each, and which is best by what.

    The queries that choose k here are those that are not trained on: measure the chosen router with another --seed.
    """
    check_output(output)
    check_figure(plot)
    words = [word.strip() for word in neighbours.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and int(word) >= 1 for word in words):
        raise bad_input(f"--k {neighbours}: write whole numbers from 1 on with commas, as in 1,5,10")
    with plain_failures():
        import pyarrow as pa
        from harness_analysis.embedding import embedder
        from harness_analysis.plots import lines_figure, save_figure
        from harness_analysis.routing.neighbour_sweep import MEASURES, sweep_neighbours

        matrix = open_source(**source).matrix(unit)
        say_left_out(matrix.left_out)
        training, validation = matrix.split(train_share, seed)
        rows = sweep_neighbours(
            training,
            validation,
            embedder(embedding),
            ask=ask,
            sweep=[int(word) for word in words],
            threshold=threshold,
            progress=lambda note: click.echo(f"{note} ...", err=True),
        )
        table = pa.Table.from_pylist(rows)
        if plot is not None:
            long = [{"k": row["k"], "measure": m, "value": row[m]} for row in rows for m in MEASURES]
            figure = lines_figure(
                pa.Table.from_pylist(long), "k", "value", "measure", x_title="neighbours", y_title="score"
            )
            save_figure(figure, plot)
    deliver_table(table, output, output_format, table.column_names, empty="")

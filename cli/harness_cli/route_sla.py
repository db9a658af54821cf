"""`harness route sla`: whether MESS+ keeps its promise, over alpha and V."""

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
from harness_cli.route_tuning import turns_shown
from harness_cli.router_options import (
    embedding_option,
    seed_option,
)
from harness_cli.tables import check_output, deliver_table

COLUMNS = (
    "alpha",
    "v",
    "satisfied",
    "satisfied_sd",
    "orders_kept",
    "held_share",
    "windows_kept",
    "held_from_request",
    "mean_cost",
    "cheapest_keeping",
    "least_cost",
    "explored",
)
LABELS = {
    "v": "V",
    "satisfied_sd": "sd",
    "orders_kept": "kept",
    "held_share": "held",
    "windows_kept": "windows",
    "held_from_request": "from",
    "mean_cost": "cost",
    "cheapest_keeping": "single",
    "least_cost": "least",
}


@click.command()
@outcome_options
@cost_option
@click.option("--alpha", "alphas", required=True, metavar="A,A,...", help="Promised shares, with commas.")
@click.option(
    "--v",
    "weights",
    default="0.0001,0.001,0.01",
    show_default=True,
    metavar="V,V,...",
    help="Weights of the cost, with commas.",
)
@click.option("--c", type=float, default=0.1, show_default=True, help="Rate of exploration.")
@click.option(
    "--decay",
    type=click.Choice(["fourth-root", "square-root"]),
    default="fourth-root",
    show_default=True,
    help="Exploration falls as c / t^(1/4), as the proof needs, or as c / t^(1/2), as the text says.",
)
@click.option(
    "--orders",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Random orders of the requests, for the deviations.",
)
@click.option(
    "--window",
    type=click.IntRange(min=1),
    help="Requests in which the promise is asked for anew. Default: 100, or all where fewer are there.",
)
@embedding_option
@seed_option()
@output_options
@format_option
def sla(
    unit: str,
    alphas: str,
    weights: str,
    c: float,
    decay: Any,
    orders: int,
    window: int | None,
    embedding: str,
    seed: int,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Serve OUTCOMES with MESS+ at each alpha and V: which share is satisfied, from when on, and at what cost.

    --plot draws satisfaction and cost request by request.
    """
    check_output(output)
    check_figure(plot)
    promised, weighed = _numbers("--alpha", alphas), _numbers("--v", weights)
    with plain_failures():
        from harness_analysis.embedding import embedder
        from harness_analysis.plots import save_figure, sla_figure
        from harness_analysis.routing.mess_plus_sla import sla_tables

        matrix = open_source(**source).matrix(unit)
        say_left_out(matrix.left_out)
        window = window or min(100, len(matrix))
        words = embedder(embedding)
        words.fit(matrix.texts)
        with turns_shown(len(promised) * len(weighed)) as begin:
            table, curves = sla_tables(
                matrix,
                words.embed(matrix.texts),
                promised,
                weighed,
                c=c,
                decay=decay,
                orders=orders,
                window=window,
                seed=seed,
                progress=begin,
            )
        if plot is not None:
            save_figure(sla_figure(curves, unit), plot)
    deliver_table(table, output, output_format, COLUMNS, labels=LABELS, empty="")
    if output_format == "table" and output is None:
        click.echo(
            f"kept: orders that kept the promise; held: requests at which it held so far; windows of {window} that kept"
            " it; from: the request from which on it held; single: the cheapest model alone that satisfies alpha;"
            " least: by one who knows every answer.",
            err=True,
        )


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise bad_input(f"{option} {text}: write numbers with commas, as in 0.5,0.6") from None

"""`harness route multi-turn`: which model should have answered each turn of a conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness_cli.failure import bad_input
from harness_cli.outcome_options import (
    cost_option,
    open_source,
    outcome_options,
    plain_failures,
    say_left_out,
    table_file_option,
)
from harness_cli.output import format_option
from harness_cli.route_tuning import tuning_from, tuning_options
from harness_cli.router_options import (
    embedding_option,
    resamples_option,
    router_option,
    seed_option,
    threshold_option,
    train_share_option,
)
from harness_cli.tables import check_output, deliver_table

COLUMNS = (
    "strategy",
    "accuracy",
    "accuracy_over_first",
    "over_first_low",
    "over_first_high",
    "label_f1",
    "largest_share",
    "switches",
    "mean_cost",
    "mean_history_cost",
    "saved",
    "cost_unit",
    "conversations",
    "turns",
)
LABELS = {
    "accuracy_over_first": "gain",
    "over_first_low": "low",
    "over_first_high": "high",
    "label_f1": "F1",
    "largest_share": "largest",
    "mean_cost": "cost",
    "mean_history_cost": "history",
}


@click.command("multi-turn")
@outcome_options
@cost_option
@tuning_options
@router_option
@embedding_option
@click.option(
    "--turns",
    type=click.IntRange(min=2),
    default=3,
    show_default=True,
    help="That the router is shown, the last among them.",
)
@threshold_option
@click.option(
    "--recorded",
    type=click.Choice(["warm", "cold"]),
    default="warm",
    show_default=True,
    help="Outcomes exclude (warm) or include (cold) reading the history.",
)
@click.option(
    "--prefill",
    "prefills",
    multiple=True,
    metavar="MODEL=COST",
    help="Of one prompt token, in the unit of --cost; fitted on the outcomes where not given.",
)
@train_share_option("Conversations to learn from.")
@resamples_option()
@seed_option("the split, router and bootstrap")
@table_file_option
@format_option
def multi_turn(
    unit: str,
    name: str,
    embedding: str,
    turns: int,
    threshold: float,
    recorded: Any,
    prefills: tuple[str, ...],
    train_share: float,
    resamples: int,
    seed: int,
    epochs: int | None,
    learning_rate: float | None,
    batch: int | None,
    output: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Route the turns of conversations in OUTCOMES by the last turn or the history, with and without changing models.

    Turns are known by the columns `conversation` and `turn`, or by `messages_json`. A model that did not answer the
    turn before reads the whole history again, which is added to what the turn costs.
    """
    check_output(output)
    prefill = dict(_prefill(text) for text in prefills)
    with plain_failures():
        from harness_analysis.embedding import embedder
        from harness_analysis.routing.catalogue import make_router, needs_embedding
        from harness_analysis.routing.choosing import check_threshold
        from harness_analysis.routing.multi_turn import (
            bounds,
            route_conversations,
            split_conversations,
            strategies,
        )
        from harness_analysis.routing.multi_turn_tables import multi_turn_table

        asked = strategies(turns)
        make_router(name, seed)
        check_threshold(threshold)
        matrix = open_source(**source).matrix(unit, turns=True)
        say_left_out(matrix.left_out)
        training, test = split_conversations(matrix, train_share, seed)
        with tuning_from(epochs, learning_rate, batch) as tuning:
            routed = route_conversations(
                asked,
                training,
                test,
                lambda: make_router(name, seed, tuning),
                (lambda: embedder(embedding)) if needs_embedding(name) else None,
                threshold=threshold,
                seed=seed,
                progress=lambda strategy: click.echo(f"{strategy} ...", err=True),
            )
        table = multi_turn_table(
            [*routed, *bounds(test)],
            training,
            test,
            prefill=prefill,
            recorded=recorded,
            resamples=resamples,
            seed=seed,
        )
    deliver_table(table, output, output_format, COLUMNS, labels=LABELS, empty="")
    if output_format == "table" and output is None:
        click.echo(
            "gain: of accuracy over the first row, with its interval over conversations; history: of the cost, what"
            " models read again; saved: against the largest model.",
            err=True,
        )


def _prefill(text: str) -> tuple[str, float]:
    model, _, cost = text.rpartition("=")
    try:
        return model, float(cost)
    except ValueError:
        raise bad_input(f"--prefill {text}: write MODEL=COST, the cost of one prompt token") from None

"""`harness route curve`: how much routers gain from more training queries."""

from __future__ import annotations

from pathlib import Path

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
from harness_cli.route_tuning import tuning_from, tuning_options
from harness_cli.router_options import (
    embedding_option,
    resamples_option,
    seed_option,
    threshold_option,
    train_share_option,
)
from harness_cli.tables import check_output, deliver_table

COLUMNS = (
    "training_queries",
    "router",
    "macro_f1",
    "macro_f1_low",
    "macro_f1_high",
    "label_f1",
    "label_f1_low",
    "label_f1_high",
    "area",
    "area_low",
    "area_high",
    "cost_unit",
    "test_queries",
)
LABELS = {
    "training_queries": "queries",
    **{f"{name}_{end}": end for name in ("macro_f1", "label_f1", "area") for end in ("low", "high")},
}


@click.command()
@outcome_options
@cost_option
@tuning_options
@click.option(
    "--sizes", metavar="N,N,...", help="Training queries. Default: 100, 300, 1000 ... and all there are."
)
@click.option(
    "--routers",
    default="knn,knn-vote,mlp,mf",
    show_default=True,
    help="Names with commas; knn:K, encoder[:FOLDER], bert[:FOLDER], decoder:FOLDER, decoder-binary:FOLDER.",
)
@embedding_option
@threshold_option
@train_share_option("Queries to draw the sizes from.")
@resamples_option()
@seed_option("the split, subsets, routers and bootstrap")
@click.option(
    "--metric",
    type=click.Choice(["macro_f1", "label_f1", "area"]),
    default="label_f1",
    show_default=True,
    help="Of the figure.",
)
@output_options
@format_option
def curve(
    unit: str,
    sizes: str | None,
    routers: str,
    embedding: str,
    threshold: float,
    train_share: float,
    resamples: int,
    seed: int,
    metric: str,
    epochs: int | None,
    learning_rate: float | None,
    batch: int | None,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: object,
) -> None:
    """Fit routers on more and more queries of OUTCOMES, each set holding the smaller ones, and measure them on others.

    Name text models of several sizes as routers (encoder:FOLDER,encoder:FOLDER2) to see what their size gains.
    """
    check_output(output)
    check_figure(plot)
    wanted = None if sizes is None else _sizes(sizes)
    with plain_failures():
        from harness_analysis.embedding import embedder
        from harness_analysis.plots import learning_figure, save_figure
        from harness_analysis.routing.catalogue import make_router, named_routers, needs_embedding
        from harness_analysis.routing.learning_curve import default_sizes, learning_curve

        names, missing = named_routers(routers)
        for name in names:
            make_router(name, seed)
        matrix = open_source(**source).matrix(unit)  # pyright: ignore[reportArgumentType]
        say_left_out((*missing, *matrix.left_out))
        training, test = matrix.split(train_share, seed)
        with tuning_from(epochs, learning_rate, batch) as tuning:
            table = learning_curve(
                training,
                test,
                wanted or default_sizes(len(training)),
                lambda: [make_router(name, seed, tuning) for name in names],
                (lambda: embedder(embedding)) if any(map(needs_embedding, names)) else None,
                threshold=threshold,
                resamples=resamples,
                seed=seed,
                progress=lambda what: click.echo(f"{what} ...", err=True),
            )
        if plot is not None:
            save_figure(learning_figure(table, metric), plot)
    deliver_table(table, output, output_format, COLUMNS, labels=LABELS, empty="")


def _sizes(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise bad_input(f"--sizes {text}: write whole numbers with commas, such as 100,1000") from None

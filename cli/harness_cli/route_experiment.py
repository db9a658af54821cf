"""`harness route experiment` and `harness route pair`: what routers know of domains, pools and pairs of models."""

from __future__ import annotations

from collections.abc import Callable
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
    resamples_option,
    seed_option,
    train_share_option,
)
from harness_cli.tables import check_output, deliver_table

_LINES = {
    "ood": ("domain", "change_points", "router"),
    "models": ("models", "area", "router"),
    "duplicates": ("queries", "area", "router"),
    "pruning": ("models", "area", "router"),
    "specialists": ("domain", "specialist_score", None),
    "remastered": ("pool", "area", "router"),
}


@click.command()
@click.argument("name", metavar="EXPERIMENT", type=click.Choice(list(_LINES)))
@outcome_options
@cost_option
@click.option("--routers", default="heuristic,knn,kmeans,mf", show_default=True, help="Names with commas.")
@embedding_option
@train_share_option()
@click.option(
    "--similarity", type=float, default=0.999, show_default=True, help="Of duplicates: least cosine."
)
@click.option(
    "--by",
    type=click.Choice(["domain", "dataset"]),
    default="domain",
    show_default=True,
    help="What is left out, counted or specialised in.",
)
@click.option(
    "--domains",
    type=click.IntRange(min=2),
    help="Of remastered: keep the queries of so many, those of the greatest specialist score. Default: all.",
)
@resamples_option()
@seed_option()
@output_options
@format_option
def experiment(
    name: str,
    unit: str,
    routers: str,
    embedding: str,
    train_share: float,
    similarity: float,
    by: str,
    domains: int | None,
    resamples: int,
    seed: int,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Run an EXPERIMENT on OUTCOMES.

    ood: leave each domain out of training. models: 2, 3, ... candidate models. duplicates: with and without
    near-duplicates. pruning: remove the most redundant models. specialists: specialist score of each domain.
    remastered: the pool pruned, with invented specialists for hard domains.
    """
    check_output(output)
    check_figure(plot)
    with plain_failures():
        import pyarrow as pa
        from harness_analysis.embedding import embedder
        from harness_analysis.plots import lines_figure, save_figure
        from harness_analysis.routing import experiments
        from harness_analysis.routing.catalogue import make_router, named_routers

        none_needed = name == "specialists" and not routers.strip()
        names, missing = ([], ()) if none_needed else named_routers(routers)
        for router in names:
            make_router(router, seed)
        embedder(embedding)
        matrix = open_source(**source).matrix(unit)
        say_left_out((*missing, *matrix.left_out))
        if by == "dataset":
            matrix = matrix.by_dataset()
        options: dict[str, Any] = {"train_share": train_share, "resamples": resamples, "seed": seed}
        with_routers: dict[str, Callable[..., list[dict[str, Any]]]] = {
            "ood": experiments.out_of_distribution,
            "models": experiments.more_models,
            "duplicates": experiments.duplicates,
            "pruning": experiments.pruned_pools,
            "remastered": experiments.remastered,
        }
        if name == "specialists":
            rows = experiments.specialists(matrix)
        else:
            if name == "duplicates":
                options["similarity"] = similarity
            if name == "remastered":
                options["domains"] = domains
            if name == "ood":
                options["progress"] = lambda domain: click.echo(f"without {domain} ...", err=True)
            rows = with_routers[name](matrix, names, lambda: embedder(embedding), **options)
        table = pa.Table.from_pylist(rows)
        if plot is not None:
            x, y, by = _LINES[name]
            save_figure(lines_figure(table, x, y, by, x_title=x, y_title=y.replace("_", " ")), plot)
    shown = [c for c in table.column_names if c != "kept"]
    deliver_table(table, output, output_format, shown, empty="")


@click.command()
@outcome_options
@cost_option
@click.option("--small", help="The small model; default: the smallest.")
@click.option("--large", help="The large model; default: the largest.")
@click.option("--routers", default="random,knn,kmeans,mf", show_default=True, help="Names with commas.")
@embedding_option
@train_share_option()
@seed_option()
@output_options
@format_option
def pair(
    unit: str,
    small: str | None,
    large: str | None,
    routers: str,
    embedding: str,
    train_share: float,
    seed: int,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Draw quality against the share of queries that a pair's small model gets, for each router."""
    check_output(output)
    check_figure(plot)
    with plain_failures():
        import pyarrow as pa
        from harness_analysis.embedding import embedder
        from harness_analysis.plots import lines_figure, save_figure
        from harness_analysis.routing.catalogue import named_routers
        from harness_analysis.routing.rate_curve import rate_curves

        names, missing = named_routers(routers)
        matrix = open_source(**source).matrix(unit)
        for asked in (small, large):
            if asked is not None and asked not in matrix.models:
                raise bad_input(f"there is no model {asked}; there is {', '.join(matrix.models)}")
        say_left_out((*missing, *matrix.left_out))
        rows = rate_curves(
            matrix,
            small or matrix.models[0],
            large or matrix.models[-1],
            names,
            embedder(embedding),
            train_share=train_share,
            seed=seed,
        )
        table = pa.Table.from_pylist(rows)
        if plot is not None:
            title = "cost advantage: share of queries to the small model"
            save_figure(
                lines_figure(table, "cost_advantage", "quality", "router", x_title=title, y_title="quality"),
                plot,
            )
    deliver_table(table, output, output_format, table.column_names, empty="No router was named.")

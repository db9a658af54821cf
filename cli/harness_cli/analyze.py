"""`harness analyze` and `harness report`: what outcomes say before anything is routed, and one page about all of it."""

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
from harness_cli.output_file import OutputFile
from harness_cli.route import run_evaluation
from harness_cli.router_options import (
    embedding_option,
    seed_option,
    threshold_option,
    train_share_option,
)
from harness_cli.tables import check_output, deliver_table

by_option = click.option(
    "--by",
    type=click.Choice(["dataset", "domain"]),
    help="Split by the dataset or the domain of the queries.",
)
_COLUMN = {"dataset": "dataset_id", "domain": "domain"}


@click.group()
def analyze() -> None:
    """Describe OUTCOMES (a file, a folder of a published set, or a database URL; see `harness route --help`)."""


def _deliver(
    make: Callable[[], tuple[Any, Any]], output: Path | None, plot: Path | None, output_format: str
) -> None:
    """Make a table and a function that draws it, and deliver both."""
    check_output(output)
    check_figure(plot)
    with plain_failures():
        table, draw = make()
        if plot is not None:
            from harness_analysis.plots import save_figure

            save_figure(draw(), plot)
    deliver_table(table, output, output_format, table.column_names, empty="Nothing to show.")


@analyze.command()
@outcome_options
@by_option
@output_options
@format_option
def solvability(
    by: str | None, output: Path | None, plot: Path | None, output_format: str, **source: Any
) -> None:
    """Show the share of queries that each model solves."""

    def make() -> tuple[Any, Any]:
        from harness_analysis import descriptive, plots

        table = descriptive.solvability(open_source(**source), _column(by))
        return table, lambda: plots.bars_figure(table, "model_id", "solved", low="low", high="high")

    _deliver(make, output, plot, output_format)


@analyze.command()
@outcome_options
@by_option
@click.option(
    "--families",
    metavar="FILE|NAME,NAME,...",
    help="Also within each family of models: a .json or .csv file of model and family, or how their names begin.",
)
@output_options
@format_option
def coverage(
    by: str | None,
    families: str | None,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Show the share of queries that some model up to each size solves."""

    def make() -> tuple[Any, Any]:
        from harness_analysis import descriptive, plots

        opened = open_source(**source)
        if families is None:
            table, lines = descriptive.joint_coverage(opened, _column(by)), _column(by)
        else:
            found = descriptive.families_of(families, [str(model) for model in opened.values("model_id")])
            table, lines = descriptive.coverage_by_family(opened, found, _column(by)), "family"
        return table, lambda: plots.lines_figure(
            table,
            "up_to_params_b",
            "covered",
            lines,
            x_title="models up to this size (billions of parameters)",
            y_title="share of queries solved by some model",
        )

    _deliver(make, output, plot, output_format)


@analyze.command()
@outcome_options
@output_options
@format_option
def efficiency(output: Path | None, plot: Path | None, output_format: str, **source: Any) -> None:
    """Show accuracy per watt and per joule of each model and hardware."""

    def make() -> tuple[Any, Any]:
        from harness_analysis import descriptive, plots

        table = descriptive.efficiency(open_source(**source))
        return table, lambda: plots.bars_figure(
            table,
            "model_id",
            "per_joule",
            low="per_joule_low",
            high="per_joule_high",
            title="accuracy per joule",
        )

    _deliver(make, output, plot, output_format)


@analyze.command()
@outcome_options
@click.option("--cloud", metavar="MODEL", help="The large model; default: the one with the most parameters.")
@output_options
@format_option
def savings(
    cloud: str | None, output: Path | None, plot: Path | None, output_format: str, **source: Any
) -> None:
    """Show what a perfect router would save, by the size of the largest local model."""

    def make() -> tuple[Any, Any]:
        from harness_analysis import descriptive, plots

        table = descriptive.savings_by_size(open_source(**source), cloud)
        return table, lambda: plots.lines_figure(
            table,
            "up_to_params_b",
            "saved",
            "resource",
            x_title="local models up to this size (billions of parameters)",
            y_title="saved by a perfect router",
        )

    _deliver(make, output, plot, output_format)


@analyze.command()
@outcome_options
@click.option("--reference", default="fp16", show_default=True, help="The precision to compare with.")
@output_options
@format_option
def precision(
    reference: str, output: Path | None, plot: Path | None, output_format: str, **source: Any
) -> None:
    """Compare one model at several numerical precisions (column `precision`)."""

    def make() -> tuple[Any, Any]:
        from harness_analysis import descriptive, plots

        table = descriptive.precision_comparison(open_source(**source), reference)
        return table, lambda: plots.bars_figure(table, "model_id", "change_points", low="low", high="high")

    _deliver(make, output, plot, output_format)


@analyze.command()
@outcome_options
@cost_option
@click.option("--router", "name", default="knn", show_default=True, help="Whose choices; knn:K chooses K.")
@threshold_option
@train_share_option()
@embedding_option
@seed_option()
@output_options
@format_option
def failures(
    unit: str,
    name: str,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **options: Any,
) -> None:
    """Show where a router chooses too large or too small a model: by domain, difficulty and length."""

    def make() -> tuple[Any, Any]:
        from harness_analysis import descriptive, plots

        if "," in name or name == "all":
            raise bad_input(f"--router {name}: name one router")
        evaluation = run_evaluation(unit=unit, routers=name, resamples=100, **options)
        choice = evaluation.results[0].choice
        assert choice is not None  # noqa: S101 - only the zero router has none, and it is no name
        table = descriptive.failure_modes(evaluation.test, choice)
        parts = ["oversized_percent", "correct_percent", "undersized_percent"]
        return table, lambda: plots.stacked_figure(table, "group", parts, "percent of queries")

    _deliver(make, output, plot, output_format)


@analyze.command()
@outcome_options
@cost_option
@output_options
@format_option
def pool(unit: str, output: Path | None, plot: Path | None, output_format: str, **source: Any) -> None:
    """Show each model's accuracy, average rank over domains and mean overlap with the others."""

    def make() -> tuple[Any, Any]:
        from harness_analysis import plots
        from harness_analysis.descriptive import pool_table

        table, left_out = pool_table(open_source(**source), unit)
        say_left_out(left_out)
        return table, lambda: plots.bars_figure(table, "model_id", "average_rank")

    _deliver(make, output, plot, output_format)


@click.command()
@outcome_options
@cost_option
@click.option(
    "--routers", default="heuristic,knn,kmeans,mf,oracle", show_default=True, help="Empty for none."
)
@embedding_option
@seed_option()
@click.option("-o", "--output", type=OutputFile(), default=Path("report.html"))
def report(unit: str, routers: str, embedding: str, seed: int, output: Path, **source: Any) -> None:
    """Write one self-contained page about OUTCOMES: solvability, coverage, efficiency, savings, routers."""
    if output.suffix.lower() not in {".html", ".htm"}:
        raise bad_input(f"-o {output}: the report is a page; its name must end in .html")
    if not output.absolute().parent.is_dir():
        raise bad_input(f"-o {output}: there is no folder {output.parent}")
    with plain_failures():
        from harness_analysis.errors import AnalysisError
        from harness_analysis.report import write_report
        from harness_analysis.routing.catalogue import make_router, named_routers

        if routers:
            for name in named_routers(routers)[0]:
                make_router(name, seed)
        opened = open_source(**source)
        evaluation = None
        if routers:
            try:
                evaluation = run_evaluation(
                    unit=unit,
                    routers=routers,
                    embedding=embedding,
                    threshold=0.5,
                    train_share=0.7,
                    seed=seed,
                    resamples=2_000,
                    **source,
                )
            except AnalysisError as error:
                click.echo(f"No routers in the report: {error}", err=True)
        parts = write_report(opened, output, evaluation)
    click.echo(f"{output}: {', '.join(parts) or 'nothing that these outcomes could support'}", err=True)


def _column(by: str | None) -> Any:
    return _COLUMN[by] if by else None

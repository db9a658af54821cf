"""`harness route`: which model should have answered, by many routers, and what that would have saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    table_file_option,
)
from harness_cli.output import format_option
from harness_cli.output_file import OutputFile
from harness_cli.route_answers import cascade, hybrid, mess_plus, replay
from harness_cli.route_conversations import multi_turn
from harness_cli.route_curve import curve
from harness_cli.route_experiment import experiment, pair
from harness_cli.route_likelihood import likelihood
from harness_cli.route_sla import sla
from harness_cli.route_sweep import sweep
from harness_cli.route_tuning import tuning_and_turns, tuning_from, tuning_options
from harness_cli.router_options import (
    embedding_option,
    resamples_option,
    router_option,
    seed_option,
    threshold_option,
    train_share_option,
)
from harness_cli.tables import check_output, deliver_table

if TYPE_CHECKING:
    from harness_analysis.embedding import Embedder
    from harness_analysis.outcomes.matrix import OutcomeMatrix
    from harness_analysis.routing import Router
    from harness_analysis.routing.evaluation import Evaluation

DEFAULT_ROUTERS = "smallest,largest,random,heuristic,knn,knn-vote,kmeans,mlp,mf,oracle"
EVALUATION_COLUMNS = (
    "router",
    "area",
    "area_low",
    "area_high",
    "area_over_heuristic_low",
    "area_over_heuristic_high",
    "aiq",
    "accuracy",
    "macro_f1",
    "saved",
    "router_ms",
    "router_joules",
    "router_energy_kind",
)
EVALUATION_LABELS = {
    "area_low": "low",
    "area_high": "high",
    "area_over_heuristic_low": "gain low",
    "area_over_heuristic_high": "high",
    "aiq": "AIQ",
    "macro_f1": "F1",
    "router_ms": "ms",
    "router_joules": "joules",
    "router_energy_kind": "kind",
}
EVALUATION_LEGEND = (
    "area: under the deferral curve, with its 95 % interval; gain: of area over the heuristic, its interval; accuracy,"
    " F1 (section 4.1's macro F1) and saved: at the threshold; ms: the router's own, a query. More columns in files."
)


def _routing_options(command: Any) -> Any:
    for option in (
        resamples_option(10_000),
        seed_option("the split, routers and bootstrap"),
        train_share_option(),
        click.option(
            "--queries",
            type=click.IntRange(min=2),
            help="Only so many, drawn at random: for routers that learn long.",
        ),
        threshold_option,
        embedding_option,
        click.option(
            "--routers",
            default=DEFAULT_ROUTERS,
            help="Names with commas; also mf-embedllm, mf-routellm, sw-ranking, router-dc, knn:K, encoder[:FOLDER],"
            " bert[:FOLDER], decoder:FOLDER, decoder-binary:FOLDER; `all` for all that need no FOLDER,"
            " `all,-bert` for all but one. Default: ten that need no torch.",
        ),
    ):
        command = option(command)
    return tuning_options(cost_option(outcome_options(command)))


@click.group()
def route() -> None:
    """Fit, evaluate, compare and use routers.

    OUTCOMES is a .parquet, .csv or .jsonl file in long form (query_id, model_id, correct, and what is known of joules,
    cost, total_s, params_b, query ...), a folder of a published set, or a database URL.
    """


@route.command()
@_routing_options
@click.option(
    "--router-energy", is_flag=True, help="Also the joules of each router's own work here, a second for each."
)
@output_options
@format_option
def evaluate(
    output: Path | None, plot: Path | None, output_format: str, router_energy: bool, **options: Any
) -> None:
    """Measure routers on OUTCOMES: areas under their deferral curves, AIQ, F1 and savings, with 95 % intervals."""
    check_output(output)
    check_figure(plot)
    with plain_failures():
        from harness_analysis.plots import deferral_figure, save_figure
        from harness_analysis.routing.tables import evaluation_table

        works: dict[str, Any] = {}
        evaluation = run_evaluation(**options, works=works)
        table = evaluation_table(evaluation)
        if router_energy:
            table = _with_energy(table, works, len(evaluation.test))
        if plot is not None:
            save_figure(deferral_figure(evaluation), plot)
    deliver_table(table, output, output_format, EVALUATION_COLUMNS, labels=EVALUATION_LABELS, empty="")
    if output_format == "table" and output is None:
        click.echo(EVALUATION_LEGEND, err=True)


@route.command()
@_routing_options
@output_options
@format_option
def compare(output: Path | None, plot: Path | None, output_format: str, **options: Any) -> None:
    """Say which differences between routers are larger than chance: paired bootstrap of their areas."""
    check_output(output)
    check_figure(plot)
    with plain_failures():
        from harness_analysis.plots import plane_figure, save_figure
        from harness_analysis.routing.tables import comparison_table

        evaluation = run_evaluation(**options)
        table = comparison_table(evaluation, options["resamples"], options["seed"])
        if plot is not None:
            save_figure(plane_figure(evaluation), plot)
    deliver_table(
        table, output, output_format, table.column_names, empty="Two routers are needed to compare."
    )


@route.command()
@outcome_options
@cost_option
@tuning_options
@router_option
@embedding_option
@seed_option()
@click.option("-o", "--output", type=OutputFile(dir_okay=True), required=True)
def fit(
    unit: str,
    name: str,
    embedding: str,
    seed: int,
    output: Path,
    epochs: int | None,
    learning_rate: float | None,
    batch: int | None,
    **source: Any,
) -> None:
    """Fit one router on all of OUTCOMES and write it to a file, or to a folder where it trains a text model."""
    with plain_failures():
        from harness_analysis.embedding import embedder
        from harness_analysis.routing.catalogue import make_router
        from harness_analysis.routing.saved import check_destination, fit_router

        with tuning_from(epochs, learning_rate, batch) as tuning:
            router = make_router(name, seed, tuning)
            check_destination(output, router)
            matrix = open_source(**source).matrix(unit)
            fitted = fit_router(router, embedder(embedding), matrix)
        fitted.save(output)
    say_left_out(matrix.left_out)
    click.echo(
        f"{name} learned from {len(matrix)} queries and {len(matrix.models)} models: {output}", err=True
    )


@route.command()
@click.argument("router_file", metavar="ROUTER", type=click.Path(path_type=Path))
@click.argument("queries", metavar="[QUERY]...", nargs=-1)
@click.option("--file", "lines", type=click.File(), help="Queries, one a line; - reads standard input.")
@click.option("--threshold", type=float, help="The smallest model whose score exceeds it.")
@click.option("--log-threshold", type=float, help="The same as a log-likelihood, at most 0.")
@click.option("--price", type=float, help="What a correct answer is worth, in the unit of the router's cost.")
@table_file_option
@format_option
def predict(
    router_file: Path,
    queries: tuple[str, ...],
    lines: Any,
    threshold: float | None,
    log_threshold: float | None,
    price: float | None,
    output: Path | None,
    output_format: str,
) -> None:
    """Say which model each QUERY should go to. Open only router files that you trust: they can run code."""
    check_output(output)
    texts = [*queries, *(line.rstrip("\n") for line in lines or () if line.strip())]
    if not texts:
        raise bad_input("no query was given: name some, or a file of them with --file")
    with plain_failures():
        import pyarrow as pa
        from harness_analysis.routing.saved import load_router

        fitted = load_router(router_file)
        scores = fitted.scores(texts)
        choice = fitted.choose(scores, threshold=threshold, log_threshold=log_threshold, price=price)
    rows = [
        {"query": text, "model": fitted.models[at], **dict(zip(fitted.models, map(float, row), strict=True))}
        for text, at, row in zip(texts, choice, scores, strict=True)
    ]
    table = pa.Table.from_pylist(rows)
    deliver_table(table, output, output_format, table.column_names, empty="")


@route.command()
@outcome_options
@cost_option
@tuning_options
@router_option
@embedding_option
@train_share_option()
@seed_option()
@output_options
@format_option
def thresholds(
    unit: str,
    name: str,
    embedding: str,
    train_share: float,
    seed: int,
    epochs: int | None,
    learning_rate: float | None,
    batch: int | None,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Sweep the threshold of one router from 0.1 to 0.9: accuracy, size and savings against the largest model."""
    check_output(output)
    check_figure(plot)
    with plain_failures():
        from harness_analysis.embedding import embedder
        from harness_analysis.plots import lines_figure, save_figure
        from harness_analysis.routing.catalogue import make_router
        from harness_analysis.routing.saved import fit_router
        from harness_analysis.routing.tables import threshold_table

        training, test = open_source(**source).matrix(unit).split(train_share, seed)
        with tuning_from(epochs, learning_rate, batch) as tuning:
            fitted = fit_router(make_router(name, seed, tuning), embedder(embedding), training)
        table = threshold_table(fitted.scores(list(test.texts)), test)
        if plot is not None:
            swept = table.slice(0, table.num_rows - 1)
            figure = lines_figure(
                swept, "threshold", "accuracy", None, x_title="threshold", y_title="accuracy"
            )
            save_figure(figure, plot)
    deliver_table(table, output, output_format, table.column_names, empty="")


for _command in (
    cascade,
    hybrid,
    mess_plus,
    sla,
    replay,
    experiment,
    pair,
    sweep,
    likelihood,
    multi_turn,
    curve,
):
    route.add_command(_command)


def run_evaluation(
    *,
    unit: str,
    routers: str,
    embedding: str,
    threshold: float,
    train_share: float,
    seed: int,
    resamples: int,
    queries: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    works: dict[str, Any] | None = None,
    **source: Any,
) -> Evaluation:
    """Open outcomes, split them and evaluate routers by name; `works` receives what routes the test queries again."""
    from harness_analysis.embedding import embedder
    from harness_analysis.routing.catalogue import make_router, named_routers, needs_embedding
    from harness_analysis.routing.choosing import check_threshold
    from harness_analysis.routing.evaluation import evaluate as evaluate_routers
    from harness_analysis.routing.vector_index import WANTED_RECALL

    check_threshold(threshold)
    names, missing = named_routers(routers)
    with tuning_and_turns(epochs, learning_rate, batch, len(names) + 1) as (tuning, begin):
        made = [make_router(name, seed, tuning) for name in names]
        matrix = open_source(**source).matrix(unit)
        say_left_out((*missing, *matrix.left_out))
        if queries is not None:
            matrix = matrix.sample(queries, seed)
        training, test = matrix.split(train_share, seed)
        vectors = embedder(embedding) if any(map(needs_embedding, names)) else None
        evaluation = evaluate_routers(
            made,
            training,
            test,
            vectors,
            threshold=threshold,
            resamples=resamples,
            seed=seed,
            progress=begin,
        )
    for result in evaluation.results:
        if result.neighbours_found is not None and result.neighbours_found < WANTED_RECALL:
            click.echo(
                f"Note: {result.name} finds {result.neighbours_found:.0%} of the training queries that are nearest to"
                " the test's; its row is of those it found",
                err=True,
            )
    if works is not None:
        for name, router in zip(names, made, strict=True):
            if not router.sees_answers:
                works[router.name] = _routing(router, vectors if needs_embedding(name) else None, test)
    return evaluation


def _routing(router: Router, words: Embedder | None, test: OutcomeMatrix) -> Callable[[], object]:
    """Return the work of routing the test queries, their embedding included."""
    import numpy as np
    from harness_analysis.routing import Queries

    blind = np.zeros((len(test), 1))
    return lambda: router.scores(
        Queries(blind if words is None else words.embed(test.texts), texts=test.texts)
    )


def _with_energy(table: Any, works: dict[str, Any], queries: int) -> Any:
    """Return the table with the joules of each router's work on one query, and whether they were measured."""
    import pyarrow as pa

    from harness_cli.router_energy import RouterEnergy, energy_of

    found = [
        energy_of(works[name], queries) if name in works else RouterEnergy()
        for name in table.column("router").to_pylist()
    ]
    number = pa.float64()
    for name, values, kind in (
        ("router_joules", [f.joules for f in found], number),
        ("router_joules_low", [f.low for f in found], number),
        ("router_joules_high", [f.high for f in found], number),
        ("router_energy_kind", [f.kind for f in found], pa.string()),
    ):
        table = table.append_column(name, pa.array(values, kind))
    return table

"""`harness route cascade|hybrid|mess-plus|replay`: routers that look at answers, and traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness_cli.failure import bad_input, work_failed
from harness_cli.outcome_options import (
    check_figure,
    cost_option,
    open_source,
    outcome_options,
    output_options,
    plain_failures,
    table_file_option,
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


@click.command()
@outcome_options
@cost_option
@click.option(
    "--judge-error", "errors", type=float, multiple=True, default=(0.0, 0.1, 0.2, 0.4), show_default=True
)
@click.option(
    "--cost-cap", type=float, default=float("inf"), show_default=True, help="Stop when this much is spent."
)
@resamples_option(10_000)
@seed_option()
@table_file_option
@format_option
def cascade(
    unit: str,
    errors: tuple[float, ...],
    cost_cap: float,
    resamples: int,
    seed: int,
    output: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Ask models from the cheapest on until a judge with known errors accepts; beside it, asking all of them."""
    check_output(output)
    with plain_failures():
        import pyarrow as pa
        from harness_analysis.routing import cascade as cascades

        matrix = open_source(**source).matrix(unit)
        tried: list[tuple[str, float | None, cascades.AnswersBought]] = [
            (
                "cascade",
                e,
                cascades.cascade(matrix.correct, matrix.cost, judge_error=e, cost_cap=cost_cap, seed=seed),
            )
            for e in errors
        ]
        tried.append(
            ("all, best answer", None, cascades.overgenerate_and_rerank(matrix.correct, matrix.cost))
        )
        rows = []
        for name, error, bought in tried:
            cost, quality = bought.intervals(resamples, seed)
            rows.append(
                {
                    "router": name,
                    "judge_error": error,
                    "accuracy": quality.estimate,
                    "accuracy_low": quality.low,
                    "accuracy_high": quality.high,
                    "mean_cost": cost.estimate,
                    "cost_low": cost.low,
                    "cost_high": cost.high,
                    "calls": float(bought.calls.mean()),
                    "cost_unit": unit,
                }
            )
        table = pa.Table.from_pylist(rows)
    deliver_table(table, output, output_format, table.column_names, empty="")


@click.command()
@outcome_options
@cost_option
@click.option("--small", help="The small model; default: the smallest.")
@click.option("--large", help="The large model; default: the largest.")
@click.option(
    "--max-drop", type=float, default=1.0, show_default=True, help="Percent of the large model's quality."
)
@click.option(
    "--encoder",
    is_flag=False,
    flag_value="",
    metavar="[FOLDER]",
    help="Fine-tune this encoder, as the paper does, or MiniLM-L6 without FOLDER (write it after OUTCOMES), in place of"
    " logistic regression on the embedding.",
)
@tuning_options
@embedding_option
@seed_option()
@table_file_option
@format_option
def hybrid(
    unit: str,
    small: str | None,
    large: str | None,
    max_drop: float,
    encoder: str | None,
    epochs: int | None,
    learning_rate: float | None,
    batch: int | None,
    embedding: str,
    seed: int,
    output: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Train the Hybrid LLM routers for a pair; the threshold is calibrated on 500 queries and measured on others."""
    check_output(output)
    with plain_failures():
        import pyarrow as pa
        from harness_analysis.embedding import embedder
        from harness_analysis.routing.finetuned.hybrid_encoder import HYBRID_SCHEDULE, HybridEncoder
        from harness_analysis.routing.hybrid_pair import evaluate_pair

        matrix = open_source(**source).matrix(unit)
        for asked in (small, large):
            if asked is not None and asked not in matrix.models:
                raise bad_input(f"there is no model {asked}; there is {', '.join(matrix.models)}")
        pair = (small or matrix.models[0], large or matrix.models[-1])
        with tuning_from(epochs, learning_rate, batch) as tuning:
            learner = None
            if encoder is not None:
                schedule = tuning.schedule(HYBRID_SCHEDULE)
                learner = HybridEncoder(
                    encoder or None, schedule=schedule, seed=seed, progress=tuning.progress
                )
            words = embedder(embedding) if learner is None else None
            rows = evaluate_pair(matrix, *pair, words, encoder=learner, max_drop_percent=max_drop, seed=seed)
        table = pa.Table.from_pylist(rows)
    deliver_table(table, output, output_format, table.column_names, empty="")


@click.command("mess-plus")
@outcome_options
@cost_option
@click.option("--alpha", type=float, required=True, help="The promised share of satisfied requests.")
@click.option("--v", type=float, default=0.001, show_default=True, help="Weight of the cost.")
@click.option("--c", type=float, default=0.1, show_default=True, help="Rate of exploration.")
@click.option(
    "--decay",
    type=click.Choice(["fourth-root", "square-root"]),
    default="fourth-root",
    show_default=True,
    help="Exploration falls as c / t^(1/4), as the proof needs, or as c / t^(1/2), as the text says.",
)
@click.option(
    "--rivals",
    default="educated-guessing",
    show_default=True,
    help="Names with commas: educated-guessing, mf-routellm, sw-ranking, router-dc, or any router that learns.",
)
@train_share_option(
    "Requests set aside for rivals that learn beforehand; all are measured on the others.", default=0.3
)
@embedding_option
@seed_option()
@output_options
@format_option
def mess_plus(
    unit: str,
    alpha: float,
    v: float,
    c: float,
    decay: Any,
    rivals: str,
    train_share: float,
    embedding: str,
    seed: int,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Serve OUTCOMES in a random order with MESS+: keep a promised share of satisfied requests at the least cost."""
    check_output(output)
    check_figure(plot)
    with plain_failures():
        import numpy as np
        import pyarrow as pa
        from harness_analysis.embedding import embedder
        from harness_analysis.plots import lines_figure, save_figure
        from harness_analysis.routing.catalogue import make_router
        from harness_analysis.routing.choosing import routed_values
        from harness_analysis.routing.mess_plus import run_mess_plus
        from harness_analysis.routing.mess_plus_rivals import EDUCATED_GUESSING, guess, serve

        names = [name.strip() for name in rivals.split(",") if name.strip()]
        learners = [make_router(name, seed) for name in names if name != EDUCATED_GUESSING]
        matrix = training = open_source(**source).matrix(unit)
        if learners:
            training, matrix = matrix.split(train_share, seed)
        matrix = matrix.rows(np.random.default_rng(seed).permutation(len(matrix)))
        vectors = embedder(embedding)
        vectors.fit(matrix.texts)
        ran = run_mess_plus(
            matrix.correct,
            matrix.cost,
            vectors.embed(matrix.texts),
            alpha=alpha,
            v=v,
            c=c,
            decay=decay,
            seed=seed,
        )
        rows: list[dict[str, Any]] = []

        def add(name: str, satisfied: Any, cost: Any, **more: Any) -> None:
            kept = {"satisfied": float(satisfied.mean()), "keeps_promise": bool(satisfied.mean() >= alpha)}
            rest = {"explored": None, "compliant_from_request": None, "threshold": None} | more
            rows.append({"router": name, **kept, "mean_cost": float(cost.mean()), **rest, "cost_unit": unit})

        for m, model in enumerate(matrix.models):
            add(model, matrix.correct[:, m], matrix.cost[:, m])
        served = [guess(matrix, alpha, seed)] if EDUCATED_GUESSING in names else []
        for router in learners:
            click.echo(f"{router.name} learns from {len(training)} requests ...", err=True)
            served.append(serve(router, training, matrix, vectors, alpha=alpha, seed=seed))
        for rival in served:
            satisfied = routed_values(matrix.correct, rival.choice)
            add(rival.name, satisfied, routed_values(matrix.cost, rival.choice), threshold=rival.threshold)
        add(
            "MESS+",
            ran.satisfied,
            ran.cost,
            explored=float(ran.explored.mean()),
            compliant_from_request=ran.first_compliant,
        )
        table = pa.Table.from_pylist(rows)
        if plot is not None:
            every = max(1, len(matrix) // 500)
            curve = {"request": np.arange(len(matrix))[::every], "satisfied": ran.satisfaction[::every]}
            figure = lines_figure(
                pa.table(curve),
                "request",
                "satisfied",
                None,
                x_title="request",
                y_title="share satisfied so far",
            )
            save_figure(figure, plot)
    deliver_table(table, output, output_format, table.column_names, empty="")


@click.command()
@outcome_options
@cost_option
@click.option(
    "--arrivals", type=click.Path(path_type=Path), help="A trace: Azure .csv, Mooncake .jsonl, arrival_s."
)
@click.option(
    "--requests-per-day", type=float, help="A day of this many; its shape is the trace's, else flat."
)
@click.option("--router", "name", default="knn", show_default=True)
@threshold_option
@train_share_option()
@click.option(
    "--servers", multiple=True, metavar="MODEL=N", help="Servers of a model, for waiting times; repeats."
)
@click.option(
    "--router-energy",
    is_flag=True,
    help="Add the joules of the router's own work here to every request of it.",
)
@embedding_option
@seed_option()
@output_options
@format_option
def replay(
    unit: str,
    arrivals: Path | None,
    requests_per_day: float | None,
    name: str,
    threshold: float,
    train_share: float,
    servers: tuple[str, ...],
    router_energy: bool,
    embedding: str,
    seed: int,
    output: Path | None,
    plot: Path | None,
    output_format: str,
    **source: Any,
) -> None:
    """Replay traffic over OUTCOMES for cloud-only, a router and the oracle: totals, savings and waiting times."""
    check_output(output)
    check_figure(plot)
    if arrivals is None and requests_per_day is None:
        raise bad_input(
            "no traffic was given: name a trace with --arrivals, or a number with --requests-per-day"
        )
    counts = _servers(servers)
    with plain_failures():
        from harness_analysis.embedding import embedder
        from harness_analysis.routing.catalogue import make_router
        from harness_analysis.routing.saved import fit_router
        from harness_analysis.traffic_tables import (
            replay_curve_figure,
            replay_table,
            three_strategies,
            traffic_blocks,
        )

        training, test = open_source(**source).matrix(unit).split(train_share, seed)
        fitted = fit_router(make_router(name, seed), embedder(embedding), training)
        strategies = three_strategies(fitted, test, threshold)
        own = _own_cost(fitted, test, str(source.get("energy") or "")) if router_energy else {}
        from harness_analysis.traffic import replay as replay_traffic

        ran = replay_traffic(
            traffic_blocks(arrivals, requests_per_day, seed),
            test,
            strategies,
            servers=counts or None,
            router_cost=own,
            seed=seed,
        )
        table = replay_table(ran)
        if plot is not None:
            from harness_analysis.plots import save_figure

            save_figure(replay_curve_figure(ran), plot)
    deliver_table(table, output, output_format, table.column_names, empty="")


def _own_cost(fitted: Any, test: Any, asked: str) -> dict[str, dict[str, float]]:
    """Return the router's joules for each request, where they are of the kind that the outcomes' are.

    Raises:
        click.ClickException: nothing tells them, or they are of the other kind: the sum would mix the two.
    """
    from harness_cli.router_energy import energy_of

    if "joules" not in test.costs:
        raise bad_input("--router-energy: the outcomes have no joules that the router's could be added to")
    found = energy_of(lambda: fitted.scores(list(test.texts)), len(test))
    if found.joules is None:
        raise work_failed("--router-energy: no energy can be read or estimated here (`harness agent doctor`)")
    if asked != found.kind:
        raise bad_input(
            f"--router-energy: the router's joules are {found.kind} here; they are added only to outcomes of that kind,"
            f" chosen with --energy {found.kind}"
        )
    click.echo(f"The router's own work: {found.joules:.3g} J a query, {found.kind}", err=True)
    return {fitted.router.name: {"joules": found.joules}}


def _servers(words: tuple[str, ...]) -> dict[str, int]:
    counts = {}
    for word in words:
        model, _, count = word.rpartition("=")
        if not model or not count.isdigit():
            raise bad_input(f"--servers {word}: write MODEL=NUMBER")
        counts[model] = int(count)
    return counts

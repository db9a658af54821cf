"""`harness route likelihood`: how likely answers are, as their quality."""

from __future__ import annotations

from pathlib import Path

import click

from harness_cli.outcome_options import plain_failures
from harness_cli.row_progress import row_progress
from harness_cli.tables import check_output, write_table

LINE_EVERY_ANSWERS = 1_000


@click.command()
@click.argument("answers", metavar="ANSWERS", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--scorer",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of a sequence-to-sequence or causal model.",
)
@click.option(
    "--given", default="reference", show_default=True, help="Column that an answer is scored against."
)
@click.option("--answer", default="answer", show_default=True, help="Column of the answer.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help=".csv, .json or .parquet.",
)
def likelihood(answers: Path, scorer: Path, given: str, answer: str, output: Path) -> None:
    """Score ANSWERS (.parquet, .csv or .jsonl, one a row) by their mean log-likelihood given a reference or query.

    Every row is written with log_likelihood and its exponential as `correct`, the graded score that routing reads.
    """
    check_output(output)
    with plain_failures():
        from harness_analysis.errors import OutcomesError
        from harness_analysis.outcomes.opening import read_rows
        from harness_analysis.routing.finetuned.likelihood_score import LikelihoodScorer
        from harness_analysis.routing.finetuned.scored_answers import with_likelihoods

        if not answers.is_file():
            raise OutcomesError(f"{answers}: no such file")
        rows = read_rows(answers)
        model = LikelihoodScorer.load(scorer)
        with row_progress(rows.num_rows, LINE_EVERY_ANSWERS) as advance:
            scored = with_likelihoods(
                rows,
                model,
                given=given,
                answer=answer,
                name=str(answers),
                progress=lambda done: advance("scored", done),
            )
    write_table(scored, output)
    click.echo(f"{scored.num_rows} answers scored: {output}", err=True)

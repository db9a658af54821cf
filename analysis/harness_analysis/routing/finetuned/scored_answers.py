"""A table of answers with the likelihood score of each: graded outcomes for routing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from harness_analysis.errors import OutcomesError
from harness_analysis.routing.finetuned.likelihood_score import LikelihoodScorer

SCORE, QUALITY = "log_likelihood", "correct"


def with_likelihoods(
    rows: pa.Table,
    scorer: LikelihoodScorer,
    *,
    given: str,
    answer: str,
    name: str,
    progress: Callable[[int], None] = lambda _: None,
) -> pa.Table:
    """Return the rows with `log_likelihood` and its exponential as `correct`, both null where an answer is empty.

    Args:
        rows: one per answer.
        scorer: of them.
        given: column of the text that the answer is scored against.
        answer: column of the answer.
        name: of the rows, for messages.
        progress: told the number of answers scored since it was last told.

    Raises:
        OutcomesError: a column is missing, holds no text, or would be written over.

    Source: Hybrid LLM section 2.3; the exponential is "Who routes the router", appendix F.
    """
    for column in (given, answer):
        if column not in rows.column_names:
            raise OutcomesError(
                f"{name}: there is no column `{column}`; there is {', '.join(rows.column_names)}"
            )
        if not pa.types.is_string(rows[column].type) and not pa.types.is_large_string(rows[column].type):
            raise OutcomesError(f"{name}: column `{column}` holds no text")
    for column in (SCORE, QUALITY):
        if column in rows.column_names:
            raise OutcomesError(
                f"{name}: there is a column `{column}` already; rename it, so that it is not lost"
            )
    # What an answer is scored against must be there; an answer itself may be empty.
    absent = rows[given].null_count
    if absent:
        raise OutcomesError(
            f"{name}: column `{given}` is empty in {absent} rows; leave them out or fill them"
        )
    answers = [text or "" for text in rows[answer].to_pylist()]
    found = scorer.scores(rows[given].to_pylist(), answers, progress)
    scores = pa.array(found, mask=np.isnan(found))
    quality = pa.array(np.exp(found), mask=np.isnan(found))
    return rows.append_column(SCORE, scores).append_column(QUALITY, quality)

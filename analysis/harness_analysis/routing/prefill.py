"""What a switch of model costs in a conversation: the new model reads the history that the old one had in its cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.outcomes.turns import Turns

Recorded = Literal["warm", "cold"]
NOT_PER_TOKEN = frozenset({"params", "price"})
"""Costs that say what kind of model was asked, not what was spent: reading a history adds nothing to them."""


def prefill_per_token(
    matrix: OutcomeMatrix, unit: str, given: Mapping[str, float] | None = None
) -> FloatArray:
    """Return what one token of a prompt costs each model, shape (m,); NaN where it cannot be known.

    One token is one token; 2 floating point operations for each parameter. Joules, seconds and dollars are fitted:
    cost = a prompt tokens + b output tokens + c by least squares, none below 0, so they are estimates unless given.

    Args:
        matrix: outcomes with turns.
        unit: a cost that `matrix` knows.
        given: by model, in the unit; overrides the fit.

    Raises:
        RoutingError: a model that is not there, or a cost below 0.
    """
    given = given or {}
    for model, cost in given.items():
        if model not in matrix.models:
            raise RoutingError(
                f"a prefill is given for model {model}; the models are {', '.join(matrix.models)}"
            )
        if not cost >= 0:
            raise RoutingError(f"the prefill of model {model} must cost at least 0 a token, not {cost:g}")
    if unit == "tokens":
        return np.ones(len(matrix.models))
    if unit in NOT_PER_TOKEN:
        return np.zeros(len(matrix.models))
    if unit == "flops":
        found = 2e9 * matrix.params_b
    else:
        found = np.array([_fitted(matrix, unit, at) for at in range(len(matrix.models))])
    return np.array([given.get(model, cost) for model, cost in zip(matrix.models, found, strict=True)])


def _fitted(matrix: OutcomeMatrix, unit: str, model: int) -> float:
    from scipy.optimize import nnls

    turns = turns_in(matrix)
    design = np.column_stack(
        [turns.prompt_tokens[:, model], turns.output_tokens[:, model], np.ones(len(matrix))]
    )
    known = np.isfinite(design).all(axis=1)
    design = design[known]
    # Without three different answers the parts of the cost cannot be told apart.
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return float("nan")
    scale = design.max(axis=0)
    found, _ = nnls(design / scale, matrix.costs[unit][known, model])
    return float(found[0] / scale[0])


def conversation_costs(
    choice: IntArray, matrix: OutcomeMatrix, unit: str, per_token: FloatArray, recorded: Recorded = "warm"
) -> tuple[FloatArray, FloatArray]:
    """Return (cost, of it for reading the history again) of each turn, both shape (n,), NaN where not known.

    A model keeps the history in its cache from the turn before if it answered that; any other model reads all of it:
    what the user asked and the answers of the models that gave them. Caches of models that answered earlier, but not
    the turn before, count as dropped.

    Args:
        choice: model of each query, shape (n,).
        matrix: outcomes with turns.
        unit: of the cost.
        per_token: `prefill_per_token` in this unit.
        recorded: `warm`: outcomes are of models that had the history in their caches, their prompt tokens are those of
            the turn alone, and a switch adds the prefill. `cold`: each outcome includes reading its whole history, and
            no switch saves it.
    """
    turns = turns_in(matrix)
    cost = matrix.costs[unit][np.arange(len(choice)), choice].astype(np.float64)
    extra = np.zeros(len(choice))
    if unit in NOT_PER_TOKEN:
        return cost, extra
    history = np.zeros(turns.prompt_tokens.shape)
    for now, before in turns.places()[1:]:
        answer = turns.output_tokens[before, choice[before]]
        older = 0.0 if recorded == "cold" else history[before]
        history[now] = older + turns.prompt_tokens[before] + answer[:, None]
        read = history[now, choice[now]] * per_token[choice[now]]
        switched = choice[now] != choice[before]
        extra[now] = np.where(switched, read, 0.0)
        if recorded == "warm":
            cost[now] += extra[now]
        else:
            # A fitted prefill may exceed a small recorded cost; nothing costs less than nothing.
            cost[now] = np.where(switched, cost[now], np.maximum(0.0, cost[now] - read))
    return cost, extra


def turns_in(matrix: OutcomeMatrix) -> Turns:
    """Return the turns.

    Raises:
        RoutingError: no query belongs to a conversation.
    """
    if matrix.turns is None:
        raise RoutingError(
            "no query is a turn of a conversation: multi-turn routing needs the columns `conversation` and `turn`,"
            " or `messages_json`"
        )
    return matrix.turns

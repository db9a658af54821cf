"""Routing the turns of conversations: what a router is shown of the history, and when a conversation changes models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.routing_quality import smallest_correct
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.choosing import best, check_threshold, smallest_viable
from harness_analysis.routing.prefill import turns_in
from harness_analysis.routing.router import Queries, Router, one_hot, reads_text

Changes = Literal["each", "first", "needed"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """How the turns of a conversation are routed.

    Args:
        name: in tables.
        turns: of the user that the router is shown, the query itself among them; None shows all.
        changes: the router chooses on `each` turn; the `first` turn's choice stays; or a model stays until its score no
            longer exceeds the threshold, and a new choice is `needed`.
        selections: the router is also told which model answered the turn before.
    """

    name: str
    turns: int | None = 1
    changes: Changes = "each"
    selections: bool = False


def strategies(turns: int = 3) -> tuple[Strategy, ...]:
    """Return every strategy; TrafficBench appendix D.9 finds two to three earlier turns enough.

    `last turn` is the paper's static single-turn; `stay` is our reading of its static multi-turn ("applies the
    single-turn router to each conversation turn sequentially"); `context` is its context-aware multi-turn, whose
    features are prior turns and model selections.

    Raises:
        RoutingError: fewer than two turns, which is the last one alone.
    """
    if turns < 2:
        raise RoutingError(f"a router that is shown a history needs at least 2 turns of it, not {turns}")
    return (
        Strategy("last turn"),
        Strategy("first turn decides", changes="first"),
        Strategy("stay", changes="needed"),
        Strategy(f"last {turns} turns", turns),
        Strategy("whole history", None),
        Strategy("context", turns, selections=True),
    )


def split_conversations(
    matrix: OutcomeMatrix, train_share: float, seed: int
) -> tuple[OutcomeMatrix, OutcomeMatrix]:
    """Return a random training part and the rest; every conversation is whole in one of them.

    Raises:
        RoutingError: no turns, a share outside (0, 1), or a part without conversations.
    """
    conversations = turns_in(matrix).conversations()
    if not 0 < train_share < 1:
        raise RoutingError(f"the training share must lie between 0 and 1, not {train_share:g}")
    order = np.random.default_rng(seed).permutation(len(conversations))
    cut = round(train_share * len(conversations))
    if cut in {0, len(conversations)}:
        raise RoutingError(
            f"{len(conversations)} conversations are too few to train on {train_share:.0%} of them"
        )
    parts = (order[:cut], order[cut:])
    first, second = (np.sort(np.concatenate([conversations[i] for i in part])) for part in parts)
    return matrix.rows(first), matrix.rows(second)


def shown_texts(matrix: OutcomeMatrix, turns: int | None) -> tuple[str, ...]:
    """Return of each query the last turns of its user, the newest first: where a model cuts a text, the oldest goes.

    Args:
        matrix: outcomes with turns.
        turns: how many, all when None.
    """
    return tuple(
        "\n".join(reversed(asked if turns is None else asked[-turns:])) for asked in turns_in(matrix).asked
    )


def route_conversations(
    asked: Sequence[Strategy],
    training: OutcomeMatrix,
    test: OutcomeMatrix,
    new_router: Callable[[], Router],
    new_embedder: Callable[[], Embedder] | None,
    *,
    threshold: float = 0.5,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[tuple[str, IntArray]]:
    """Return each strategy's name and its model for each test turn; strategies that are shown the same share a router.

    With `selections` the router learns from the choices that a router without them makes on conversations it did not
    learn from (two halves, each routed by the other's), because those are what it will be told when it routes: the
    right choices, which training knows, would tell it what nobody knows by then.

    Args:
        asked: of `strategies`.
        training: outcomes with turns.
        test: outcomes of other conversations.
        new_router: makes a router that has not learned.
        new_embedder: makes an embedding that has not learned; None where the router needs none.
        threshold: a score that a model must exceed.
        seed: of the halves.
        progress: told the name of each strategy before its turn.

    Raises:
        RoutingError: no turns, a threshold outside [0, 1], or what the router cannot learn from.

    Source: TrafficBench appendix D.9.
    """
    check_threshold(threshold)
    fitted: dict[tuple[int | None, bool], tuple[Router, _Shown]] = {}
    routed: list[tuple[str, IntArray]] = []
    for strategy in asked:
        progress(strategy.name)
        sees = (strategy.turns, strategy.selections)
        if sees not in fitted:
            earlier = None
            if strategy.selections:
                earlier = _selections(strategy, training, new_router, new_embedder, threshold, seed)
            router = new_router()
            shown = _Shown(strategy, router, new_embedder)
            router.fit(*shown.fit(training, earlier))
            fitted[sees] = router, shown
        routed.append((strategy.name, _in_order(strategy, test, *fitted[sees], threshold)))
    return routed


def _selections(
    strategy: Strategy,
    training: OutcomeMatrix,
    new_router: Callable[[], Router],
    new_embedder: Callable[[], Embedder] | None,
    threshold: float,
    seed: int,
) -> IntArray:
    """Return who answers the turn before each training query, -1 for first turns."""
    halves = split_conversations(training, 0.5, seed)
    choice = np.empty(len(training), dtype=np.int64)
    place = {key: at for at, key in enumerate(_keys(training))}
    plain = [replace(strategy, selections=False)]
    for own, other in (halves, halves[::-1]):
        ((_, routed),) = route_conversations(plain, other, own, new_router, new_embedder, threshold=threshold)
        choice[[place[key] for key in _keys(own)]] = routed
    earlier = np.full(len(training), -1, dtype=np.int64)
    for members in turns_in(training).conversations():
        earlier[members[1:]] = choice[members[:-1]]
    return earlier


def _in_order(
    strategy: Strategy,
    test: OutcomeMatrix,
    router: Router,
    shown: _Shown,
    threshold: float,
) -> IntArray:
    """Route first turns, then second ones, and so on: what a turn gets may depend on who answered the one before."""
    choice = np.full(len(test), -1, dtype=np.int64)
    for now, before in turns_in(test).places():
        stayed = choice[before] if before.size else None
        if stayed is not None and strategy.changes == "first":
            choice[now] = stayed
            continue
        part = test.rows(now)
        scores = router.scores(shown.queries(part, stayed))
        chosen = best(scores) if router.votes else smallest_viable(scores, threshold)
        if stayed is not None and strategy.changes == "needed":
            chosen = np.where(scores[np.arange(len(now)), stayed] > threshold, stayed, chosen)
        choice[now] = chosen
    return choice


class _Shown:
    """What a router is shown of a turn: as vectors, or as text where it reads that."""

    def __init__(
        self, strategy: Strategy, router: Router, new_embedder: Callable[[], Embedder] | None
    ) -> None:
        self._strategy = strategy
        self._sees_answers = router.sees_answers
        self._embedder = None if reads_text(router) or new_embedder is None else new_embedder()

    def fit(self, training: OutcomeMatrix, earlier: IntArray | None) -> tuple[OutcomeMatrix, FloatArray]:
        """Return training outcomes with the texts that are shown, and their vectors."""
        if self._embedder is not None:
            self._embedder.fit(shown_texts(training, self._strategy.turns))
        told = replace(training, texts=self._texts(training, earlier))
        return told, self._vectors(training, earlier)

    def queries(self, part: OutcomeMatrix, earlier: IntArray | None) -> Queries:
        """Return turns of one place in their conversations; `earlier` is None for first turns."""
        told = np.full(len(part), -1, dtype=np.int64) if earlier is None else earlier
        answers = part.correct if self._sees_answers else None
        return Queries(self._vectors(part, told), answers, self._texts(part, told))

    def _texts(self, matrix: OutcomeMatrix, earlier: IntArray | None) -> tuple[str, ...]:
        texts = shown_texts(matrix, self._strategy.turns)
        if not self._strategy.selections or earlier is None:
            return texts
        return tuple(
            text if model < 0 else f"Answered before by {matrix.models[model]}.\n{text}"
            for text, model in zip(texts, earlier, strict=True)
        )

    def _vectors(self, matrix: OutcomeMatrix, earlier: IntArray | None) -> FloatArray:
        if self._embedder is None:
            return np.zeros((len(matrix), 1))
        vectors = self._embedder.embed(shown_texts(matrix, self._strategy.turns))
        if not self._strategy.selections or earlier is None:
            return vectors
        # The turn alone, the turn with its history, and who answered: equal parts of a vector of length 1 at most.
        n, m = matrix.correct.shape
        told = one_hot(np.maximum(earlier, 0), n, m) * (earlier >= 0)[:, None]
        return np.hstack([self._embedder.embed(shown_texts(matrix, 1)), vectors, told]) / np.sqrt(3)


def _keys(matrix: OutcomeMatrix) -> list[tuple[str, int]]:
    turns = turns_in(matrix)
    return list(zip(turns.conversation, turns.number.tolist(), strict=True))


def bounds(test: OutcomeMatrix) -> Sequence[tuple[str, IntArray]]:
    """Return the choices that every strategy lies between: the largest model always, the smallest correct one."""
    return (
        ("largest", np.full(len(test), len(test.models) - 1, dtype=np.int64)),
        ("oracle", smallest_correct(test.correct)),
    )

"""Turns of conversations: who follows whom, what a switch of model costs, and when the history helps a router."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from harness_analysis.embedding import TfidfEmbedder
from harness_analysis.errors import OutcomesError, RoutingError
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.outcomes.opening import open_outcomes
from harness_analysis.outcomes.table import Outcomes
from harness_analysis.routing.catalogue import make_router
from harness_analysis.routing.multi_turn import (
    bounds,
    route_conversations,
    shown_texts,
    split_conversations,
    strategies,
)
from harness_analysis.routing.multi_turn_tables import multi_turn_table
from harness_analysis.routing.prefill import conversation_costs, prefill_per_token, turns_in
from harness_analysis.routing.router import Queries
from harness_store import fleet, jobs
from harness_store.database import open_store
from threadpoolctl import threadpool_limits

from tests.analysis.conversation_worlds import conversation_rows, conversation_world
from tests.analysis.routing_worlds import topic_world
from tests.analysis.test_route_commands import long_form, run
from tests.store.worlds import new_job, query_rows, register, run_to_its_end, sources


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Decompositions this small are slower on two threads than on one, and on a busy machine far slower."""
    with threadpool_limits(1):
        yield


# (query, conversation, turn, prompt tokens of small and large, answer tokens of small and large)
BY_HAND = [
    ("a1", "a", 1, (10, 11), (5, 6)),
    ("a2", "a", 2, (20, 22), (7, 8)),
    ("a3", "a", 3, (30, 33), (9, 10)),
    ("b1", "b", 1, (40, 44), (1, 2)),
]


def by_hand(unit: str = "tokens", **more: Any) -> OutcomeMatrix:
    rows = [
        {
            "query_id": query,
            "query": f"words of {query}",
            "conversation": conversation,
            "turn": turn,
            "model_id": model,
            "params_b": params_b,
            "correct": 1.0,
            "prompt_tokens": prompt[at],
            "output_tokens": output[at],
            **more,
        }
        for query, conversation, turn, prompt, output in reversed(BY_HAND)
        for at, (model, params_b) in enumerate([("small", 1.0), ("large", 9.0)])
    ]
    return Outcomes.from_arrow(pl.DataFrame(rows).to_arrow()).matrix(unit, turns=True)


def test_turns_are_in_order_and_carry_what_was_asked_before() -> None:
    turns = turns_in(by_hand())
    assert [members.tolist() for members in turns.conversations()] == [[0, 1, 2], [3]]
    assert [(now.tolist(), before.tolist()) for now, before in turns.places()] == [
        ([0, 3], []),
        ([1], [0]),
        ([2], [1]),
    ]
    assert turns.asked[2] == ("words of a1", "words of a2", "words of a3")
    assert turns.prompt_tokens[1].tolist() == [20, 22]
    assert shown_texts(by_hand(), 2)[2] == "words of a3\nwords of a2"
    assert shown_texts(by_hand(), None)[2] == "words of a3\nwords of a2\nwords of a1"
    assert shown_texts(by_hand(), 1)[0] == shown_texts(by_hand(), None)[0] == "words of a1"


def test_a_switch_reads_the_history_again_and_a_model_that_stays_does_not() -> None:
    matrix = by_hand()
    one = np.ones(2)
    stayed, nothing = conversation_costs(np.array([0, 0, 0, 0]), matrix, "tokens", one)
    assert stayed.tolist() == [15, 27, 39, 41]
    assert nothing.tolist() == [0, 0, 0, 0]
    # a2 on the large model reads a1 (11 of its own tokens) and the small model's answer (5); a3 back on the small one
    # reads a1 and a2 (10 + 20) and both answers (5 + 8), for its cache of a1 is taken as dropped.
    cost, extra = conversation_costs(np.array([0, 1, 0, 1]), matrix, "tokens", one)
    assert extra.tolist() == [0, 16, 43, 0]
    assert cost.tolist() == [15, 30 + 16, 39 + 43, 46]
    # Cold: a3's history is a2's whole prompt and its answer, saved where the model stays.
    cost, extra = conversation_costs(np.array([0, 1, 1, 1]), matrix, "tokens", one, "cold")
    assert extra.tolist() == [0, 11 + 5, 0, 0]
    assert cost.tolist() == [15, 30, 43 - (22 + 8), 46]


def test_what_a_prompt_token_costs_is_counted_fitted_or_given_and_else_not_known() -> None:
    world = conversation_world(40, history_matters=True)
    assert prefill_per_token(world, "tokens").tolist() == [1, 1]
    assert prefill_per_token(world, "joules") == pytest.approx([0.4, 20.0])
    assert prefill_per_token(world, "flops") == pytest.approx([8e9, 400e9])
    assert prefill_per_token(world, "joules", {"small": 3.0})[0] == 3.0
    assert prefill_per_token(world, "params").tolist() == [0, 0]
    unknown = by_hand("joules", joules=2.0, energy_kind="measured").rows(np.array([0, 1]))
    assert np.isnan(prefill_per_token(unknown, "joules")).all()
    cost, _ = conversation_costs(np.array([0, 1]), unknown, "joules", np.full(2, np.nan))
    assert cost[0] == 2.0
    assert np.isnan(cost[1])
    with pytest.raises(RoutingError, match="the models are small, large"):
        prefill_per_token(world, "joules", {"huge": 1.0})
    with pytest.raises(RoutingError, match="at least 0 a token"):
        prefill_per_token(world, "joules", {"small": -1.0})


def test_the_table_by_hand() -> None:
    matrix = replace(by_hand(), correct=np.array([[1, 1], [0, 1], [1, 1], [0, 1]], dtype=float))
    routed = [("switches", np.array([0, 1, 0, 0])), *bounds(matrix)]
    switches, largest, oracle = multi_turn_table(routed, matrix, matrix, resamples=100).to_pylist()
    assert (switches["accuracy"], largest["accuracy"], oracle["accuracy"]) == (0.75, 1.0, 1.0)
    assert largest["accuracy_over_first"] == pytest.approx(0.25)
    assert (switches["switches"], largest["switches"]) == (1.0, 0.0)
    assert switches["mean_cost"] == (15 + 46 + 82 + 41) / 4
    assert switches["mean_history_cost"] == (16 + 43) / 4
    assert largest["mean_cost"] == (17 + 30 + 43 + 46) / 4
    assert switches["saved"] == pytest.approx(1 - 184 / 136)
    assert oracle["label_f1"] == 1.0
    assert (oracle["conversations"], oracle["turns"]) == (2, 4)
    assert oracle["largest_share"] == 0.5


def routed_in(world: OutcomeMatrix, router: str = "knn:15") -> dict[str, dict[str, Any]]:
    training, test = split_conversations(world, 0.6, seed=1)
    routed = route_conversations(
        strategies(3), training, test, lambda: make_router(router, 0), lambda: TfidfEmbedder(32)
    )
    table = multi_turn_table([*routed, *bounds(test)], training, test, resamples=100)
    return {row["strategy"]: row for row in table.to_pylist()}


def test_the_history_helps_where_follow_ups_do_not_name_their_topic() -> None:
    rows = routed_in(conversation_world(150, history_matters=True))
    for name in ("last 3 turns", "whole history", "context", "first turn decides"):
        # Accuracy alone is no measure, for the large model answers all: the right model is.
        assert rows[name]["label_f1"] > rows["last turn"]["label_f1"] + 0.15, name
        # Who sends every follow-up to one model errs on the one side or on the other, as the coin fell in training.
        right_more_often = rows[name]["over_first_low"] > 0
        assert right_more_often or rows[name]["saved"] > rows["last turn"]["saved"], name
    assert rows["first turn decides"]["switches"] == 0
    assert rows["context"]["label_f1"] > 0.9
    assert rows["stay"]["switches"] <= rows["last turn"]["switches"]


def test_the_history_does_not_help_where_each_turn_has_its_own_topic() -> None:
    rows = routed_in(conversation_world(150, history_matters=False))
    assert rows["last turn"]["label_f1"] > 0.9
    for name in ("last 3 turns", "whole history", "first turn decides"):
        assert rows[name]["label_f1"] < rows["last turn"]["label_f1"], name
    assert rows["context"]["label_f1"] < rows["last turn"]["label_f1"] + 0.02
    # Only a router that changes models pays for reading the history again.
    assert rows["last turn"]["mean_history_cost"] > 0
    assert rows["first turn decides"]["mean_history_cost"] == 0


class Recalls:
    """A router that keeps what it was told, reads text and chooses the model that it names, else the small one."""

    name, sees_answers, votes, reads_text = "recalls", False, False, True

    def __init__(self) -> None:
        self.learned: tuple[str, ...] = ()
        self.asked: list[str] = []

    def fit(self, training: OutcomeMatrix, embeddings: Any) -> None:
        self.learned = training.texts

    def scores(self, queries: Queries) -> Any:
        texts = queries.texts or ()
        self.asked += texts
        return np.array([[0.0, 1.0] if "law" in text or "by large" in text else [1.0, 0.0] for text in texts])


def test_a_router_is_told_its_own_selections_turn_by_turn() -> None:
    rows = conversation_rows(20, history_matters=True)
    # The first turn of every second conversation is the word that sends it to the large model, which then stays.
    named = rows.with_columns(
        pl.when((pl.col("turn") == 1) & pl.col("query_id").str.contains(r"[02468]-")).then(pl.lit("law"))
        .when(pl.col("turn") == 1).then(pl.lit("onion")).otherwise(pl.lit("go on")).alias("query")
    )  # fmt: skip
    world = Outcomes.from_arrow(named.to_arrow()).matrix("joules", turns=True)
    training, test = split_conversations(world, 0.5, seed=3)
    made: list[Recalls] = []

    def new() -> Recalls:
        made.append(Recalls())
        return made[-1]

    context = replace(strategies(2)[-1], turns=1)
    ((_, choice),) = route_conversations([context], training, test, new, None)
    turns = turns_in(test)
    for members in turns.conversations():
        assert set(choice[members].tolist()) == {1 if turns.asked[members[0]][0] == "law" else 0}
    told = made[-1].asked
    assert "Answered before by large.\ngo on" in told
    assert "law" in told
    # It learned from choices of routers without selections: nobody sent "go on" to the large model there, and no
    # conversation was routed by what had learned from it.
    learned = set(made[-1].learned)
    assert "Answered before by large.\ngo on" in learned  # after a first turn that says law
    assert "Answered before by small.\ngo on" in learned
    halves = [set(each.learned) for each in made[:2]]
    assert all(text == "go on" or not text.startswith("Answered") for half in halves for text in half)


def messages(*said: str) -> str:
    turns = []
    for text in said:
        turns += [{"role": "user", "content": text}, {"role": "assistant", "content": f"Answer to {text}"}]
    return json.dumps(turns[:-1])


def test_a_stores_queries_keep_their_conversations(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_store(url)
    said = ["hi", "more", "why", "hello"]
    asked = [
        replace(
            row,
            text=said[at],
            messages_json=messages(*said[: at + 1]) if at in {1, 2} else None,
            # The set's own `turn` counts those of the whole conversation, as WildChat's does.
            extra_json=json.dumps({"conversation_hash": "x" if at < 3 else "y", "turn": 1 if at in {0, 3} else 3}),
        )
        for at, row in enumerate(query_rows(4))
    ]  # fmt: skip
    with store.begin() as c:
        register(c)
        fleet.upsert_sources(c, "a1", sources("g"))
        job_id = jobs.insert_job(c, new_job(models=2), asked).job_id
        run_to_its_end(c, job_id)
        run_to_its_end(c, job_id, model_id="m1")
    store.close()
    turns = turns_in(open_outcomes(url).matrix("joules", turns=True))
    assert [members.tolist() for members in turns.conversations()] == [[0, 1, 2], [3]]
    assert turns.number.tolist() == [1, 2, 3, 1]
    assert turns.asked[2] == ("hi", "more", "why")
    assert np.isfinite(turns.prompt_tokens).all()
    assert open_outcomes(url).matrix("joules").turns is None


def two_models(rows: list[dict[str, Any]]) -> Callable[[], OutcomeMatrix]:
    both = [
        {"model_id": model, "params_b": size, "correct": 1.0, **row}
        for row in rows
        for model, size in (("small", 1.0), ("large", 9.0))
    ]
    return lambda: Outcomes.from_arrow(pl.DataFrame(both).to_arrow()).matrix("params", turns=True)


def test_conversations_are_known_by_their_messages_alone() -> None:
    turns = turns_in(
        two_models(
            [
                {"query_id": "p", "query": "hi", "messages_json": None},
                {"query_id": "q", "query": "more", "messages_json": messages("hi", "more")},
                {"query_id": "r", "query": "less", "messages_json": messages("hi", "less")},
                {"query_id": "s", "query": "why", "messages_json": messages("hi", "more", "why")},
            ]
        )()
    )
    # Two go on from "hi": the first continues its conversation, the other is one of its own, its history known.
    assert [members.tolist() for members in turns.conversations()] == [[0, 1, 3], [2]]
    assert turns.number.tolist() == [1, 2, 2, 3]
    assert turns.asked[2] == ("hi", "less")
    assert turns.asked[3] == ("hi", "more", "why")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"query_id": "a", "conversation": "x"}], "neither `turn` nor `messages_json`"),
        (
            [{"query_id": q, "conversation": "x", "turn": 1} for q in "ab"],
            "queries a and b are both turn 1 of conversation x",
        ),
        ([{"query_id": "a", "messages_json": "[1"}], "must be a list of"),
        ([{"query_id": "a", "messages_json": "[]"}], "no turn of the user"),
        ([{"query_id": "a", "conversation": "x", "turn": 1.5}], "whole number, not 1.5"),
    ],
)
def test_turns_that_cannot_be_placed_are_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(OutcomesError, match=message.replace("(", r"\(")):
        two_models(rows)()


def test_the_command_compares_strategies(tmp_path: Path) -> None:
    file, table = tmp_path / "o.parquet", tmp_path / "t.csv"
    conversation_rows(30, history_matters=True).write_parquet(file)
    options = ("--router", "knn:10", "--cost", "joules", "--resamples", "100")
    rows = json.loads(run("route", "multi-turn", str(file), *options, "--format", "json").stdout)
    assert [row["strategy"] for row in rows] == [s.name for s in strategies()] + ["largest", "oracle"]
    assert rows[0]["saved_over_first"] == 0
    assert all(row["mean_tokens"] > 0 and row["joules_saved"] == row["saved"] for row in rows)
    run("route", "multi-turn", str(file), *options, "-o", str(table))
    assert pl.read_csv(table).height == 8
    shown = run("route", "multi-turn", str(file), "--resamples", "100", "--prefill", "small=2", code=0)
    assert "last turn" in shown.output
    for words, said in (
        (("--prefill", "small"), "write MODEL=COST"),
        (("--prefill", "huge=1"), "the models are small, large"),
        (("--train-share", "2"), "between 0 and 1"),
        (("--threshold", "2"), "between 0 and 1"),
        (("--router", "psychic"), "choose from"),
    ):
        assert said in run("route", "multi-turn", str(file), *words, code=2).output
    long_form(topic_world(40)).write_parquet(file)
    assert "columns `conversation` and `turn`" in run("route", "multi-turn", str(file), code=2).output

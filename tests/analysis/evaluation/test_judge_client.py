"""Judges behind real HTTP: what is asked once, what is asked again, what is given up, what it costs."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from harness_analysis.evaluation.budget import Budget, BudgetSpentError
from harness_analysis.evaluation.chat_endpoint import JudgeRefusedError
from harness_analysis.evaluation.judge_client import (
    Answered,
    JudgeClient,
    MemoryCache,
    MissingKeyError,
    Undecided,
)
from harness_analysis.evaluation.judge_settings import JudgePrice, JudgeSettings
from harness_analysis.evaluation.judging import AnswerToJudge, judge_answer
from harness_analysis.evaluation.replies import TrueFalseReply

from tests.analysis.evaluation.standin_judge import pairwise, standin_judge

YES = '{"explanation": "it agrees", "correct": true}'
PRICE = JudgePrice(input_per_mtok=1.0, output_per_mtok=2.0)


def settings(url: str, **more: Any) -> JudgeSettings:
    return JudgeSettings(name="j", base_url=url, model="m", **{"backoff_s": 0.01, "retries": 2, **more})


def test_a_question_is_paid_for_once() -> None:
    cache, budget = MemoryCache(), Budget()
    with standin_judge(reply=YES) as url, JudgeClient(settings(url, price=PRICE), cache, budget) as client:
        first = client.ask("Is it right?", TrueFalseReply)
        again = client.ask("Is it right?", TrueFalseReply)
    assert isinstance(first, Answered)
    assert isinstance(again, Answered)
    assert (first.value.correct, again.value.correct) == (True, True)
    words = len(YES.split())
    assert first.cost_usd == pytest.approx((3 * 1.0 + words * 2.0) / 1e6)
    assert (first.new, again.new, again.cost_usd) == (1, 0, 0.0)
    assert budget.spent_usd == pytest.approx(first.cost_usd)


@pytest.mark.parametrize("fault", ["429", "500", "cut"])
def test_a_fault_that_passes_is_asked_through(fault: str) -> None:
    faults = {"fault": fault, "fault_every": 2, "fault_s": 0.01}
    with standin_judge(reply=YES, **faults) as url, JudgeClient(settings(url), MemoryCache()) as client:
        asked = [client.ask(f"question {i}", TrueFalseReply) for i in range(4)]
    assert all(isinstance(a, Answered) for a in asked)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("429", "answered 429: .*3 tries"),
        ("cut", "connection failed: .*3 tries"),
        ("slow", r"no reply within 0\.2 s \(3 tries\)"),
        ("prose", "no usable reply after asking twice: it holds no JSON object"),
    ],
)
def test_a_fault_that_stays_leaves_the_answer_undecided(fault: str, said: str) -> None:
    fault_s = 0.01 if fault == "429" else 0.6
    with (
        standin_judge(reply=YES, fault=fault, fault_s=fault_s) as url,
        JudgeClient(settings(url, timeout_s=0.2), MemoryCache()) as client,
    ):
        asked = client.ask("question", TrueFalseReply)
    assert isinstance(asked, Undecided)
    assert re.search(said, asked.reason)


def test_prose_is_answered_with_what_was_wrong() -> None:
    replies = [
        {"when": "cannot be used: it holds no JSON object", "say": YES},
        {"when": "", "say": "Well, yes."},
    ]
    with standin_judge(replies=replies) as url, JudgeClient(settings(url), MemoryCache()) as client:
        asked = client.ask("question", TrueFalseReply)
    assert isinstance(asked, Answered)
    assert (asked.value.correct, asked.new) == (True, 2)


def test_the_budget_is_never_exceeded_however_many_ask_at_once() -> None:
    one = settings("http://127.0.0.1:1/v1", price=JudgePrice(input_per_mtok=0, output_per_mtok=1e4))
    bound_usd = one.max_output_tokens * 1e4 / 1e6
    budget = Budget(1.5 * bound_usd)
    with standin_judge(reply=YES, first_token_s=0.02) as url:
        capped = one.model_copy(update={"base_url": url})
        with JudgeClient(capped, MemoryCache(), budget) as client, ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(client.ask, f"question {i}", TrueFalseReply) for i in range(150)]
            failed = [f for f in futures if isinstance(f.exception(), BudgetSpentError)]
    answered = len(futures) - len(failed)
    assert failed
    assert answered > 1, "what an ask did not use is there for the next"
    words = len(YES.split())
    assert budget.spent_usd == pytest.approx(answered * words * 1e4 / 1e6)
    assert budget.spent_usd <= 1.5 * bound_usd


def test_a_key_that_is_missing_or_wrong_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingKeyError, match="HARNESS_TEST_KEY is not set"):
        JudgeClient(settings("http://127.0.0.1:1/v1", key_env="HARNESS_TEST_KEY"), MemoryCache())
    monkeypatch.setenv("HARNESS_ENGINE_KEY", "right")
    monkeypatch.setenv("HARNESS_TEST_KEY", "wrong")
    with standin_judge(reply=YES) as url:
        client = JudgeClient(settings(url, key_env="HARNESS_TEST_KEY"), MemoryCache())
        with client, pytest.raises(JudgeRefusedError, match="answered 401"):
            client.ask("question", TrueFalseReply)
        monkeypatch.setenv("HARNESS_TEST_KEY", "right")
        with JudgeClient(settings(url, key_env="HARNESS_TEST_KEY"), MemoryCache()) as client:
            assert isinstance(client.ask("question", TrueFalseReply), Answered)


def answer(response: str, reference: str | None) -> AnswerToJudge:
    return AnswerToJudge("t", 1, "q", "m", "Write a line.", None, reference, response)


def test_a_judge_that_prefers_whoever_stands_first_is_seen_through() -> None:
    with standin_judge(reply=pairwise("A>B")) as url, JudgeClient(settings(url), MemoryCache()) as client:
        judged = judge_answer(client, answer("mine", "theirs"), "pairwise")
    assert judged.verdict.detail["levels"] == {"answer-first": 1, "reference-first": -1}
    assert (judged.verdict.correct, judged.verdict.score) == (True, 0.0)


def test_a_judge_that_knows_what_is_good_says_so_in_both_orders() -> None:
    replies = [
        {"when": "<answer_a>\ngood", "say": pairwise("A>>B")},
        {"when": "<answer_b>\ngood", "say": pairwise("B>>A")},
    ]
    with standin_judge(replies=replies) as url, JudgeClient(settings(url), MemoryCache()) as client:
        lost = judge_answer(client, answer("bad {first}", "good"), "pairwise").verdict
        won = judge_answer(client, answer("good", "bad"), "pairwise").verdict
    assert (lost.correct, lost.score, won.correct, won.score) == (False, -2.0, True, 2.0)


def test_without_a_reference_nobody_is_asked() -> None:
    with JudgeClient(settings("http://127.0.0.1:1/v1", retries=0), MemoryCache()) as client:
        for reference in (None, "", "  "):
            verdict = judge_answer(client, answer("mine", reference), "true_false").verdict
            assert (verdict.correct, verdict.reason) == (None, "the query has no reference to judge by")
        assert judge_answer(client, answer(" ", "theirs"), "pairwise").verdict.correct is False

"""Starts that fail in a row are counted by group and process of an agent."""

from __future__ import annotations

from harness_coordinator.failed_starts import MOST_KEPT, FailedStarts, Start

KEY = ("job", "m", 0)
BOOTS = {"a": "a1", "b": "b1"}


def failed(run: str, agent: str = "a", boot: str = "a1") -> Start:
    return Start(KEY, agent, boot, run, f"why of {run}")


def test_an_agent_is_named_after_enough_failures_and_a_run_counts_once() -> None:
    starts = FailedStarts()
    for _ in range(3):
        starts.note(failed("r1"))
    assert starts.reasons(KEY, BOOTS, 2) == {}
    starts.note(failed("r2"))
    assert starts.reasons(KEY, BOOTS, 2) == {"a": "why of r2"}
    assert starts.reasons(("other", "m", 0), BOOTS, 2) == {}


def test_a_start_a_new_process_and_a_retry_begin_anew() -> None:
    starts = FailedStarts()
    starts.note(failed("r1"))
    starts.note(Start(KEY, "a", "a1", "r2"))
    assert starts.reasons(KEY, BOOTS, 1) == {}
    starts.note(failed("r3"))
    assert starts.reasons(KEY, {"a": "a2"}, 1) == {}
    starts.forget_job("job")
    assert starts.reasons(KEY, BOOTS, 1) == {}
    starts.note(failed("r4"))
    starts.note(Start(("job", "n", 0), "a", "a1", "r5", "why"))
    starts.forget(KEY)
    assert starts.reasons(KEY, BOOTS, 1) == {}
    assert starts.reasons(("job", "n", 0), BOOTS, 1) == {"a": "why"}


def test_what_is_remembered_is_bounded() -> None:
    starts = FailedStarts()
    for number in range(MOST_KEPT + 10):
        starts.note(Start((f"job{number}", "m", 0), "a", "a1", "r", "why"))
    assert starts.reasons(("job0", "m", 0), BOOTS, 1) == {}
    assert starts.reasons((f"job{MOST_KEPT + 9}", "m", 0), BOOTS, 1) == {"a": "why"}

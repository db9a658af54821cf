"""Models side by side: nothing is made up, and what is absent says why."""

from __future__ import annotations

from typing import Any

from harness_cli.paper_metrics import PER_QUERY, PER_RUN, side_by_side
from harness_store.results import RESULTS_SCHEMA


def row(**given: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(RESULTS_SCHEMA.names),
        "model_id": "a",
        "engine": "llamacpp",
        "hardware": "Xeon",
        **given,
    }


def test_every_metric_is_a_column_of_the_results() -> None:
    assert {*PER_QUERY.values(), *PER_RUN.values()} <= set(RESULTS_SCHEMA.names)


def test_a_mean_is_over_answered_queries_and_a_sum_needs_them_all() -> None:
    rows = [
        row(joules=2.0, total_s=1.0, energy_state="final", energy_source="counter", precision="q4_1"),
        row(joules=4.0, total_s=3.0, energy_state="final", energy_source="counter", precision="q4_1"),
        row(error="timeout", joules=100.0, total_s=600.0, energy_state="final"),
        row(model_id="b", engine="openai", hardware=None, total_s=5.0, energy_state="none"),
        row(model_id="c", engine="mlx", joules=1.0, energy_state="final"),
        row(model_id="c", engine="mlx", energy_state="final", energy_reason="rapl:0 sent no samples"),
    ]
    table, notes = side_by_side(rows)
    found = {entry["metric"]: entry for entry in table}
    a, b, c = "a (llamacpp, Xeon)", "b (openai, no device)", "c (mlx, Xeon)"
    assert (found["queries"][a], found["errors"][a]) == (3, 1)
    assert (found["per_query_joules"][a], found["total_joules"][a]) == (3.0, 6.0)
    assert found["total_query_seconds"][a] == 2.0, "a failed query is no latency"
    assert (found["precision"][a], found["per_query_joules"][b]) == ("q4_1", None)
    assert found["total_joules"][c] is None, "a sum without one of its parts is no sum"
    assert any(note.endswith(f"of {b}: the run was not measured (energy: off)") for note in notes)
    assert any("of " + a in note and "params_b" in note for note in notes)
    # Every absent value has its sentence.
    for entry in table:
        for name in (a, b, c):
            if entry[name] is None and entry["metric"] != "stated_joules":
                assert any(entry["metric"] in note.split(" of ")[0] and name in note for note in notes), entry

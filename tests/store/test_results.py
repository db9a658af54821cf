"""Result rows, the view under the paper's names, and outcomes."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from harness_store import fleet, jobs, leases, results, runs
from harness_store.database import Store
from harness_store.errors import UnknownJobError
from harness_store.outcomes import outcomes_table
from sqlalchemy import Connection, text

from tests.store.worlds import NOW, S, new_job, query_rows, register, run_to_its_end, sources

TABLE_7 = """
flops_per_request macs_per_request per_query_joules total_joules per_token_ms throughput_tokens_per_sec
time_to_first_token_seconds total_query_seconds cpu_mb_avg cpu_mb_max cpu_mb_median cpu_mb_min gpu_mb_avg gpu_mb_max
gpu_mb_median gpu_mb_min initialization_duration_seconds batch_size gpu_memory_utilization max_model_len
max_num_batched_tokens max_output_tokens num_workers temperature sampling_temperature top_k top_p warmup_steps
per_query_watts_avg per_query_watts_max per_query_watts_median per_query_watts_min total_watts_avg total_watts_max
total_watts_median total_watts_min cpu_count cpu_brand host_name os_name os_version kernel_version temperature_avg
temperature_max temperature_median temperature_min input output
"""


def _job(c: Connection, submission_id: str = "s1", count: int = 3, **more: object) -> str:
    register(c)
    fleet.upsert_sources(c, "a1", sources("g", "g2", "cpu"))
    return jobs.insert_job(c, new_job(submission_id, **more), query_rows(count)).job_id  # type: ignore[arg-type]


def test_a_row_has_the_joules_and_the_times_of_its_query(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        run_to_its_end(c, job_id, host_sources=["cpu"], responses=["1", "2", "wrong"])
        rows = results.results_table(c, job_id).to_pylist()
    assert [row["query_id"] for row in rows] == ["q0", "q1", "q2"]
    row = rows[1]
    assert (row["joules"], row["joules_low"], row["host_joules"]) == (11.0, pytest.approx(9.9), 11.0)
    assert (row["energy_source"], row["device_scope"], row["hardware"]) == ("counter", "gpu", "NVIDIA H200")
    assert (row["total_s"], row["time_to_first_token_s"]) == (0.5, 0.1)
    assert (row["tokens_per_s"], row["ms_per_token"]) == (100.0, 10.0)
    assert row["cost"] == pytest.approx((100 * 1.0 + 50 * 2.0) / 1e6)
    # 0.5e9 parameters, 150 tokens, 2 layers of width 64: the two terms of the formula.
    assert row["flops"] == pytest.approx(2 * 0.5e9 * 150 + 2 * 2 * 64 * 150 * 151)
    assert row["macs"] == row["flops"] / 2
    assert (row["watts_max"], row["gpu_memory_mb_max"], row["cpu_memory_mb_avg"]) == (120.0, 1100.0, 500.0)
    assert row["temperature_c_median"] is None
    assert row["final"] is True
    assert [r["correct"] for r in rows] == [True, True, False]
    assert [r["flags"] for r in rows] == ["gap,throttled", None, None]
    assert all(r["error"] is None for r in rows)


def test_two_devices_add_up_and_what_cannot_be_added_is_null(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        run_to_its_end(c, job_id, sources=["g", "g2"])
        row = results.results_table(c, job_id).to_pylist()[0]
    assert (row["joules"], row["watts_avg"], row["gpu_memory_mb_avg"]) == (20.0, 200.0, 2000.0)
    assert (row["watts_max"], row["watts_median"], row["gpu_memory_mb_max"]) == (None, None, None)
    assert row["flags"] == "gap,throttled"


def test_a_device_whose_joules_are_unknown_makes_the_sum_unknown(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        run_to_its_end(c, job_id, sources=["g", "g2"], joules={"g": [1.0, 2.0, 3.0], "g2": [1.0, None, 3.0]})
        joules = [row["joules"] for row in results.results_table(c, job_id).to_pylist()]
    assert joules == [2.0, None, 6.0]


def test_a_device_without_any_rows_is_not_left_out_silently(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        run_to_its_end(c, job_id, sources=["g", "g2"], joules={"g": [1.0, 2.0, 3.0]})
        rows = results.results_table(c, job_id).to_pylist()
    assert [row["joules"] for row in rows] == [None, None, None]
    assert rows[1]["flags"] == "source_missing"


def test_measured_and_estimated_joules_are_never_added(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        run_to_its_end(c, job_id, sources=["g", "g2"], energy_source={"g2": "estimated"})
        rows = results.results_table(c, job_id).to_pylist()
        summary = jobs.job_summary(c, job_id)
    assert rows[1]["joules"] is None
    assert rows[1]["flags"] == "mixed_sources"
    assert rows[1]["energy_source"] == "counter+estimated"
    assert (summary.joules, summary.joules_kind) == (None, "mixed")


def test_estimated_host_joules_are_not_shown_as_measured(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        run_to_its_end(c, job_id, host_sources=["cpu"], energy_source={"cpu": "estimated"})
        rows = results.results_table(c, job_id).to_pylist()
    assert [row["host_joules"] for row in rows] == [None, None, None]


def test_a_failed_task_is_a_row_with_its_error(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c, max_attempts=1)
        runs.insert_run(
            c, run_id="r1", job_id=job_id, model_id="m0", hardware_index=0, agent_id="a1", boot_id="b1",
            device_ids=["gpu-0"], created_realtime_ns=NOW,
        )  # fmt: skip
        (task,) = leases.lease_tasks(
            c, job_id=job_id, model_id="m0", hardware_index=0, run_id="r1", agent_id="a1", limit=1,
            expires_realtime_ns=NOW + S, now_ns=NOW,
        )  # fmt: skip
        state = leases.fail(
            c, task_id=task.task_id, attempt=1, agent_id="a1", run_id="r1", reason="no memory", retryable=True,
            now_ns=NOW,
        )  # fmt: skip
        assert state == "failed"
        (row,) = results.results_table(c, job_id).to_pylist()
    assert (row["error"], row["state"], row["joules"], row["response"]) == ("no memory", "failed", None, None)


def test_a_job_without_results_gives_no_rows_and_an_unknown_one_an_error(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        assert results.results_table(c, job_id).num_rows == 0
        assert results.results_table(c, job_id).schema == results.RESULTS_SCHEMA
        with pytest.raises(UnknownJobError, match="no job 'nope'"):
            results.results_table(c, "nope")


def test_the_view_has_every_name_of_table_7(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        run_to_its_end(c, job_id)
        rows = (
            c.execute(text("SELECT * FROM trafficbench_metrics WHERE job = :job"), {"job": job_id})
            .mappings()
            .all()
        )
    assert len(rows) == 3
    row = min(rows, key=lambda r: r["query_id"])
    assert [name for name in TABLE_7.split() if name not in row] == []
    assert row["per_query_joules"] == 10.0
    assert row["total_joules"] == 33.0
    assert (row["batch_size"], row["max_model_len"], row["num_workers"], row["top_k"]) == (4, 4096, 4, 20)
    assert (row["temperature"], row["sampling_temperature"], row["top_p"]) == (0.6, 0.6, 0.95)
    # The engine said "auto": that is no number.
    assert row["max_num_batched_tokens"] is None
    assert (row["total_watts_avg"], row["total_watts_max"]) == (80.0, 300.0)
    assert (row["cpu_count"], row["cpu_brand"], row["host_name"], row["os_name"]) == (
        8,
        "Xeon",
        "lab-1",
        "Linux",
    )
    assert (row["input"], row["output"], row["warmup_steps"], row["max_output_tokens"]) == (100, 50, 2, 64)
    assert row["initialization_duration_seconds"] == 1.5
    assert row["kernel_version"] is None


def test_what_the_models_own_files_tell_wins_and_what_nobody_tells_is_null(store: Store) -> None:
    with store.begin() as c:
        job_id = _job(c)
        run_id = run_to_its_end(c, job_id)
        before = results.results_table(c, job_id).to_pylist()[0]
        facts = {"precision": "q4_1", "parameters": "1000", "active_parameters": "100", "attention_width": "128",
                 "max_num_batched_tokens": "16384", "gpu_memory_utilization": "0.92", "running_requests_max": "4",
                 "kv_cache_use_max": "0.25"}  # fmt: skip
        runs.add_facts(c, run_id=run_id, facts=facts)
        runs.add_facts(c, run_id=run_id, facts={})
        row = results.results_table(c, job_id).to_pylist()[0]
        paper = (
            c.execute(text("SELECT * FROM trafficbench_metrics WHERE job = :job"), {"job": job_id})
            .mappings()
            .first()
        )
    assert before["precision"] is None
    assert before["parameters"] == 0.5e9, "the job's own word, where no file tells"
    assert (row["precision"], row["parameters"], row["active_parameters"]) == ("q4_1", 1000, 100)
    # 150 tokens, 2 layers; heads x head width wins over the embedding.
    assert row["flops"] == pytest.approx(2 * 100 * 150 + 2 * 2 * 128 * 150 * 151)
    assert row["engine_version"] == "1"
    assert (row["stated_joules"], row["stated_energy_source"], row["thinking"]) == (None, None, None)
    assert paper is not None
    assert (paper["max_num_batched_tokens"], paper["precision"]) == (16384, "q4_1")
    assert (paper["running_requests_max"], paper["kv_cache_use_max"]) == (4, 0.25)


QWEN3_8B = {
    "parameters": "8190735360",
    "active_parameters": "8190735360",
    "layers": "36",
    "attention_width": "4096",
}
MIXTRAL = {
    "parameters": "46702792704", "active_parameters": "12879925248", "experts": "8", "experts_used": "2",
    "layers": "32", "attention_width": "4096",
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "by_hand"),
    [
        # 100 + 50 tokens. Weights: 2 x 8,190,735,360 x 150. Attention: 2 x 36 x 4096 x 150 x 151.
        (QWEN3_8B, 2_457_220_608_000 + 6_679_756_800),
        # Of these 151,936 x 4096 are looked up, for the output head has a matrix of its own: 2 x 7,568,405,504 x 150.
        (QWEN3_8B | {"looked_up_parameters": "622329856"}, 2_270_521_651_200 + 6_679_756_800),
        # A token meets 2 of 8 experts: 2 x 12,879,925,248 x 150 and 2 x 32 x 4096 x 150 x 151.
        (MIXTRAL, 3_863_977_574_400 + 5_937_561_600),
        # What a token meets is not known: no value rather than that of all experts.
        ({name: value for name, value in MIXTRAL.items() if name != "active_parameters"}, None),
    ],
    ids=["dense", "dense, looked up", "mixture", "unknown mixture"],
)
def test_flops_and_macs_are_those_by_hand(store: Store, facts: dict[str, str], by_hand: int | None) -> None:
    model = jobs.NewModel(model_id="m0", engine="vllm", source="x", spec_json=json.dumps({"id": "m0"}))
    with store.begin() as c:
        _job(c)
        job_id = jobs.insert_job(c, dataclasses.replace(new_job("s2"), models=[model]), query_rows(3)).job_id
        runs.add_facts(c, run_id=run_to_its_end(c, job_id), facts=facts)
        row = results.results_table(c, job_id).to_pylist()[0]
    assert (row["prompt_tokens"], row["output_tokens"]) == (100, 50)
    if by_hand is None:
        assert (row["flops"], row["macs"]) == (None, None)
    else:
        assert row["flops"] == pytest.approx(by_hand, rel=1e-12)
        assert row["macs"] == pytest.approx(by_hand / 2, rel=1e-12)


def test_a_published_figure_stands_beside_the_joules_and_never_among_them(store: Store) -> None:
    stated = {"joules_per_output_token": 0.5, "source": "a paper, table 3"}
    model = jobs.NewModel(
        model_id="m0", engine="openai", source="big", input_price_per_mtok=1.0,
        spec_json=json.dumps({"id": "m0", "precision": "fp8", "stated_energy": stated}),
    )  # fmt: skip
    with store.begin() as c:
        _job(c)
        job_id = jobs.insert_job(c, dataclasses.replace(new_job("s2"), models=[model]), query_rows(3)).job_id
        run_to_its_end(c, job_id, sources=[])
        row = results.results_table(c, job_id).to_pylist()[0]
    assert (row["joules"], row["energy_source"]) == (None, None)
    assert (row["stated_joules"], row["stated_energy_source"]) == (25.0, "a paper, table 3")
    assert row["precision"] == "fp8"
    assert row["cost"] is None, "half a price is no price"


def test_the_rows_of_one_job_are_found_by_its_index(store: Store) -> None:
    explain = "EXPLAIN QUERY PLAN " if store.dialect == "sqlite" else "EXPLAIN "
    with store.begin() as c:
        _job(c)
        if store.dialect == "postgresql":
            c.execute(text("SET LOCAL enable_seqscan = off"))
        for view in ("result_rows", "trafficbench_metrics"):
            plan = "\n".join(
                str(row) for row in c.execute(text(f"{explain}SELECT * FROM {view} WHERE job = 'x'"))
            )
            assert "ix_tasks_job_id_state" in plan or "ix_tasks_next" in plan, plan


def test_outcomes_are_means_over_answers_of_one_model_on_one_hardware(store: Store) -> None:
    with store.begin() as c:
        first = _job(c, "s1", models=2)
        run_to_its_end(c, first, responses=["1", "2", "no"])
        run_to_its_end(c, first, model_id="m1")
        second = jobs.insert_job(c, new_job("s2"), query_rows(3)).job_id
        run_to_its_end(c, second, responses=["no", "2", "no"], joules={"g": [20.0, 21.0, 22.0]})
        rows = outcomes_table(c).to_pylist()
        chosen = outcomes_table(c, models=["m1"], hardware=["*h200*"])
        assert outcomes_table(c, hardware=["*MI300*"]).num_rows == 0
    m0 = [row for row in rows if row["model_id"] == "m0"]
    assert [row["correct"] for row in m0] == [0.5, 1.0, 0.0]
    assert [row["joules"] for row in m0] == [15.0, 16.0, 17.0]
    assert (m0[0]["answers"], m0[0]["judged"], m0[0]["failures"]) == (2, 2, 0)
    assert (m0[0]["query"], m0[0]["energy_kind"]) == ("What is 0 + 1?", "measured")
    assert chosen.num_rows == 3
    assert math.isclose(sum(row["joules"] for row in chosen.to_pylist()), 33.0)

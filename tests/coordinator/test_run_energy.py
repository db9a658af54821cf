"""The joules of a run from what is stored: complete, late, and made again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness_coordinator.recompute import recompute_job
from harness_coordinator.run_energy import compute_run_energy
from harness_store import fleet, jobs, measurements, runs, segments
from harness_store.database import Store, open_store
from harness_store.late_samples import reopen_where_samples_arrived
from sqlalchemy import Connection, text

from tests.store.worlds import NOW, S, new_job, query_rows, register, run_to_its_end

IDLE_W, BUSY_W = 100.0, 300.0
QUERIES = 4
"""The world's queries run one after another at 20, 21, ... s for half a second each."""
RUN = (10 * S, 30 * S)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'h.db'}")
    yield opened
    opened.close()


def true_joules(t_s: np.ndarray) -> np.ndarray:
    busy = sum(np.clip(t_s - (20 + i), 0, 0.5) for i in range(QUERIES))
    return IDLE_W * t_s + (BUSY_W - IDLE_W) * busy


def blocks(start_s: float, end_s: float, first_seq: int, *, power: bool = False) -> list[segments.NewBlock]:
    """Polls of a counter that ticks every 20 ms, at 100 Hz, one block a second."""
    made = []
    for seq, at in enumerate(np.arange(start_s, end_s, 1.0), start=first_seq):
        t_s = at + np.arange(0, 1.0, 0.01) + 0.003
        columns = {"t_ns": (t_s * 1e9).astype(np.int64), "energy_j": true_joules(np.floor(t_s / 0.02) * 0.02)}
        if power:
            columns["power_w"] = np.full(t_s.size, BUSY_W)
        made.append(segments.NewBlock("a1", "b1", "g", "c1", seq, columns))
    return made


def world(connection: Connection) -> tuple[str, str]:
    """A finished run of four queries with one source, and no samples yet."""
    register(connection)
    source = fleet.SourceRecord(
        "g", "nvidia", "gpu-0", "H200", "gpu", "counter", has_energy=True, has_power=True
    )
    fleet.upsert_sources(connection, "a1", [source])
    job_id = jobs.insert_job(connection, new_job(), query_rows(QUERIES)).job_id
    run_id = run_to_its_end(connection, job_id, joules={})
    for model in ("measurements", "run_energy"):
        connection.execute(text(f"delete from {model}"))
    connection.execute(
        text(
            "update runs set end_ns = :end, state = 'ended', energy_state = 'pending', over_realtime_ns = :now"
        ),
        {"end": RUN[1], "now": NOW},
    )
    runs.add_baseline(connection, run_id=run_id, start_ns=11 * S, end_ns=19 * S)
    return job_id, run_id


def stored(connection: Connection) -> list[tuple[object, ...]]:
    columns = "task_id, joules, joules_low, joules_high, net_joules, coverage, flags, method, attribution"
    return [
        tuple(r) for r in connection.execute(text(f"select {columns} from measurements order by task_id"))
    ]


def test_rows_are_what_the_queries_used_and_add_up(store: Store) -> None:
    with store.begin() as connection:
        _, run_id = world(connection)
        segments.append_blocks(connection, blocks(8, 33, 1))
        made = compute_run_energy(connection, run_id, final=True)
    assert made.reason == ""
    (source,) = made.sources
    assert len(made.queries) == QUERIES
    for query in made.queries:
        assert query.joules == pytest.approx(BUSY_W * 0.5, rel=0.01)
        assert query.joules_low <= BUSY_W * 0.5 <= query.joules_high
        assert query.net_joules == pytest.approx((BUSY_W - IDLE_W) * 0.5, rel=0.02)
        assert query.watts_max is not None
    device = source.device_joules
    assert device == pytest.approx(IDLE_W * 20 + (BUSY_W - IDLE_W) * 2, rel=1e-3)
    parts = sum(q.joules for q in made.queries) + source.unattributed_joules
    assert parts == pytest.approx(device, rel=1e-9)
    assert source.baseline_before_w == pytest.approx(IDLE_W, rel=0.01)
    assert source.period_s == pytest.approx(0.02, rel=0.01)


def test_a_counter_and_a_power_reading_that_disagree_are_both_kept_and_flagged(store: Store) -> None:
    with store.begin() as connection:
        _, run_id = world(connection)
        segments.append_blocks(connection, blocks(8, 33, 1, power=True))
        made = compute_run_energy(connection, run_id, final=True)
    (source,) = made.sources
    assert "counter_disagrees" in source.flags.split(",")
    assert source.cross_check_joules == pytest.approx(BUSY_W * 20, rel=0.01)
    assert all(q.cross_check_joules is not None for q in made.queries)


def test_samples_that_come_late_lead_to_one_recomputation(store: Store) -> None:
    with store.begin() as connection:
        _, run_id = world(connection)
        segments.append_blocks(connection, blocks(8, 21, 1), now_ns=NOW)
        measurements.replace_run_energy(
            connection, compute_run_energy(connection, run_id, final=True), now_ns=NOW + S
        )
        missing = runs.get_run(connection, run_id)
        assert missing.energy_state == "final"
        assert "covers" in (missing.energy_reason or "")
        assert reopen_where_samples_arrived(connection, now_ns=NOW + 100 * S, quiet_ns=5 * S) == []

        segments.append_blocks(connection, blocks(21, 33, 14), now_ns=NOW + 60 * S)
        still_arriving = reopen_where_samples_arrived(connection, now_ns=NOW + 62 * S, quiet_ns=5 * S)
        assert still_arriving == []
        assert reopen_where_samples_arrived(connection, now_ns=NOW + 70 * S, quiet_ns=5 * S) == [run_id]
        made = compute_run_energy(connection, run_id, final=True)
        measurements.replace_run_energy(connection, made, now_ns=NOW + 71 * S)
        assert made.reason == ""
        assert reopen_where_samples_arrived(connection, now_ns=NOW + 200 * S, quiet_ns=5 * S) == []


def test_samples_of_the_next_process_are_none_of_a_run_whose_agent_was_killed(store: Store) -> None:
    with store.begin() as connection:
        _, run_id = world(connection)
        connection.execute(text("update runs set end_ns = null, state = 'lost'"))
        segments.append_blocks(connection, blocks(12, 33, 1), now_ns=NOW)
        measurements.replace_run_energy(
            connection, compute_run_energy(connection, run_id, final=True), now_ns=NOW + S
        )
        assert "covers" in (runs.get_run(connection, run_id).energy_reason or "")
        after = [replace(block, boot_id="b2") for block in blocks(40, 50, 1)]
        segments.append_blocks(connection, after, now_ns=NOW + 60 * S)
        assert reopen_where_samples_arrived(connection, now_ns=NOW + 70 * S, quiet_ns=5 * S) == []
        segments.append_blocks(connection, blocks(33, 34, 22), now_ns=NOW + 80 * S)
        assert reopen_where_samples_arrived(connection, now_ns=NOW + 90 * S, quiet_ns=5 * S) == [run_id]


def test_host_memory_is_told_also_of_queries_before_its_first_and_after_its_last_reading(
    store: Store,
) -> None:
    """It is polled twice a second while the engine is there; the queries end at 20.5, 21.5, 22.5 and 23.5 s."""
    with store.begin() as connection:
        _, run_id = world(connection)
        used = {15.0: np.nan, 21.2: 3e9, 21.7: 4e9, 21.9: 5e9, 26.0: np.nan}
        columns = {
            "t_ns": (np.array(list(used)) * 1e9).astype(np.int64),
            "memory_used_bytes": np.array(list(used.values())),
        }
        memory = segments.NewBlock("a1", "b1", "host:memory", "c1", 1, columns)
        segments.append_blocks(connection, [*blocks(8, 33, 1), memory])
        made = compute_run_energy(connection, run_id, final=True)
    told = {host.task_id: host.cpu_memory_mb_max for host in made.host}
    first, second, third, last = (told[query.task_id] for query in made.queries)
    # The first and the third have the nearest reading; of the last nothing is known that is near enough.
    assert (first, second, third, last) == (3000, 3000, 5000, None)


def test_recomputing_twice_leaves_the_same_rows(store: Store) -> None:
    with store.begin() as connection:
        job_id, _ = world(connection)
        segments.append_blocks(connection, blocks(8, 33, 1))
        first = recompute_job(connection, job_id)
        once = stored(connection)
        recompute_job(connection, job_id)
        assert stored(connection) == once
        assert (first.runs, first.rows) == (1, QUERIES)
        by_time = recompute_job(connection, job_id, "time")
        assert {row[-1] for row in stored(connection)} == {"time"}
        assert by_time.device_joules == pytest.approx(first.device_joules)


def test_a_run_without_any_sample_has_no_joules_and_says_why(store: Store) -> None:
    with store.begin() as connection:
        _, run_id = world(connection)
        made = compute_run_energy(connection, run_id, final=True)
        measurements.replace_run_energy(connection, made, now_ns=time.time_ns())
        assert made.queries == []
        assert "g sent no samples" in made.reason
        assert runs.get_run(connection, run_id).energy_state == "failed"


def test_a_run_that_shared_its_device_says_so_on_every_row(store: Store) -> None:
    with store.begin() as connection:
        _, run_id = world(connection)
        segments.append_blocks(connection, blocks(8, 33, 1))
        connection.execute(
            text("update runs set facts_json = :facts"), {"facts": '{"shared_device": "pid 7"}'}
        )
        made = compute_run_energy(connection, run_id, final=True)
    assert all("shared_device" in q.flags.split(",") for q in made.queries)
    assert "shared_device" in made.sources[0].flags.split(",")

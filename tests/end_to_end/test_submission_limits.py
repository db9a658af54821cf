"""A submission that would fill the coordinator's memory is refused with the way out, and nothing of it is stored."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
import yaml
from harness_coordinator.settings import MAX_MESSAGE_BYTES, MAX_SUBMIT_BYTES, MAX_SUBMIT_ROWS
from harness_proto.v1 import jobs_pb2, jobs_pb2_grpc

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import Harness


def stored(harness: Harness) -> dict[str, int]:
    with sqlite3.connect(harness.database.removeprefix("sqlite:///")) as database:
        return {
            table: database.execute(f"select count(*) from {table}").fetchone()[0]
            for table in ("jobs", "queries", "datasets", "tasks")
        }


def test_a_file_that_is_too_large_is_refused_with_the_way_out(harness: Harness) -> None:
    harness.start_coordinator()
    job, queries = write_job(harness.folder), harness.folder / "queries.jsonl"
    long = "x" * 900_000
    with queries.open("w") as file:
        for number in range(MAX_SUBMIT_BYTES // len(long) + 2):
            file.write(f'{{"id": "{number}", "query": "{long}"}}\n')
    refused = harness.run("submit", str(job), "--wait-for-agents")
    assert refused.returncode == 2, refused.stderr
    assert f"at most {MAX_SUBMIT_ROWS} queries and {MAX_SUBMIT_BYTES >> 20} MiB" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert set(stored(harness).values()) == {0}

    # The way out that the sentence names, with fewer rows for the test's time.
    assert "harness dataset import NAME FILE" in refused.stderr
    harness.run("dataset", "import", "large", str(queries), "--limit", "20", check=True)
    named = yaml.safe_load(job.read_text()) | {"dataset": {"name": "large"}}
    job.write_text(yaml.safe_dump(named))
    harness.submit(job, "--wait-for-agents")
    assert stored(harness)["tasks"] == 20


def test_long_queries_are_sent_in_messages_that_the_coordinator_takes(harness: Harness) -> None:
    """Five hundred rows went into one message whatever their length, and 16 MiB were too many for it."""
    harness.start_coordinator()
    job = write_job(harness.folder)
    rows = [{"id": str(number), "query": "x" * 200_000} for number in range(120)]
    (harness.folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    harness.submit(job, "--wait-for-agents")
    assert stored(harness)["tasks"] == 120


def test_too_many_queries_are_refused(harness: Harness) -> None:
    harness.start_coordinator()
    job = yaml.safe_load(write_job(harness.folder).read_text())

    def messages() -> Iterator[jobs_pb2.SubmitRequest]:
        yield jobs_pb2.SubmitRequest(submission_id="s", job_json=json.dumps(job), wait_for_agents=True)
        for first in range(0, MAX_SUBMIT_ROWS + 1, 50_000):
            numbers = range(first, min(first + 50_000, MAX_SUBMIT_ROWS + 1))
            yield jobs_pb2.SubmitRequest(
                rows=[jobs_pb2.DatasetRow(query_id=str(n), text="?") for n in numbers]
            )

    with grpc.insecure_channel(harness.address) as channel, pytest.raises(grpc.RpcError) as refused:
        jobs_pb2_grpc.JobsStub(channel).Submit(messages(), timeout=60)
    assert f"at most {MAX_SUBMIT_ROWS} queries" in str(refused.value)
    assert set(stored(harness).values()) == {0}


def test_too_many_bytes_are_refused_before_they_fill_the_memory(harness: Harness) -> None:
    harness.start_coordinator()
    job = yaml.safe_load(write_job(harness.folder).read_text())
    before = psutil.Process(harness.processes["coordinator"].pid).memory_info().rss
    text = "x" * (MAX_MESSAGE_BYTES - 1000)
    sent = 0

    def messages() -> Iterator[jobs_pb2.SubmitRequest]:
        nonlocal sent
        yield jobs_pb2.SubmitRequest(submission_id="s", job_json=json.dumps(job), wait_for_agents=True)
        for number in range(100 * MAX_SUBMIT_BYTES // MAX_MESSAGE_BYTES):
            sent += len(text)
            yield jobs_pb2.SubmitRequest(rows=[jobs_pb2.DatasetRow(query_id=str(number), text=text)])

    with grpc.insecure_channel(harness.address) as channel, pytest.raises(grpc.RpcError) as refused:
        jobs_pb2_grpc.JobsStub(channel).Submit(messages(), timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # pyright: ignore[reportAttributeAccessIssue]
    assert "MiB, and this one has more; nothing was stored" in str(refused.value)
    assert sent < 4 * MAX_SUBMIT_BYTES
    grown = psutil.Process(harness.processes["coordinator"].pid).memory_info().rss - before
    assert grown < 4 * MAX_SUBMIT_BYTES
    assert set(stored(harness).values()) == {0}
    # A smaller one is taken as ever.
    harness.submit(write_job(Path(harness.folder)), "--wait-for-agents")
    assert stored(harness)["jobs"] == 1

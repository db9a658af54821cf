"""The faults of the table in docs/fleet.md, with real processes over TLS; `make test-fleet` runs the long form."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness_proto.v1 import fleet_pb2_grpc, telemetry_pb2

from tests.end_to_end.harness_processes import wait_for
from tests.fleet.secure_fleet import SecureFleet, channel_of
from tests.fleet.storm import Storm, assert_samples_whole, assert_whole
from tests.fleet.test_security import assert_survives_garbage

LONG = os.environ.get("HARNESS_LONG") == "1"
long_form = pytest.mark.skipif(not LONG, reason="the long form is run by `make test-fleet`")


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    """Yield a fleet at rest."""
    made = Storm(tmp_path, seed=int(os.environ.get("HARNESS_SEED", "1")))
    yield made
    assert made.close() == []


def test_one_job_goes_through_every_fault_whole(storm: Storm) -> None:
    job_id = storm.submit(60)
    for fault in storm.faults():
        storm.wait_for_progress(job_id, 4)
        fault()
    assert_whole(storm, job_id, 60)


@long_form
@pytest.mark.timeout(3600)
def test_twenty_rounds_of_kill_9(storm: Storm) -> None:
    job_id = storm.submit(500)
    victims = [storm.kill_agent, storm.kill_engine, storm.kill_coordinator]
    for _ in range(20):
        storm.wait_for_progress(job_id, storm.chance.randrange(1, 20))
        storm.chance.choice(victims)()
    assert_whole(storm, job_id, 500)


@long_form
@pytest.mark.timeout(900)
def test_a_link_cut_for_a_minute_under_load(storm: Storm) -> None:
    job_id = storm.submit(300)
    storm.wait_for_progress(job_id, 10)
    storm.cut_link(60.0)
    assert_whole(storm, job_id, 300)


def test_a_second_agent_under_a_taken_name_waits_and_takes_no_work(own_fleet: SecureFleet) -> None:
    own_fleet.start_coordinator()
    own_fleet.log_in()
    own_fleet.join("box")
    token = own_fleet.folder / "twin-token"
    token.write_text(own_fleet.token("agent"))
    own_fleet._start(
        "twin", "agent", "run", "--coordinator", own_fleet.address, "--name", "box",
        "--state-dir", str(own_fleet.folder / "twin"), "--join-token-file", str(token),
        "--enrolment", own_fleet.enrolment,
    )  # fmt: skip
    wait_for(lambda: "belongs to another agent" in own_fleet.log("twin"), "the twin is told")
    assert own_fleet.run("agents", "--format", "json").stdout.count('"agent_id"') == 1
    assert own_fleet.processes["box"].poll() is None


def test_replayed_and_reordered_batches_are_there_once(own_fleet: SecureFleet) -> None:
    own_fleet.start_coordinator()
    agent_id, mine = own_fleet.agent_certificate()

    def batch(seq: int) -> telemetry_pb2.SampleBatch:
        return telemetry_pb2.SampleBatch(
            agent_id=agent_id, boot_id="b", clock_id="c", source_id="s", seq=seq,
            t_ns=[seq * 10, seq * 10 + 1], power_w=[1.0, 2.0],
        )  # fmt: skip

    with channel_of(own_fleet.address, mine) as channel:
        push = fleet_pb2_grpc.FleetStub(channel).PushSamples
        for order in ([1, 2, 3], [2, 3, 4], [7, 5, 6, 6], [1, 7]):
            acknowledged = {ack.seq for ack in push(iter([batch(seq) for seq in order]), timeout=20)}
            assert acknowledged
    with sqlite3.connect(own_fleet.database.removeprefix("sqlite:///")) as database:
        assert_samples_whole(lambda query: database.execute(query).fetchall())
        assert database.execute("select sum(row_count) from sample_segments").fetchone() == (14,)
        assert database.execute("select sum(n) from samples_1hz").fetchone() == (14,)


@long_form
@pytest.mark.timeout(1800)
def test_ten_thousand_malformed_messages(own_fleet: SecureFleet) -> None:
    own_fleet.start_coordinator()
    assert_survives_garbage(own_fleet, rounds=5000)

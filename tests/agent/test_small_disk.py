"""The spool on a real filesystem of one MiB, and what an agent tells of samples that it had to drop."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness_agent.spool import LaneName, Spool
from harness_agent.spool_writer import MEMORY_BYTES

from tests.agent.conftest import StartAgent, offer
from tests.agent.mini_coordinator import MiniCoordinator

BLOCK = bytes(200_000)
SAMPLES_IN_BLOCK = 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of one MiB, gone after the test."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs Linux and root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"this machine mounts no small filesystem: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def test_on_a_full_disk_every_result_is_kept_and_every_dropped_sample_is_counted(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool", "boot-1", limit_bytes=1 << 40)
    blocks = 2 * MEMORY_BYTES // len(BLOCK)
    for number in range(1, blocks + 1):
        assert spool.append(LaneName.SAMPLES, lambda _seq: BLOCK, "gpu", SAMPLES_IN_BLOCK) == number
        assert spool.append(LaneName.CONTROL, lambda seq: f"result {seq}".encode()) == number
        if number == 10:
            wait_for(lambda: spool.full_reason, "the disk to be full")
    assert "no space left" in spool.full_reason
    wait_for(lambda: spool.dropped_samples, "samples to be dropped")

    # The coordinator is there again: what it acknowledges makes room for what waits in memory.
    results: list[bytes] = []
    kept: list[int] = []
    readers = {lane: spool.reader(lane) for lane in LaneName}

    def send_and_acknowledge() -> bool:
        for lane, reader in readers.items():
            for record in reader.read():
                if lane is LaneName.CONTROL:
                    results.append(record.payload)
                else:
                    kept.append(record.seq)
                spool.acknowledge(lane, "boot-1", record.source_id, record.seq)
        return not any(spool.pending(lane) for lane in LaneName)

    wait_for(send_and_acknowledge, "everything to be acknowledged")
    assert results == [f"result {seq}".encode() for seq in range(1, blocks + 1)]
    assert kept == sorted(set(kept))
    assert len(kept) * SAMPLES_IN_BLOCK + spool.dropped_samples == blocks * SAMPLES_IN_BLOCK
    assert kept[-1] == blocks, "the newest are kept"
    assert spool.full_reason == ""
    spool.close()


def test_an_agent_starts_and_answers_on_a_disk_that_is_full_already(
    coordinator: MiniCoordinator, start_agent: StartAgent, small_disk: Path
) -> None:
    first = start_agent(coordinator, state="disk/state")
    coordinator.wait_for(lambda: coordinator.heartbeats, "a session")
    assert first.terminate() == 0
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    beats = len(coordinator.heartbeats)
    agent = start_agent(coordinator, state="disk/state")
    coordinator.wait_for(
        lambda: len(coordinator.heartbeats) > beats + 3 or agent.process.poll() is not None, "heartbeats"
    )
    coordinator.wait_for(lambda: "takes no new work until there is room" in agent.log, "the plain message")
    assert agent.process.poll() is None
    coordinator.offers.append(offer(count=6, last=True))
    os.truncate(filler, 0)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end after there was room again")
    done = [g.task_id for g in coordinator.generations() if not g.error]
    assert sorted(done) == [f"task-{n}" for n in range(6)]


def test_samples_that_are_dropped_are_told_as_an_event_and_with_each_heartbeat(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.acknowledge = False
    start_agent(coordinator, spool_limit_bytes=40_000, poll_hz=500.0)
    coordinator.wait_for(
        lambda: any(e.kind == "samples_dropped" for e in coordinator.bodies("event")), "the event", 40.0
    )
    (event,) = (e for e in coordinator.bodies("event") if e.kind == "samples_dropped")
    assert int(event.detail.split()[0]) > 0
    assert "were dropped before they could be sent" in event.detail
    coordinator.wait_for(lambda: coordinator.heartbeats[-1].dropped_samples > 0, "the count in a heartbeat")

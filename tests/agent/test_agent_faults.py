"""What an agent does when the coordinator, the link, the disk, its engine or it itself fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from harness_proto.v1 import fleet_pb2

from tests.agent.conftest import AgentProcess, StartAgent, offer, tasks
from tests.agent.mini_coordinator import MiniCoordinator
from tests.agent.tcp_proxy import TcpProxy

RELEASED = fleet_pb2.TaskUpdate.RELEASED


def descendants(agent: AgentProcess) -> list[psutil.Process]:
    return psutil.Process(agent.process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process], deadline_s: float = 10.0) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=deadline_s)
    return not alive


def test_a_coordinator_that_vanishes_for_a_while_gets_every_result_once(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=40, engine_args={"first_token_s": 0.05}, concurrency=2, last=True))
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.generations()) >= 5, "the first results")
    coordinator.stop()
    before = len(coordinator.generations())
    # The agent goes on without a coordinator: its run ends, the log says so.
    coordinator.wait_for(lambda: "is over after" in agent.log, "the run's end without a coordinator")
    assert len(coordinator.generations()) == before
    coordinator.start()
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end at the coordinator")
    ids = [g.task_id for g in coordinator.generations()]
    assert sorted(ids) == sorted(f"task-{n}" for n in range(40))
    assert len(coordinator.hellos) >= 2
    seqs = [m.seq for m in coordinator.messages]
    assert seqs == sorted(seqs), "what was told first arrives first"
    assert agent.log.count("was lost") == 1, "said once, not at each attempt"


def test_what_is_not_acknowledged_is_sent_again_with_the_same_numbers(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.acknowledge = False
    coordinator.offers.append(offer(count=3, last=True))
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    count = len(coordinator.messages)
    assert coordinator.resent == 0
    coordinator.stop()
    coordinator.acknowledge = True
    coordinator.start()
    coordinator.wait_for(lambda: coordinator.resent >= count, "everything again")
    assert len(coordinator.generations()) == 3


def test_kill_9_of_the_agent_loses_no_result_and_leaves_no_engine(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.acknowledge = False
    coordinator.offers.append(offer(count=4, engine_args={"fault": "stall", "fault_every": 4}, concurrency=1))
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.generations()) == 3, "three results")
    engine = descendants(agent)
    assert len(engine) == 2, "guard and engine"
    coordinator.wait_for(lambda: coordinator.batches, "samples")
    agent.kill()
    assert all_gone(engine)
    first_boot = coordinator.hellos[0].boot_id
    told = {m.seq for m in coordinator.messages if m.boot_id == first_boot}
    sampled = set(coordinator.batches)
    coordinator.acknowledge = True
    coordinator.resent = 0

    start_agent(coordinator)
    coordinator.wait_for(
        lambda: coordinator.resent >= len(told) + len(sampled), "the older boot's messages again"
    )
    coordinator.wait_for(lambda: len(coordinator.requests) >= 2, "the wish for work")
    older, newer = coordinator.hellos[0], coordinator.hellos[-1]
    assert newer.agent_id == older.agent_id
    assert newer.boot_id != older.boot_id
    assert newer.clock_id == older.clock_id
    assert {m.boot_id for m in coordinator.messages} >= {first_boot}


def test_the_older_boots_messages_come_before_the_wish_for_new_work(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=2, last=True))
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.requests, "the first wish")
    coordinator.stop()
    coordinator.wait_for(lambda: "is over after" in agent.log, "the run's end without a coordinator")
    agent.kill()
    coordinator.start()
    order: list[str] = []
    store, work = coordinator._store, coordinator._work

    def note_store(message: fleet_pb2.AgentMessage) -> fleet_pb2.CoordinatorMessage | None:
        order.append(f"{message.boot_id} {message.WhichOneof('body')}")
        return store(message)

    def note_work(request: fleet_pb2.WorkRequest) -> fleet_pb2.CoordinatorMessage | None:
        order.append("work_request")
        return work(request)

    coordinator._store, coordinator._work = note_store, note_work  # pyright: ignore[reportAttributeAccessIssue]
    start_agent(coordinator)
    coordinator.wait_for(lambda: "work_request" in order, "the wish for work")
    first_boot = coordinator.hellos[0].boot_id
    told = [entry for entry in order[: order.index("work_request")] if entry.startswith(first_boot)]
    assert f"{first_boot} generation" in told
    assert not [e for e in order[order.index("work_request") :] if e.startswith(first_boot)]


def test_a_half_open_connection_is_noticed_and_replaced(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    proxy = TcpProxy(coordinator.port)
    try:
        coordinator.offers.append(
            offer(count=30, engine_args={"first_token_s": 0.2}, concurrency=2, last=True)
        )
        agent = start_agent(f"127.0.0.1:{proxy.port}")
        coordinator.wait_for(coordinator.generations, "the first result")
        proxy.freeze()
        coordinator.wait_for(lambda: "nothing came for" in agent.log, "the silence to be noticed")
        proxy.thaw()
        coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
        assert sorted(g.task_id for g in coordinator.generations()) == sorted(f"task-{n}" for n in range(30))
    finally:
        proxy.close()


def test_an_engine_killed_from_outside_is_replaced_by_the_next_run(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=4, engine_args={"fault": "stall"}))
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.bodies("task_update")) == 2, "two tasks running")
    coordinator.offers.append(offer("run-2", count=4, last=True))
    engine = next(p for p in descendants(agent) if "standin_server" in " ".join(p.cmdline()[1:3]))
    engine.kill()
    coordinator.wait_for(lambda: coordinator.ended("run-2"), "the next run's end")
    assert coordinator.phases("run-1")[-1] == "FAILED"
    assert "ended by SIGKILL" in coordinator.bodies("run_update")[2].reason
    broken = [g for g in coordinator.generations() if g.run_id == "run-1"]
    assert len(broken) == 2
    assert all(g.retryable and "ended by SIGKILL" in g.error for g in broken)
    assert len([g for g in coordinator.generations() if g.run_id == "run-2" and not g.error]) == 4


def test_sigterm_stops_everything_in_order_and_quickly(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=6, engine_args={"fault": "stall"}, concurrency=2))
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.bodies("task_update")) == 2, "two tasks running")
    engine = descendants(agent)
    began_s = time.monotonic()
    assert agent.terminate() == 0
    assert time.monotonic() - began_s < 5.0
    assert all_gone(engine, 0.1)
    assert coordinator.goodbyes == ["SIGTERM"]
    assert coordinator.phases("run-1") == ["STARTED", "READY", "ENDED"]
    assert sorted(g.task_id for g in coordinator.generations()) == ["task-0", "task-1"]
    assert all("the agent was stopped" in g.error and g.retryable for g in coordinator.generations())
    released = [u.task_id for u in coordinator.bodies("task_update") if u.state == RELEASED]
    assert sorted(released) == [f"task-{n}" for n in range(2, 6)]
    assert list((agent.state_dir / "spool").iterdir()) == [], "all was acknowledged, nothing is kept"


def test_a_second_signal_ends_at_once(coordinator: MiniCoordinator, start_agent: StartAgent) -> None:
    coordinator.acknowledge = False  # so that the goodbye has something to wait for
    coordinator.offers.append(offer(count=2, last=True))
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    agent.process.send_signal(signal.SIGINT)
    coordinator.wait_for(lambda: "stopping on SIGINT" in agent.log, "the first signal to be taken")
    agent.process.send_signal(signal.SIGINT)
    assert agent.process.wait(1.0) == 130


def test_a_refusal_for_good_ends_the_agent_with_its_reason(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.refusal = fleet_pb2.Refusal(reason="this agent was removed from the fleet", retry=False)
    agent = start_agent(coordinator)
    assert agent.process.wait(20.0) == 3
    assert "refuses this agent: this agent was removed from the fleet" in agent.log.splitlines()[-1]


def test_a_refusal_for_now_is_tried_again(coordinator: MiniCoordinator, start_agent: StartAgent) -> None:
    coordinator.refusal = fleet_pb2.Refusal(reason="another live agent has this name", retry=True)
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.hellos) >= 3, "further attempts")
    assert agent.log.count("another live agent has this name") == 1
    coordinator.refusal = None
    coordinator.wait_for(lambda: coordinator.heartbeats, "a session")


def test_nobody_at_the_address_is_said_once_and_tried_for_ever(start_agent: StartAgent) -> None:
    late = MiniCoordinator()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        late.port = probe.getsockname()[1]
    agent = start_agent(f"127.0.0.1:{late.port}")
    late.wait_for(lambda: "cannot be reached" in agent.log, "the message")
    late.start()
    try:
        late.wait_for(lambda: late.heartbeats, "a session")
        assert agent.log.count("cannot be reached") == 1
        assert f"The coordinator at 127.0.0.1:{late.port} cannot be reached" in agent.log
    finally:
        late.stop()


def test_an_agent_told_to_give_up_ends_when_nobody_is_there(start_agent: StartAgent) -> None:
    agent = start_agent("127.0.0.1:9", exit_if_unreachable_s=0.5)
    assert agent.process.wait(20.0) == 3
    assert "gave up after 0.5 s" in agent.log.splitlines()[-1]


def test_a_second_agent_on_the_same_state_directory_is_refused(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    first = start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.heartbeats, "a session")
    second = start_agent(coordinator)
    assert second.process.wait(20.0) == 2
    last = second.log.splitlines()[-1]
    assert f"Another agent (process {first.process.pid}) uses the state directory" in last
    assert first.process.poll() is None


def test_heartbeats_carry_a_clock_offset_that_is_right(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    start_agent(coordinator)
    coordinator.wait_for(
        lambda: any(b.HasField("clock_offset_ns") for b in coordinator.heartbeats), "an offset"
    )
    beat = coordinator.heartbeats[-1]
    truth_ns = time.time_ns() - time.monotonic_ns()
    assert abs(beat.clock_offset_ns - truth_ns) <= beat.clock_offset_error_ns + 1_000_000
    assert beat.clock_offset_error_ns < 50_000_000


def test_a_long_outage_ends_the_idle_run_and_frees_the_model(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=2, last=False))
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    # An offer for a run that is over meanwhile is given back, not lost.
    coordinator.send(lease=fleet_pb2.LeaseOffer(run_id="run-1", tasks=tasks(2, first=7)))
    coordinator.wait_for(
        lambda: [u.task_id for u in coordinator.bodies("task_update") if u.state == RELEASED],
        "tasks given back",
    )
    assert agent.process.poll() is None


FULL = """
import os, subprocess, sys
folder = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[2:]])
"""


def can_mount() -> bool:
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(probe, capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.skipif(sys.platform != "linux" or not can_mount(), reason="a small disk needs user namespaces")
def test_a_full_disk_stops_new_work_and_nothing_else(
    coordinator: MiniCoordinator, start_agent: StartAgent, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    tasks = 150
    coordinator.offers.append(
        offer(count=tasks, engine_args={"first_token_s": 0.05}, concurrency=2, last=True)
    )
    agent = start_agent(
        coordinator, state="disk/state", wrap=["unshare", "-rm", sys.executable, "-c", FULL, str(disk)]
    )
    coordinator.wait_for(lambda: len(coordinator.generations()) >= 4, "the first results")
    inside = Path(f"/proc/{agent.process.pid}/root{disk}")
    filler = inside / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(65536))
                file.flush()
        except OSError:
            pass
    coordinator.wait_for(lambda: "takes no new work until there is room" in agent.log, "the plain message")
    assert "no space left" in agent.log
    # What was on its way still comes, late on a busy machine; then nothing more while heartbeats go on.
    came = -1
    while came != len(coordinator.generations()):
        came, beats = len(coordinator.generations()), len(coordinator.heartbeats)
        coordinator.wait_for(lambda b=beats: len(coordinator.heartbeats) > b + 2, "heartbeats on a full disk")
    assert came < tasks, "the whole job was done on a full disk"
    os.truncate(filler, 0)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end after there was room again")
    assert sorted(g.task_id for g in coordinator.generations() if not g.error) == sorted(
        f"task-{n}" for n in range(tasks)
    )
    assert "spool_full" in [event.kind for event in coordinator.bodies("event")]

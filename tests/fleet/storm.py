"""Faults for a fleet at work, and what must be true after each: nothing lost, nothing counted twice."""

from __future__ import annotations

import asyncio
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from tests.agent.tcp_proxy import TcpProxy
from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import wait_for
from tests.fleet.secure_fleet import SecureFleet
from tests.standins.powercap_tree import add_zone

HOUR_S = 3600
PLAYER = Path(__file__).parents[1] / "end_to_end" / "powercap_player.py"


class CuttableProxy(TcpProxy):
    """A link that can also be cut: connections are reset and new ones refused until it is mended."""

    def __init__(self, target_port: int) -> None:
        self._cut = threading.Event()
        super().__init__(target_port)

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._cut.set()
        self._loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in self._writers])

    def mend(self) -> None:
        """Let connections through again."""
        self._cut.clear()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut.is_set():
            writer.transport.abort()
            return
        await super()._connection(reader, writer)


class Storm:
    """A fleet with TLS, one agent behind a proxy, a counter that really counts, and a job that goes on and on."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        tree = folder / "powercap"
        add_zone(tree, "intel-rapl:0", "package-0", energy_j=100.0, limits_w=(65.0,))
        # What a start that fails has begun already must not outlive it; `close` ends what stands.
        with ExitStack() as begun:
            self._player = subprocess.Popen([sys.executable, str(PLAYER), str(tree), "10", "20"])
            begun.callback(self._player.wait)
            begun.callback(self._player.kill)
            self.shift_file = folder / "shift"
            self.shift_file.write_text("0")
            environment = {"HARNESS_POWERCAP_ROOT": str(tree), "SHIFT_FILE": str(self.shift_file)}
            compiler = os.environ.get("CC") or shutil.which("cc")
            self.can_shift = bool(compiler) and sys.platform == "linux"
            if self.can_shift:
                library = folder / "shifted_clock.so"
                source = Path(__file__).with_name("shifted_clock.c")
                subprocess.run(
                    [str(compiler), "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True
                )
                environment["LD_PRELOAD"] = str(library)
            self.fleet = SecureFleet(folder, environment)
            begun.callback(self.fleet.stop)
            self.fleet.start_coordinator()
            self.fleet.log_in()
            self.proxy = CuttableProxy(int(self.fleet.address.rpartition(":")[2]))
            begun.callback(self.proxy.close)
            self.fleet.join("box", "--coordinator", f"127.0.0.1:{self.proxy.port}")
            begun.pop_all()

    def close(self) -> list[str]:
        """Stop everything; return what outlived it."""
        self._player.kill()
        self._player.wait()
        self.proxy.close()
        return self.fleet.stop()

    def submit(self, queries: int) -> str:
        """Submit a measured job of short queries with attempts enough for every fault."""
        engine = {"tokens": 4, "token_s": 0.02, "burn": True}
        models = [{"id": "stand-in", "engine": "stub", "device": "cpu", "engine_args": engine}]
        job = write_job(
            self.folder, queries=queries, energy="measured", models=models, max_attempts=20, warmup=1
        )
        return self.fleet.submit(job)

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the coordinator's database."""
        with sqlite3.connect(self.fleet.database.removeprefix("sqlite:///"), timeout=30) as database:
            return database.execute(query, values).fetchall()

    def done(self, job_id: str) -> int:
        """Return how many tasks are done."""
        return self.sql("select count(*) from tasks where job_id = ? and state = 'done'", job_id)[0][0]

    def wait_for_progress(self, job_id: str, more: int) -> None:
        """Wait until some more tasks are done, or all."""
        (total,) = self.sql("select count(*) from tasks where job_id = ?", job_id)[0]
        goal = min(total, self.done(job_id) + more)
        wait_for(lambda: self.done(job_id) >= goal, f"{goal} tasks are done", 180.0)

    def wait_for_heartbeat(self) -> None:
        """Wait until the agent has a session: what is not connected cannot notice a silence."""
        seen = self.sql("select last_seen_realtime_ns from agents")
        wait_for(lambda: self.sql("select last_seen_realtime_ns from agents") != seen, "the agent is heard")

    # The faults -------------------------------------------------------------------------------------

    def kill_agent(self) -> None:
        """Kill -9 the agent and start it again."""
        self.fleet.kill("box")
        self.fleet.start_agent("box", "--coordinator", f"127.0.0.1:{self.proxy.port}")

    def kill_engine(self) -> None:
        """Kill -9 the engine; the agent has to notice."""
        agent = psutil.Process(self.fleet.processes["box"].pid)
        engines = [
            p for p in agent.children(recursive=True) if "standin_server" in " ".join(p.cmdline()[1:3])
        ]
        for engine in engines:
            engine.kill()

    def kill_coordinator(self) -> None:
        """Kill -9 the coordinator and start it again where it was."""
        self.fleet.kill("coordinator")
        self.fleet.start_coordinator(self.fleet.address)

    def cut_link(self, for_s: float = 2.0) -> None:
        """Cut the link for a while."""
        self.proxy.cut()
        threading.Event().wait(for_s)
        self.proxy.mend()

    def half_open(self) -> None:
        """Let the link swallow everything until the agent has noticed."""
        self.wait_for_heartbeat()
        told = self.fleet.log("box").count("nothing came for")
        self.proxy.freeze()
        wait_for(lambda: self.fleet.log("box").count("nothing came for") > told, "the silence is noticed")
        self.proxy.thaw()

    def step_clocks(self) -> None:
        """Set the wall clocks of agent and coordinator ahead by an hour."""
        if not self.can_shift:
            return
        shift_s = int(self.shift_file.read_text()) + HOUR_S
        draft = self.shift_file.with_suffix(".new")
        draft.write_text(str(shift_s))
        draft.replace(self.shift_file)
        steps = self.sql("select count(*) from events where kind = 'clock_step'")[0][0]
        wait_for(
            lambda: self.sql("select count(*) from events where kind = 'clock_step'")[0][0] > steps,
            "the step is recorded as an event",
        )

    def faults(self) -> list[Callable[[], None]]:
        """Return every fault once."""
        return [
            self.kill_engine,
            self.kill_agent,
            self.kill_coordinator,
            self.cut_link,
            self.half_open,
            self.step_clocks,
        ]


def assert_whole(storm: Storm, job_id: str, tasks: int) -> None:
    """Check what must hold after any fault: one counted result a task, samples whole, joules conserved."""
    detail = storm.fleet.wait_until_over(job_id, 300.0)
    assert detail["summary"]["state"] == "done", detail["failures"]
    counted = storm.sql(
        "select t.task_id, count(g.task_id) from tasks t left join generations g"
        " on g.task_id = t.task_id and g.counted where t.job_id = ? group by t.task_id",
        job_id,
    )
    assert len(counted) == tasks
    assert {n for _, n in counted} == {1}, "a task without exactly one counted result"
    rows, totals = rows_and_totals(storm, job_id)
    assert len(rows) == tasks
    assert not [r for r in rows if r["error"]]
    attributed = sum(t["attributed_joules"] for t in totals)
    unattributed = sum(t["unattributed_joules"] for t in totals)
    assert math.isclose(attributed + unattributed, sum(t["device_joules"] for t in totals), rel_tol=1e-9)
    assert math.isclose(sum(r["joules"] for r in rows), attributed, rel_tol=1e-9)
    assert_samples_whole(storm.sql)


def rows_and_totals(storm: Storm, job_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the joules of queries and of devices from one moment: a spool that is replayed changes both."""
    while True:
        before = storm.fleet.job(job_id)["totals"]
        rows = storm.fleet.results_with_joules(job_id)
        if storm.fleet.job(job_id)["totals"] == before:
            return rows, before


def assert_samples_whole(sql: Callable[..., list[tuple[Any, ...]]]) -> None:
    """Check that the batches of every process and source are there without a gap and none twice."""
    ranges = sql(
        "select agent_id, boot_id, source_id, seq_first, seq_last from sample_segments"
        " order by agent_id, boot_id, source_id, seq_first"
    )
    assert ranges, "no samples at all"
    reached: dict[tuple[str, ...], int] = {}
    for *key, first, last in ranges:
        before = reached.get(tuple(key), 0)
        assert first == before + 1, f"batches {before + 1}..{first - 1} of {key} are missing or doubled"
        reached[tuple(key)] = last

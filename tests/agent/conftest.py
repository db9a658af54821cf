"""A coordinator for agents to talk to, and agents as real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness_proto.v1 import fleet_pb2, work_pb2

from tests.agent.mini_coordinator import MiniCoordinator

AGENT = """
import json, logging, sys
from pathlib import Path
from harness_agent.daemon import AgentConfig, AgentError, run_agent
logging.basicConfig(level=logging.INFO)
given = json.loads(sys.argv[1])
given["state_dir"] = Path(given["state_dir"])
given["providers"] = tuple(given["providers"])
try:
    sys.exit(run_agent(AgentConfig(**given)))
except AgentError as error:
    sys.stderr.write(f"{error}\\n")
    sys.exit(2)
"""


class AgentProcess:
    """One agent process and its log."""

    def __init__(
        self, coordinator: str, state_dir: Path, log_path: Path, wrap: Sequence[str] = (), **settings: Any
    ) -> None:
        self.state_dir = state_dir
        self.log_path = log_path
        given = {
            "coordinator": coordinator,
            "state_dir": str(state_dir),
            "name": "agent-under-test",
            "providers": ["estimate"],
            **settings,
        }
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*(wrap or [sys.executable, "-c"]), AGENT, json.dumps(given)],
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def terminate(self, timeout_s: float = 20.0) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.wait(10.0)


StartAgent = Callable[..., AgentProcess]


@pytest.fixture
def coordinator() -> Iterator[MiniCoordinator]:
    """A coordinator that listens on loopback."""
    mini = MiniCoordinator()
    mini.start()
    yield mini
    mini.stop()


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Starts agent processes and ends those that are left."""
    started: list[AgentProcess] = []

    def start(coordinator: MiniCoordinator | str, state: str = "state", **settings: Any) -> AgentProcess:
        address = coordinator if isinstance(coordinator, str) else f"127.0.0.1:{coordinator.port}"
        log_path = tmp_path / f"agent-{len(started)}.log"
        agent = AgentProcess(address, tmp_path / state, log_path, **settings)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.kill()
        sys.stdout.write(f"--- {agent.log_path.name}\n{agent.log}\n")


def tasks(count: int, first: int = 0) -> list[work_pb2.Task]:
    """Return tasks named task-N."""
    return [
        work_pb2.Task(
            task_id=f"task-{n}", attempt=1, query=work_pb2.Query(query_id=f"query-{n}", text=f"question {n}")
        )
        for n in range(first, first + count)
    ]


def offer(
    run_id: str = "run-1",
    count: int = 4,
    engine: str = "stub",
    source: str = "none",
    engine_args: dict[str, object] | str | None = None,
    concurrency: int = 2,
    warmup: int = 0,
    baseline_s: float = 0.0,
    energy: str = "estimated-ok",
    last: bool = False,
    query_timeout_s: float = 20.0,
) -> fleet_pb2.LeaseOffer:
    """Return the first lease of a run."""
    arguments = engine_args if isinstance(engine_args, str) else json.dumps(engine_args or {})
    settings = work_pb2.RunSettings(
        job_id="job-1",
        model=work_pb2.ModelSpec(id="model-1", engine=engine, source=source, engine_args_json=arguments),
        sampling=work_pb2.SamplingSettings(temperature=0.0, top_p=1.0, max_output_tokens=16),
        concurrency=concurrency,
        query_timeout_s=query_timeout_s,
        load_timeout_s=20.0,
        energy=energy,
        baseline_s=baseline_s,
        warmup=[work_pb2.Query(query_id=f"warm-{n}", text="warm up") for n in range(warmup)],
    )
    return fleet_pb2.LeaseOffer(run_id=run_id, settings=settings, tasks=tasks(count), last=last)

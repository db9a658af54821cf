"""Evaluation: exact-match verdicts a second through `harness evaluate`'s own path, beside the bare function.

The job lies in a SQLite file with durable commits. The path is the command's: answers out of the store, judged,
verdicts checked against the attempts that count and stored. Beside it stands the function alone on the same texts.

    python -m benchmarks.evaluation [--answers N] [--repeat N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from click.testing import CliRunner
from harness_cli.evaluate import evaluate
from harness_store import jobs, runs
from harness_store.database import open_store
from harness_store.datasets import QueryRow
from harness_store.verdicts.exact_match import exact_match

from benchmarks.machine import machine, markdown_table
from benchmarks.store import _run_tasks, fleet_agent

ANSWER = (
    "First we add the two numbers that the question gives us, and then we check the sum. The answer is {}."
)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'harness.db'}"
        job_id = make_job(url, chosen.answers)
        # The first call imports what the command needs; it is no part of the rate.
        time_command(url, job_id, chosen.answers)
        path_s = [time_command(url, job_id, chosen.answers) for _ in range(chosen.repeat)]
    texts = [(ANSWER.format(i + 1), str(i + 1)) for i in range(chosen.answers)]
    bare_s = []
    for _ in range(chosen.repeat):
        start = time.perf_counter()
        right = sum(exact_match(response, reference) is True for response, reference in texts)
        bare_s.append(time.perf_counter() - start)
        assert right == chosen.answers
    path, bare = statistics.median(path_s), statistics.median(bare_s)
    print(f"On {machine()}, {chosen.answers:,} answers, median of {chosen.repeat}:\n")
    rows = [
        ("`harness evaluate --method exact_match`, store included", f"{chosen.answers / path:,.0f}"),
        ("the function alone", f"{chosen.answers / bare:,.0f}"),
        ("share of the function's speed", f"{bare / path:.0%}"),
    ]
    print(markdown_table(("what", "evaluations a second"), rows))


def make_job(url: str, answers: int) -> str:
    """Store a job whose every task has an answer that counts."""
    store = open_store(url)
    with store.begin() as c:
        fleet_agent(c)
        rows = [QueryRow(f"q{i}", i, f"What is {i} + 1?", reference=str(i + 1)) for i in range(answers)]
        model = jobs.NewModel("m0", "stub", "", '{"id": "m0"}')
        job = jobs.NewJob("bench", "bench", "{}", [model], time.time_ns(), energy="off")
        job_id = jobs.insert_job(c, job, rows).job_id
        runs.insert_run(
            c, run_id="r1", job_id=job_id, model_id="m0", hardware_index=0, agent_id="a1", boot_id="b1",
            device_ids=["gpu-0"], created_realtime_ns=time.time_ns(),
        )  # fmt: skip
    _run_tasks(store, job_id, answers, alone=False)
    with store.begin() as c:
        # Answers of a usual length, each with its own number.
        c.exec_driver_sql(
            "UPDATE generations SET response = ? || (CAST(substr(query_id, 2) AS INTEGER) + 1) || '.'",
            (ANSWER.partition("{}")[0],),
        )
    store.close()
    return job_id


def time_command(url: str, job_id: str, answers: int) -> float:
    """Run the command in this process, without the interpreter's start, and return its seconds."""
    arguments = [job_id, "--method", "exact_match", "--db", url, "--format", "json"]
    start = time.perf_counter()
    done = CliRunner().invoke(evaluate, arguments)
    seconds = time.perf_counter() - start
    assert done.exit_code == 0, done.output
    assert f'"right": {answers}' in done.output
    return seconds


if __name__ == "__main__":
    main()

"""Commands in surroundings that nobody prepared: no home, no terminal, a full disk, a wrong --db."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from harness_cli.failure import EXIT_BAD_INPUT, EXIT_UNREACHABLE, EXIT_WORK_FAILED
from harness_cli.main import harness
from harness_cli.unforeseen import explain_unforeseen
from harness_store.database import open_store
from sqlalchemy.exc import OperationalError

HARNESS = [sys.executable, "-m", "harness_cli.main"]
AS_NOBODY = "import os; os.setresuid(54321, 0, 0); from harness_cli.main import main; main()"
"""The command as a user whom the machine does not know, as in containers; the files stay readable."""


def call(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(harness, arguments, input=given)


@pytest.mark.parametrize(
    "command",
    [
        ("token", "list"),
        ("token", "revoke", "box-1"),
        ("agents", "drain", "box-1"),
        ("agents", "remove", "box-1"),
        ("db", "prune", "--older-than", "1d"),
        ("db", "export", "-o", "exported"),
        ("db", "check"),
    ],
)
def test_a_database_named_wrongly_is_not_made(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*command, "--db", "sqlite:///typo.db")
    assert done.exit_code == EXIT_UNREACHABLE
    assert "typo.db: there is no such database file" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    ("command", "code", "way_out"),
    [
        (("jobs",), EXIT_BAD_INPUT, "HARNESS_TLS_DIR"),
        (("coordinator", "run"), EXIT_BAD_INPUT, "--state-dir"),
        (("agent", "run"), EXIT_BAD_INPUT, "--state-dir"),
        (("token", "list"), EXIT_BAD_INPUT, "--state-dir"),
        (("login",), EXIT_BAD_INPUT, "--name"),
        (("models",), 0, ""),
    ],
)
def test_a_user_without_home_and_name(command: tuple[str, ...], code: int, way_out: str) -> None:
    known = {"HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "USER", "LOGNAME", "LNAME", "USERNAME"}
    environment = {k: v for k, v in os.environ.items() if k not in known and not k.startswith("HARNESS_")}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *command], env=environment,
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert way_out in done.stderr
    assert len(done.stderr.splitlines()) == (1 if code else 0), done.stderr


@pytest.mark.parametrize("given", ["", "\n"])
def test_login_without_a_terminal_says_that_no_token_came(given: str) -> None:
    done = call("login", "--coordinator", "127.0.0.1:9", given=given)
    assert done.exit_code == EXIT_BAD_INPUT
    assert "--token-file" in done.stderr


def test_login_reads_the_token_from_a_pipe() -> None:
    done = call("login", "--coordinator", "127.0.0.1:9", given="half-a-token\n")
    assert "join token is not whole" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("agent", "sample", "--seconds"),
        ("agent", "sample", "--seconds", "1", "--hz"),
        ("agent", "run", "--hz"),
        ("coordinator", "run", "--lease-s"),
        ("evaluate", "x", "--budget"),
        ("route", "evaluate", "x.parquet", "--learning-rate"),
        ("dataset", "clean", "x", "--cosine"),
        ("integrate", "samples.csv", "--alpha"),
    ],
)
@pytest.mark.parametrize("value", ["nan", "inf", "1e400"])
def test_a_limit_that_is_no_number_is_refused(command: tuple[str, ...], value: str) -> None:
    done = call(*command, value)
    assert done.exit_code == EXIT_BAD_INPUT
    assert command[-1] in done.stderr


def test_a_number_of_jobs_that_no_field_holds(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'harness.db'}"
    open_store(url).close()
    assert call("jobs", "--db", url, "--limit", "2147483647").exit_code == 0
    for limit in ("99999999999999999999", "0", "-1"):
        done = call("jobs", "--db", url, "--limit", limit)
        assert done.exit_code == EXIT_BAD_INPUT
        assert "--limit" in done.stderr


def test_a_reader_that_leaves_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*HARNESS, "models", "--format", "csv"],
        check=False,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_full_disk_below_standard_output() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*HARNESS, "models", "--format", "csv"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert done.returncode == EXIT_WORK_FAILED
    assert done.stderr.decode().startswith("No space left on device")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "f.csv/x"),
            EXIT_BAD_INPUT,
            "f.csv/x: cannot be used",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "x.csv"), EXIT_WORK_FAILED, "x.csv: No space left"),
        (
            OperationalError("select 1", {}, sqlite3.OperationalError("database is locked")),
            EXIT_UNREACHABLE,
            "locked by another program",
        ),
        (MemoryError(), EXIT_WORK_FAILED, "not enough memory"),
    ],
)
def test_what_no_command_foresaw_is_one_sentence(error: Exception, code: int, said: str) -> None:
    failure = explain_unforeseen(error)
    assert failure is not None
    assert (failure.exit_code, said in failure.message) == (code, True)
    assert "\n" not in failure.message


def test_a_defect_stays_a_defect() -> None:
    assert explain_unforeseen(KeyError("x")) is None


@pytest.mark.parametrize(
    "command",
    [
        ("judges", "export", "x"),
        ("dataset", "export", "x"),
        ("results", "x"),
        ("samples", "x"),
        ("report", "x.parquet"),
        ("route", "fit", "x.parquet"),
        ("route", "evaluate", "x.parquet"),
        ("agent", "sample", "--seconds", "1"),
    ],
)
def test_a_pipe_in_the_place_of_a_file_is_not_replaced(command: tuple[str, ...], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    for output, said in ((str(pipe), "is a device or a pipe"), ("", "the name is empty")):
        done = call(*command, "-o", output)
        assert (done.exit_code, said in done.stderr) == (EXIT_BAD_INPUT, True)
    assert pipe.is_fifo()

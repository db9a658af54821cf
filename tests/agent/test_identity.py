from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from harness_agent.errors import StateDirError
from harness_agent.host_facts import host_info
from harness_agent.identity import KEPT_RUNS, StateDir, host_clock_id


def test_the_agent_id_outlives_the_process_and_the_boot_id_does_not(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "deep" / "state")
    first = state.identity()
    state.close()
    state = StateDir(tmp_path / "deep" / "state")
    second = state.identity()
    state.close()
    assert first.agent_id == second.agent_id
    assert first.boot_id != second.boot_id
    assert first.clock_id == second.clock_id == host_clock_id() != ""


def test_answers_in_the_state_directory_are_nobody_elses_business(tmp_path: Path) -> None:
    StateDir(tmp_path / "state").close()
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


def test_one_state_directory_serves_one_agent(tmp_path: Path) -> None:
    held = StateDir(tmp_path)
    with pytest.raises(
        StateDirError, match=f"Another agent \\(process {os.getpid()}\\) uses the state directory"
    ):
        StateDir(tmp_path)
    held.close()
    StateDir(tmp_path).close()


def test_a_damaged_id_is_not_replaced_by_a_new_one_silently(tmp_path: Path) -> None:
    (tmp_path / "agent-id").write_text("half an i")
    state = StateDir(tmp_path)
    with pytest.raises(StateDirError, match="holds no agent id; put the file back, or remove it"):
        state.identity()
    state.close()


def test_a_state_directory_that_is_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(
        StateDirError, match=r"state directory .* cannot be used: .*; name another with --state-dir"
    ):
        StateDir(path)


def test_only_the_newest_run_directories_are_kept(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    for number in range(KEPT_RUNS + 5):
        folder = state.run_dir(f"run-{number}")
        os.utime(folder, (time.time() + number - 1000, time.time() + number - 1000))
    left = {path.name for path in (tmp_path / "runs").iterdir()}
    assert f"run-{KEPT_RUNS + 4}" in left
    assert "run-0" not in left
    assert len(left) <= KEPT_RUNS + 1
    assert state.run_dir("../../evil/run").parent == tmp_path / "runs"
    state.close()


def test_the_host_is_described(tmp_path: Path) -> None:
    info = host_info()
    assert info.hostname
    assert info.cpu_count >= 1
    assert info.memory_total_bytes > 1 << 28
    assert info.python_version.startswith("3.")

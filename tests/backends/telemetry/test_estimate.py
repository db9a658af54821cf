from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from harness_backends.telemetry.cpu_power_table import BadWattsError, watts_per_core
from harness_backends.telemetry.estimate import EstimateProvider, EstimateSource
from harness_backends.telemetry.host import HostSource
from harness_backends.telemetry.process_tree import ProcessTree

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
WAIT = "import sys; sys.stdin.read()\n"


def _python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def _wait_for(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "condition not met before the deadline"
        time.sleep(0.01)


def test_cpu_time_of_a_tracked_process_is_counted_and_other_time_is_not(
    processes: list[subprocess.Popen[str]],
) -> None:
    processes.append(_python(BURN.format(seconds=0.4) + WAIT))
    tree = ProcessTree()
    tree.track([processes[0].pid])
    _wait_for(lambda: tree.cpu_time_s() > 0.39)
    settled = tree.cpu_time_s()
    sum(i * i for i in range(300_000))
    assert settled <= tree.cpu_time_s() < settled + 0.05
    assert 0.39 < settled < 0.6


def test_time_before_tracking_is_not_counted(processes: list[subprocess.Popen[str]]) -> None:
    processes.append(_python(BURN.format(seconds=0.4) + "print('done', flush=True)\n" + WAIT))
    assert processes[0].stdout is not None
    processes[0].stdout.readline()
    tree = ProcessTree()
    tree.track([processes[0].pid])
    assert tree.cpu_time_s() < 0.05


def test_children_that_have_exited_stay_counted(processes: list[subprocess.Popen[str]]) -> None:
    child = f"subprocess.run([sys.executable, '-S', '-c', {BURN.format(seconds=0.2)!r}])\n"
    processes.append(
        _python(
            "import subprocess, sys\nsys.stdin.readline()\n"
            + child * 2
            + "print('done', flush=True)\n"
            + WAIT
        )
    )
    tree = ProcessTree(rescan_s=0.02)
    tree.track([processes[0].pid])
    assert processes[0].stdin is not None
    processes[0].stdin.write("go\n")
    processes[0].stdin.flush()
    seen = [0.0]

    def grown() -> bool:
        seen.append(tree.cpu_time_s())
        return seen[-1] > 0.39

    _wait_for(grown)
    assert seen == sorted(seen)
    assert processes[0].stdout is not None
    processes[0].stdout.readline()
    assert 0.39 < tree.cpu_time_s() < 0.7


@pytest.mark.parametrize("waits", [True, False], ids=["reaped", "not-reaped"])
def test_the_root_that_exits_keeps_its_joules(processes: list[subprocess.Popen[str]], waits: bool) -> None:
    processes.append(_python("import sys\nsys.stdin.readline()\n" + BURN.format(seconds=0.3)))
    tree = ProcessTree(rescan_s=0.02)
    tree.track([processes[0].pid])
    assert processes[0].stdin is not None
    processes[0].stdin.write("go\n")
    processes[0].stdin.flush()
    _wait_for(lambda: tree.cpu_time_s() > 0.28)
    if waits:
        processes[0].wait()
    before = tree.cpu_time_s()
    processes[0].wait()
    tree.track([])
    assert before <= tree.cpu_time_s() < before + 0.1


def test_orphans_of_a_dead_parent_are_followed(processes: list[subprocess.Popen[str]]) -> None:
    orphan = "import os\npid = os.fork()\n" + "if pid: print(pid, flush=True); import sys; sys.stdin.read()\n"
    processes.append(
        _python(
            orphan + "else:\n  " + BURN.format(seconds=0.5).replace("\n", "\n  ") + "\n  time.sleep(30)\n"
        )
    )
    tree = ProcessTree(rescan_s=0.02)
    tree.track([processes[0].pid])
    assert processes[0].stdout is not None
    pid = int(processes[0].stdout.readline())
    tree.track([processes[0].pid])
    _wait_for(lambda: tree.cpu_time_s() > 0.02)
    processes[0].kill()
    processes[0].wait()
    try:
        _wait_for(lambda: tree.cpu_time_s() > 0.45)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert tree.cpu_time_s() < 0.9


def test_estimate_says_that_it_is_one_and_where_its_watts_come_from(
    processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_WATTS_PER_CORE", "10")
    sources, findings = EstimateProvider().discover()
    source = sources[0]
    assert isinstance(source, EstimateSource)
    assert source.info.energy_source == "estimated"
    assert source.info.facts["watts_per_core_origin"] == "given by HARNESS_WATTS_PER_CORE"
    assert "Estimated, not measured" in findings[0].detail
    nothing_runs = source.read()
    assert nothing_runs is not None
    assert nothing_runs.energy_j == 0.0
    processes.append(_python(BURN.format(seconds=0.3) + WAIT))
    source.track([processes[0].pid])

    def joules() -> float:
        reading = source.read()
        return reading.energy_j if reading else 0.0

    _wait_for(lambda: joules() > 2.9)
    assert joules() < 4.5


def test_watts_come_from_the_table_the_flag_or_a_named_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_WATTS_PER_CORE", raising=False)
    genoa = watts_per_core("AMD EPYC 9654 96-Core Processor")
    assert genoa.watts_per_core == pytest.approx(360 / 192)
    assert "AMD EPYC 9654" in genoa.origin
    assert watts_per_core("Quantum 9000").origin == "default: no table entry for 'Quantum 9000'"
    assert watts_per_core("AMD EPYC 9654", given=2.5).origin == "given by flag"


@pytest.mark.parametrize("text", ["lots", "-3", "0", "nan"])
def test_watts_that_are_no_positive_number_make_the_source_unavailable(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_WATTS_PER_CORE", text)
    with pytest.raises(BadWattsError, match=f"HARNESS_WATTS_PER_CORE is '{text}'"):
        watts_per_core("any")
    sources, findings = EstimateProvider().discover()
    assert sources == []
    assert text in findings[0].detail


def test_host_reports_memory_only_of_what_it_tracks(processes: list[subprocess.Popen[str]]) -> None:
    source = HostSource()
    assert source.read().memory_used_bytes != source.read().memory_used_bytes
    processes.append(_python("data = bytearray(64 << 20)\nprint('done', flush=True)\n" + WAIT))
    assert processes[0].stdout is not None
    processes[0].stdout.readline()
    source.track([processes[0].pid])
    reading = source.read()
    assert 64 << 20 < reading.memory_used_bytes < 200 << 20
    assert 0 <= reading.utilisation <= 1

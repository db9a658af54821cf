"""Code of models against tests: what passes, what is stopped, what cheats."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from harness_analysis.evaluation import sandbox
from harness_analysis.evaluation.sandbox import Limits, code_of, run_code, sandbox_report


def test_the_last_python_block_is_the_code() -> None:
    answer = "First:\n```python\nx = 1\n```\nBetter:\n```python\nx = 2\n```\nDone."
    assert code_of(answer) == "x = 2\n"
    assert code_of("def f(): pass") == "def f(): pass"


def test_right_code_passes_and_wrong_code_fails() -> None:
    tests = "assert add(2, 3) == 5"
    assert run_code("```python\nimport math\ndef add(a, b):\n    return a + b\n```", tests).passed
    wrong = run_code("def add(a, b):\n    return a - b", tests)
    assert (wrong.passed, wrong.reason) == (False, "AssertionError")
    assert "SyntaxError" in run_code("def add(a, b) return", tests).reason


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nsys.exit(0)", "ended before the tests did"),
        ("import os\nos._exit(0)", "ended before the tests did"),
        ("x = bytearray(8 << 30)", "MemoryError"),
        ("open('big', 'wb').write(b'0' * (4 << 20))", "File too large"),
        ("import os\nos.fork()", "Resource temporarily unavailable"),
        ("import os\nassert not os.environ.get('PATH'), 'environment'\nraise KeyError('empty')", "empty"),
        ("import os\nassert os.listdir('.')", "AssertionError"),
    ],
)
def test_limits_hold(code: str, said: str) -> None:
    outcome = run_code(code, "assert True")
    assert not outcome.passed
    assert said in outcome.reason


def test_an_endless_loop_is_stopped_by_cpu_time_and_a_sleeper_by_the_clock() -> None:
    assert "CPU time" in run_code("while True: pass", "", Limits(cpu_s=1)).reason
    assert "stopped after" in run_code("import time\ntime.sleep(60)", "", Limits(wall_s=-4.5)).reason


def test_nothing_of_a_model_runs_as_root_or_sees_the_network() -> None:
    if os.geteuid() == 0:
        assert run_code("import os", "assert os.getuid() != 0").passed
    if sandbox_report().network:
        pytest.skip(sandbox_report().sentence)
    code = "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)"
    assert "Network is unreachable" in run_code(code, "").reason


SCRIPT = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from harness_analysis.evaluation.sandbox import Limits, run_code, sandbox_report
tried = {
    "right": "x = 1",
    "memory": "x = bytearray(8 << 30)",
    "file": "open('big', 'wb').write(b'0' * (4 << 20))",
    "fork": "import os\\nos.fork()",
    "thread": "import threading\\nthreading.Thread(target=print).start()",
}
said = {name: run_code(code, "assert x == 1").reason for name, code in tried.items()}
asked = run_code("import os", f"assert os.getuid() == {os.getuid()}")
print(json.dumps({**said, "uid": asked.reason, "network": sandbox_report().network}))
"""


@pytest.mark.parametrize("with_unshare", [True, False])
@pytest.mark.parametrize("user", [None, 61_000])
def test_limits_hold_for_a_user_without_rights_and_where_unshare_is_missing(
    with_unshare: bool, user: int | None, request: pytest.FixtureRequest
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None or not Path("/usr/bin/python3").exists():
        pytest.skip("needs setpriv and the system's python3")
    # Below a folder that the other user may read, which the tests' own is not.
    folder = Path(tempfile.mkdtemp(prefix="harness-sandbox-test-"))
    request.addfinalizer(lambda: shutil.rmtree(folder))
    package = folder / "harness_analysis" / "evaluation"
    package.mkdir(parents=True)
    room = Path(sandbox.__file__).parent
    for file in (room / "sandbox.py", room / "sandbox_child.py"):
        shutil.copy(file, package)
    shutil.copy(room.parent / "errors.py", package.parent)
    folder.chmod(0o755)
    become = (
        [shutil.which("setpriv") or "", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        if user
        else []
    )
    environment = {"PATH": "/usr/bin:/bin" if with_unshare else str(folder), "LANG": "C.UTF-8"}
    ran = subprocess.run(
        [*become, "/usr/bin/python3", "-c", SCRIPT, str(folder)],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["right"] == ""
    assert "MemoryError" in said["memory"]
    assert "File too large" in said["file"]
    assert "Resource temporarily unavailable" in said["fork"]
    assert "can't start new thread" in said["thread"]
    assert (said["uid"] == "") == (user is not None), (
        "root's rights are given up, another user stays who it is"
    )
    assert said["network"] or with_unshare


def test_limits_that_do_not_hold_refuse_the_method(tmp_path: Path) -> None:
    """A system that accepts limits and does not keep them: an interpreter in which setting them does nothing."""
    if not Path("/usr/bin/python3").exists():
        pytest.skip("needs the system's python3")
    careless = tmp_path / "python3"
    careless.write_text(
        "#!/bin/sh\nshift 3\nexec /usr/bin/python3 -I -S -c "
        "'import resource, sys; resource.setrlimit = lambda *_: None; exec(sys.argv[1])' \"$1\"\n"
    )
    careless.chmod(0o755)
    tried = sandbox._run(
        sandbox._PROBE[0], sandbox._PROBE[1].format(memory_bytes=1 << 20), Limits(), (str(careless),)
    )
    assert (tried.passed, tried.reason) == (False, "memory is not limited")

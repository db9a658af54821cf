"""Code of models against tests: what passes, what is stopped, what cheats."""

from __future__ import annotations

import os

import pytest
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

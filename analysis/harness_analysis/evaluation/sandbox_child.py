"""Runs inside the sandbox: takes limits, code and tests from standard input, limits itself, runs them.

Started as a file with `python -I -S`; imports nothing of this project. It writes the token it was given only when the
tests came to their end, so that `exit(0)` before them passes nothing.
"""

from __future__ import annotations

import json
import os
import resource
import sys


def _limit(limits: dict[str, int]) -> None:
    for name, value in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, limits["processes"]),
    ):
        resource.setrlimit(name, (value, value))
    if os.geteuid() == 0:
        # The limit on processes does not hold for root, and nothing that a model wrote runs as root.
        os.setgroups([])
        os.setgid(limits["uid"])
        os.setuid(limits["uid"])


def main() -> None:
    """Run code and tests in one namespace, as a file of both would."""
    task = json.loads(sys.stdin.buffer.read())
    token = task.pop("token")
    _limit(task["limits"])
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(task["code"], "answer.py", "exec"), namespace)  # noqa: S102 - what the sandbox is for
    exec(compile(task["tests"], "tests.py", "exec"), namespace)  # noqa: S102
    os.write(1, b"\n" + token.encode())


main()

"""The stand-in engine as a judge's endpoint: a real process on loopback, with scripted replies and faults."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness_backends.engines.stub import SERVER


def pairwise(verdict: str) -> str:
    """Return a judge's reply."""
    return json.dumps({"kind": "subjective", "explanation": "so", "verdict": verdict})


@contextmanager
def standin_judge(**settings: Any) -> Iterator[str]:
    """Start the stand-in and yield its base URL."""
    command = [sys.executable, str(SERVER), json.dumps({"first_token_s": 0.0, **settings})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().split()[-1]}/v1"
        finally:
            process.kill()

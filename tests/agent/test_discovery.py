"""Who shares a device with the engine, as far as the driver tells."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from harness_agent.discovery import strangers
from harness_agent.learning import LearnedSource
from harness_backends.telemetry.source import Reading, SourceInfo


@dataclass
class Listing:
    """A source whose driver lists processes, in the tests' hands."""

    source_id: str
    pids: list[int]
    info: SourceInfo = field(init=False)

    def __post_init__(self) -> None:
        self.info = SourceInfo(self.source_id, "nvidia", "GPU-1", "H200", "gpu", "counter", has_energy=True)

    def process_ids(self) -> list[int]:
        return self.pids

    def read(self) -> Reading | None:
        return None

    def close(self) -> None:
        pass


@pytest.fixture
def child() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


def test_a_process_that_is_not_the_engines_is_a_stranger_and_the_engines_children_are_not(child: int) -> None:
    engine = os.getpid()
    source = Listing("g", [engine, child, 1])
    assert strangers([source], ["g"], [engine]) == [1]
    learned = LearnedSource(source, source.info, drop_energy=False)
    assert strangers([learned], ["g"], [engine]) == [1]


def test_only_the_runs_own_devices_count() -> None:
    engine = os.getpid()
    assert strangers([Listing("g", [engine]), Listing("other", [engine, 1])], ["g"], [engine]) == []


def test_process_numbers_of_another_namespace_tell_nothing() -> None:
    assert strangers([Listing("g", [1, 2])], ["g"], [os.getpid()]) == []

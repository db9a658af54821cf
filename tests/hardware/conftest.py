"""Checks against the real devices of this machine: `make test-hardware`; skipped everywhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness_agent.learning import discover_learned
from harness_backends.telemetry.source import Source

from tests.hardware.report import Report

DEVICES = ("nvidia", "amd", "apple", "rapl")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip unless the marker was asked for: an ordinary test run must not depend on the machine's devices."""
    if "hardware" in str(config.getoption("-m")):
        return
    skip = pytest.mark.skip(reason="needs a real device: make test-hardware")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """Collect what was seen; it is printed at the end, and written to the file HARNESS_HARDWARE_REPORT names."""
    seen = Report()
    yield seen
    seen.write(os.environ.get("HARNESS_HARDWARE_REPORT", ""))


@pytest.fixture
def sources(report: Report) -> Iterator[list[Source]]:
    """Open the measured sources of this machine, learned, or skip with the reasons why there are none."""
    if "HARNESS_STANDIN" in os.environ:
        pytest.skip("HARNESS_STANDIN is set: these checks are for real devices only")
    found = discover_learned(DEVICES, with_host=False)
    if not found.sources:
        pytest.skip("; ".join(f"{finding.subject}: {finding.detail}" for finding in found.findings))
    for source in found.sources:
        report.describe(source.info)
    yield found.sources
    found.close()

"""Fleets of real processes; nothing of them may be left when a test is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.secure_fleet import SecureFleet


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureFleet]:
    """Yield a running coordinator with TLS that the tests of a module share."""
    fleet = SecureFleet(tmp_path_factory.mktemp("secure"))
    fleet.start_coordinator()
    yield fleet
    assert fleet.stop() == []


@pytest.fixture
def own_fleet(tmp_path: Path) -> Iterator[SecureFleet]:
    """Yield a fleet with TLS that is not started yet."""
    fleet = SecureFleet(tmp_path)
    yield fleet
    assert fleet.stop() == []

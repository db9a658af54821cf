"""An agent on a machine whose GPU driver stops answering for a while."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.agent.conftest import StartAgent, offer
from tests.agent.mini_coordinator import MiniCoordinator
from tests.standins.build import BUILD, NoCompilerError, build_library
from tests.standins.play import VARIABLE, Stage, random_steps


def test_a_hanging_driver_is_told_as_events_and_the_work_goes_on(
    coordinator: MiniCoordinator, start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        build_library("libnvidia-ml.so.1")
    except NoCompilerError as error:
        pytest.skip(str(error))
    stage = Stage(random_steps(8, 600), settings={"hang": ["nvmlDeviceGetFieldValues 5 9"]})
    monkeypatch.setenv("LD_LIBRARY_PATH", str(BUILD))
    monkeypatch.setenv(VARIABLE, str(stage.write(tmp_path / "stage")))
    agent = start_agent(coordinator, providers=["nvidia", "estimate"])

    def kinds() -> list[str]:
        return [event.kind for event in coordinator.bodies("event")]

    def times(vendor: str, after_ns: int, before_ns: int | None) -> int:
        t_ns = [
            t
            for key, batch in tuple(coordinator.batches.items())
            if key[1].startswith(vendor)
            for t in batch.t_ns
        ]
        found = np.array(t_ns)
        return int(((found > after_ns) & (found < (before_ns or found.max() + 1))).sum()) if t_ns else 0

    coordinator.wait_for(lambda: "source_hangs" in kinds(), "the hang to be told", 40.0)
    (event,) = coordinator.bodies("event")
    assert event.detail.startswith("nvidia:GPU-")
    # A run on the processor goes on although the GPU's driver does not answer.
    coordinator.offers.append(offer(count=4, last=True))
    coordinator.send(lease=coordinator.offers.popleft())
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "a run while it hangs")
    assert len([g for g in coordinator.generations() if not g.error]) == 4
    coordinator.wait_for(lambda: "source_answers" in kinds(), "the answer to be told", 40.0)
    hung_ns, answered_ns = (event.t_ns for event in coordinator.bodies("event"))
    coordinator.wait_for(lambda: times("nvidia", answered_ns, None), "samples after the hang")

    assert times("nvidia", hung_ns, answered_ns) == 0
    assert times("host", hung_ns, answered_ns) >= 4
    assert agent.terminate() == 0

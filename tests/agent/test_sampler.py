from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from harness_agent.sample_blocks import SampleBlock, to_block
from harness_agent.sampler import Sampler
from harness_backends.telemetry.source import NAN, Reading, SourceGone, SourceInfo


class SimulatedClock:
    """Time that passes only while the sampler waits; sampling ends when it is used up."""

    def __init__(self, seconds: float) -> None:
        self.t_ns = 0
        self.end_ns = round(seconds * 1e9)

    def now_ns(self) -> int:
        return self.t_ns

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        self.t_ns = max(self.t_ns, t_ns)
        if self.t_ns >= self.end_ns:
            stop.set()


class PlayedSource:
    """A source that answers what a function of the time says."""

    def __init__(
        self,
        clock: SimulatedClock,
        answer: Callable[[int], Reading | None] | None = None,
        name: str = "played:0",
    ) -> None:
        self._clock = clock
        self._answer = answer or self._counter
        self.polled_ns: list[int] = []
        self.closed = False
        self.info = SourceInfo(name, "host", "0", "played", "package", "counter", has_energy=True)

    @staticmethod
    def _counter(t_ns: int) -> Reading:
        return Reading(t_ns, 0, energy_j=t_ns * 1e-7)

    def read(self) -> Reading | None:
        self.polled_ns.append(self._clock.t_ns)
        return self._answer(self._clock.t_ns)

    def close(self) -> None:
        self.closed = True


def _run(
    sources: Sequence[PlayedSource], clock: SimulatedClock, hz: float = 20.0, **more: object
) -> list[SampleBlock]:
    blocks: list[SampleBlock] = []
    sampler = Sampler(sources, blocks.append, hz, clock=clock, seed=1, **more)  # type: ignore[arg-type]
    sampler.run()
    sampler.stop()
    return blocks


def test_an_hour_loses_no_sample() -> None:
    clock = SimulatedClock(3600)
    sources = [PlayedSource(clock, name=f"played:{index}") for index in range(2)]
    blocks = _run(sources, clock)
    for source in sources:
        t_ns = np.concatenate(
            [block.columns["t_ns"] for block in blocks if block.source_id == source.info.source_id]
        )
        assert t_ns.tolist() == source.polled_ns
        assert len(t_ns) == pytest.approx(72_000, abs=1)
    assert len(blocks) == pytest.approx(2 * 3600, rel=0.1)


def test_polls_are_spread_over_the_sensors_period() -> None:
    clock = SimulatedClock(400)
    source = PlayedSource(clock)
    _run([source], clock, hz=25)
    phases = np.array(source.polled_ns) % 100_000_000 / 1e8
    shares, _ = np.histogram(phases, bins=10, range=(0, 1))
    assert shares.min() > 0.95 * len(phases) / 10
    gaps_s = np.diff(source.polled_ns) * 1e-9
    assert gaps_s.mean() == pytest.approx(0.04, rel=0.01)
    assert gaps_s.max() < 0.04 * 1.62
    # A short run must see the whole period too: 5 s are 50 ticks.
    first, _ = np.histogram(phases[:125], bins=10, range=(0, 1))
    assert first.min() >= 8


def test_each_source_keeps_its_own_rate() -> None:
    clock = SimulatedClock(60)
    fast, slow = PlayedSource(clock, name="fast"), PlayedSource(clock, name="slow")
    sampler = Sampler([fast, slow], lambda _block: None, {"fast": 50.0, "slow": 2.0}, clock=clock)
    sampler.run()
    assert len(fast.polled_ns) == pytest.approx(3000, abs=2)
    assert len(slow.polled_ns) == pytest.approx(120, abs=2)


def test_an_idle_source_is_polled_slowly_and_at_its_full_rate_as_soon_as_something_is_measured() -> None:
    clock = SimulatedClock(60)
    counter, frames = PlayedSource(clock, name="counter"), PlayedSource(clock, name="frames")
    frames.info = replace(frames.info, energy_source="frame")
    measured_ns = (20_130_000_000, 40_000_000_000)

    def is_idle() -> bool:
        return not measured_ns[0] <= clock.t_ns < measured_ns[1]

    _run([counter, frames], clock, hz=25.0, is_idle=is_idle)
    polled_ns = np.array(counter.polled_ns)
    before, during, after = np.split(polled_ns, np.searchsorted(polled_ns, measured_ns))
    assert [len(before), len(after)] == pytest.approx([100, 100], abs=3)
    assert len(during) == pytest.approx(497, abs=3)
    # The next slow poll may have been due 0.2 s later.
    assert during[0] - measured_ns[0] < 100_000_000
    assert np.diff(during).max() < 0.04 * 1.62 * 1e9
    assert len(frames.polled_ns) == pytest.approx(1500, abs=3)


def test_columns_that_a_source_does_not_have_are_left_out() -> None:
    block = to_block("a", [Reading(1, 0, power_w=5.0), Reading(2, 1, power_w=NAN, throttle_bits=4)])
    assert set(block.columns) == {"t_ns", "half_width_ns", "power_w", "throttle_bits"}
    assert block.columns["power_w"].tolist() == pytest.approx([5.0, NAN], nan_ok=True)
    assert block.columns["t_ns"].dtype == np.int64


def test_a_lost_source_is_reported_once_and_its_last_value_is_not_repeated() -> None:
    clock = SimulatedClock(10)

    def answer(t_ns: int) -> Reading:
        if t_ns > 3e9:
            raise SourceGone("the GPU fell off the bus")
        return Reading(t_ns, 0, power_w=100.0)

    lost, other = PlayedSource(clock, answer, "lost"), PlayedSource(clock, name="other")
    gone: list[tuple[str, str]] = []
    blocks = _run([lost, other], clock, on_gone=lambda *told: gone.append(told))
    assert gone == [("lost", "the GPU fell off the bus")]
    assert lost.closed
    last = {
        name: max(b.columns["t_ns"][-1] for b in blocks if b.source_id == name) for name in ("lost", "other")
    }
    assert last["lost"] <= 3e9
    assert last["other"] > 9.8e9


def test_a_read_that_fails_for_a_while_is_counted_and_tried_again() -> None:
    clock = SimulatedClock(10)

    def answer(t_ns: int) -> Reading:
        if 2e9 < t_ns < 4e9:
            raise OSError("bus reset")
        return Reading(t_ns, 0, power_w=100.0)

    blocks: list[SampleBlock] = []
    source = PlayedSource(clock, answer)
    sampler = Sampler([source], blocks.append, 20, clock=clock)
    sampler.run()
    sampler.flush()
    t_ns = np.concatenate([block.columns["t_ns"] for block in blocks])
    assert not ((t_ns > 2e9) & (t_ns < 4e9)).any()
    assert (t_ns > 5.5e9).sum() > 80
    counts = sampler.counts["played:0"]
    assert 2 <= counts.errors < 10
    assert counts.last_error == "OSError: bus reset"


def test_a_sink_that_refuses_gets_every_block_later_and_in_order() -> None:
    clock = SimulatedClock(20)
    taken: list[SampleBlock] = []

    def sink(block: SampleBlock) -> None:
        if 3e9 < clock.t_ns < 12e9:
            raise OSError("no space left on device")
        taken.append(block)

    source = PlayedSource(clock)
    sampler = Sampler([source], sink, 20, clock=clock)
    sampler.run()
    sampler.stop()
    assert np.concatenate([block.columns["t_ns"] for block in taken]).tolist() == source.polled_ns
    assert sampler.lost_blocks == 0


def test_after_a_suspend_the_missed_polls_are_not_made_up_in_a_burst() -> None:
    clock = SimulatedClock(100)

    def answer(t_ns: int) -> Reading:
        if 10e9 < t_ns < 11e9:
            clock.t_ns += 30_000_000_000
        return Reading(t_ns, 0, power_w=1.0)

    source = PlayedSource(clock, answer)
    sampler = Sampler([source], lambda _block: None, 20, clock=clock)
    sampler.run()
    assert sampler.counts["played:0"].skipped_polls == pytest.approx(600, abs=2)
    assert np.diff(source.polled_ns).min() >= 0
    assert (np.diff(source.polled_ns) < 1_000_000).sum() < 100


def test_flush_hands_on_what_is_buffered_while_the_thread_runs() -> None:
    class Live:
        info = SourceInfo("live", "host", "0", "live", "package", "counter", has_energy=True)

        def read(self) -> Reading:
            return Reading(time.monotonic_ns(), 0, energy_j=1.0)

        def close(self) -> None:
            pass

    blocks: list[SampleBlock] = []
    sampler = Sampler([Live()], blocks.append, 200)
    started = time.monotonic()
    sampler.start()
    while sampler.counts["live"].readings < 5:
        assert time.monotonic() < started + 10
        time.sleep(0.005)
    sampler.flush()
    assert sum(len(block) for block in blocks) >= 5
    sampler.stop()
    assert sum(len(block) for block in blocks) == sampler.counts["live"].readings


@pytest.mark.parametrize("learned_hz", [NAN, 0.0, -1.0, float("inf")])
def test_a_learned_rate_that_makes_no_sense_does_not_make_the_sampler_spin(learned_hz: float) -> None:
    clock = SimulatedClock(10)
    source = PlayedSource(clock)
    source.info = replace(source.info, poll_hz=learned_hz)
    Sampler([source], lambda _block: None, clock=clock).run()
    assert len(source.polled_ns) == pytest.approx(200, abs=1)


@pytest.mark.parametrize("hz", [0.0, -5.0, NAN, 1e9])
def test_a_rate_that_cannot_be_is_refused(hz: float) -> None:
    clock = SimulatedClock(10)
    with pytest.raises(ValueError, match=r"a poll rate of .* for played:0"):
        Sampler([PlayedSource(clock)], lambda _block: None, hz, clock=clock)


def test_a_sensor_that_hangs_does_not_keep_the_agent_from_stopping() -> None:
    release = threading.Event()

    class Hanging:
        info = SourceInfo("hanging", "host", "0", "hanging", "package", "counter", has_energy=True)

        def read(self) -> Reading | None:
            release.wait()
            return None

        def close(self) -> None:
            pass

    sampler = Sampler([Hanging()], lambda _block: None, 100.0, stop_s=0.2)
    sampler.start()
    deadline = time.monotonic() + 10
    while sampler.counts["hanging"].polls == 0:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    began = time.monotonic()
    sampler.stop()
    assert time.monotonic() - began < 5
    release.set()

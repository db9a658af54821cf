"""Drift lines of hand-made clocks, whose true drift is known."""

from __future__ import annotations

import itertools
import random

import pytest
from harness_agent.clock_drift import LEAST_POINTS, POINT_EVERY_NS, ClockDrift, student_995
from harness_agent.clock_offset import ClockOffsetEstimator
from hypothesis import given, settings
from hypothesis import strategies as st

EPOCH_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
BEAT_NS = 5 * SECOND_NS


class Clocks:
    """A coordinator's clock that gains `ppm` on the agent's, and a link that delays at random."""

    def __init__(self, ppm: float, seed: int, least_us: float = 100.0, queue_us: float = 2000.0) -> None:
        self.estimator = ClockOffsetEstimator()
        self.ppm = ppm
        self.t_ns = 0
        self.step_ns = 0
        self._random = random.Random(seed)
        self._least_us, self._queue_us = least_us, queue_us

    def there_ns(self, t_ns: int) -> int:
        return EPOCH_NS + self.step_ns + t_ns + round(t_ns * self.ppm * 1e-6)

    def delay_ns(self) -> int:
        return round(1000 * (self._least_us + self._random.expovariate(1 / self._queue_us)))

    def run(self, seconds: float) -> None:
        end_ns = self.t_ns + round(seconds * SECOND_NS)
        while self.t_ns < end_ns:
            self.t_ns += BEAT_NS
            sent_ns = self.t_ns
            arrived_ns = sent_ns + self.delay_ns()
            answered_ns = arrived_ns + 30_000
            back_ns = answered_ns + self.delay_ns()
            self.estimator.add(
                "peer", sent_ns, self.there_ns(arrived_ns), self.there_ns(answered_ns), back_ns
            )

    def drift(self) -> ClockDrift:
        found = self.estimator.drift()
        assert found is not None
        return found


@settings(max_examples=40, deadline=None)
@given(ppm=st.floats(-50, 50), seed=st.integers(0, 2**32), minutes=st.integers(10, 90))
def test_the_drift_is_found_within_a_few_bounds(ppm: float, seed: int, minutes: int) -> None:
    clocks = Clocks(ppm, seed)
    clocks.run(60 * minutes)
    found = clocks.drift()
    # The bound holds for 99 of 100 lines; three times of it for all that hypothesis may find.
    assert abs(found.ppm - ppm) <= 3 * found.error_ppm + 1e-3


def test_the_bound_of_99_percent_holds_for_at_least_97_of_100_lines() -> None:
    lines = 300
    errors: list[float] = []
    inside = 0
    for seed in range(lines):
        clocks = Clocks(ppm=random.Random(seed).uniform(-50, 50), seed=seed)
        clocks.run(20 * 60)
        found = clocks.drift()
        errors.append(found.error_ppm)
        inside += abs(found.ppm - clocks.ppm) <= found.error_ppm
    assert inside >= 0.97 * lines
    assert sorted(errors)[lines // 2] < 1.0, "a bound that is always wide would be true and of no use"


def test_an_hour_tells_more_than_ten_minutes_and_older_points_are_forgotten() -> None:
    clocks = Clocks(12.5, seed=3)
    clocks.run(10 * 60)
    early = clocks.drift()
    clocks.run(50 * 60)
    late = clocks.drift()
    assert late.error_ppm < early.error_ppm / 3
    clocks.run(120 * 60)
    assert clocks.drift().span_s < 75 * 60


def test_a_way_there_that_is_always_longer_shifts_the_offset_but_not_the_drift() -> None:
    clocks = Clocks(-30.0, seed=5, queue_us=200.0)
    delays_ns = itertools.cycle([5_000_000, 100_000])
    clocks.delay_ns = lambda: next(delays_ns)  # type: ignore[method-assign]
    clocks.run(15 * 60)
    assert clocks.drift().ppm == pytest.approx(-30.0, abs=0.01)


def test_too_few_points_tell_nothing() -> None:
    clocks = Clocks(10.0, seed=1)
    assert clocks.estimator.drift() is None
    clocks.run((LEAST_POINTS - 1) * POINT_EVERY_NS / SECOND_NS - 10)
    assert clocks.estimator.drift() is None
    clocks.run(60)
    assert clocks.drift().points >= LEAST_POINTS


@pytest.mark.parametrize("step_s", [3600.0, -0.05])
def test_a_clock_that_is_set_begins_a_new_line(step_s: float) -> None:
    clocks = Clocks(20.0, seed=2)
    clocks.run(30 * 60)
    clocks.step_ns = round(step_s * SECOND_NS)
    clocks.run(BEAT_NS / SECOND_NS)
    assert clocks.estimator.drift() is None
    clocks.run(30 * 60)
    found = clocks.drift()
    assert abs(found.ppm - 20.0) <= 3 * found.error_ppm
    assert found.span_s < 31 * 60


def test_a_host_that_slept_begins_a_new_line() -> None:
    clocks = Clocks(20.0, seed=2)
    clocks.run(30 * 60)
    clocks.estimator.start_anew()
    assert clocks.estimator.drift() is None
    assert clocks.estimator.estimate(clocks.t_ns) is None


def test_another_coordinator_begins_a_new_line() -> None:
    clocks = Clocks(20.0, seed=2)
    clocks.run(30 * 60)
    t_ns = clocks.t_ns + BEAT_NS
    clocks.estimator.add("other", t_ns, EPOCH_NS + t_ns, EPOCH_NS + t_ns, t_ns + 1000)
    assert clocks.estimator.drift() is None


def test_clocks_that_run_apart_faster_than_crystals_do_have_no_drift_rather_than_a_wrong_one() -> None:
    clocks = Clocks(500.0, seed=2, queue_us=50.0)  # a clock that NTP slews
    clocks.run(30 * 60)
    assert clocks.estimator.drift() is None


@pytest.mark.parametrize(("degrees", "table"), [(6, 3.707), (10, 3.169), (30, 2.750), (118, 2.618)])
def test_students_t_is_that_of_the_tables(degrees: int, table: float) -> None:
    assert student_995(degrees) == pytest.approx(table, rel=0.005)

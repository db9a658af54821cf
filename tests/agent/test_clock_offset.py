from __future__ import annotations

import random

from harness_agent.clock_offset import DRIFT, ClockOffsetEstimator
from harness_agent.host_clock import ClockReading, compare_clocks, read_clocks
from hypothesis import given
from hypothesis import strategies as st

TRUE_OFFSET_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000


def exchange(
    estimator: ClockOffsetEstimator, at_ns: int, there_ns: int, back_ns: int, offset_ns: int = TRUE_OFFSET_NS
) -> None:
    """One exchange with the given delays each way."""
    received_there_ns = at_ns + there_ns + offset_ns
    sent_there_ns = received_there_ns + 30_000
    estimator.add("peer", at_ns, received_there_ns, sent_there_ns, sent_there_ns - offset_ns + back_ns)


@given(
    delays=st.lists(
        st.tuples(st.integers(10_000, 300_000_000), st.integers(10_000, 300_000_000)), min_size=1, max_size=80
    )
)
def test_the_truth_is_within_the_bound_whatever_the_delays(delays: list[tuple[int, int]]) -> None:
    estimator = ClockOffsetEstimator()
    for number, (there_ns, back_ns) in enumerate(delays):
        exchange(estimator, number * SECOND_NS, there_ns, back_ns)
    estimate = estimator.estimate(len(delays) * SECOND_NS)
    assert estimate is not None
    assert abs(estimate.offset_ns - TRUE_OFFSET_NS) <= estimate.error_ns + 256  # a float64 of this size


def test_one_quick_exchange_among_slow_ones_is_the_one_that_counts() -> None:
    estimator = ClockOffsetEstimator()
    random.seed(1)
    for number in range(40):
        slow_ns = random.randint(20_000_000, 200_000_000)
        exchange(estimator, number * SECOND_NS, slow_ns, 10_000_000)
    exchange(estimator, 40 * SECOND_NS, 100_000, 100_000)
    estimate = estimator.estimate(41 * SECOND_NS)
    assert estimate is not None
    assert estimate.error_ns < 200_000


def test_an_old_exchange_is_trusted_less() -> None:
    estimator = ClockOffsetEstimator()
    exchange(estimator, 0, 100_000, 100_000)
    soon, late = estimator.estimate(SECOND_NS), estimator.estimate(1000 * SECOND_NS)
    assert soon is not None
    assert late is not None
    assert late.error_ns - soon.error_ns > DRIFT * 990 * SECOND_NS


def test_a_coordinator_whose_wall_clock_is_set_is_believed_anew() -> None:
    estimator = ClockOffsetEstimator()
    for number in range(10):
        exchange(estimator, number * SECOND_NS, 50_000, 50_000)
    set_ns = TRUE_OFFSET_NS + 3600 * SECOND_NS
    exchange(estimator, 11 * SECOND_NS, 900_000, 100_000, set_ns)
    estimate = estimator.estimate(11 * SECOND_NS)
    assert estimate is not None
    assert abs(estimate.offset_ns - set_ns) <= estimate.error_ns + 256


def test_another_coordinator_starts_the_estimate_anew() -> None:
    estimator = ClockOffsetEstimator()
    exchange(estimator, 0, 1000, 1000)
    estimator.add("other", 10, 7 * SECOND_NS, 7 * SECOND_NS, 20)
    estimate = estimator.estimate(20)
    assert estimate is not None
    assert abs(estimate.offset_ns - 7 * SECOND_NS) < 100


def test_before_the_first_exchange_nothing_is_claimed() -> None:
    assert ClockOffsetEstimator().estimate(0) is None


def reading(monotonic_s: float, asleep_s: float = 0.0, set_s: float = 0.0) -> ClockReading:
    boottime_ns = int((monotonic_s + asleep_s) * 1e9)
    return ClockReading(int(monotonic_s * 1e9), boottime_ns, boottime_ns + int(set_s * 1e9) + TRUE_OFFSET_NS)


def test_an_hour_of_clock_change_is_a_step_and_an_hour_of_sleep_is_none() -> None:
    before = reading(10)
    assert compare_clocks(before, reading(11)) == []
    (step,) = compare_clocks(before, reading(11, set_s=-3600))
    assert (step.kind, step.detail) == ("clock_step", "the wall clock was set by -3600.000 s")
    (asleep,) = compare_clocks(before, reading(11, asleep_s=3600))
    assert (asleep.kind, asleep.detail) == ("suspended", "the host was asleep for 3600.0 s")
    assert [event.kind for event in compare_clocks(before, reading(11, 5, 5))] == ["suspended", "clock_step"]


def test_slewing_is_no_step() -> None:
    assert compare_clocks(reading(10), reading(11, set_s=0.0005)) == []


def test_the_hosts_own_clocks_agree_with_themselves() -> None:
    assert compare_clocks(read_clocks(), read_clocks()) == []

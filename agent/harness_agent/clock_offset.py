"""How far the coordinator's wall clock is from this agent's monotonic clock, with a bound.

Each heartbeat gives four times, as in NTP (RFC 5905, section 8): sent and received here, received and sent there.
The true offset is within half the exchange's delay of the estimate; the exchange with the smallest bound wins.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from harness_agent.clock_drift import ClockDrift, DriftLine

KEPT_EXCHANGES = 64
DRIFT = 50e-6
"""Allowance for two crystals drifting apart: 50 parts per million, a bad one."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Coordinator's realtime minus the agent's monotonic time."""

    offset_ns: float
    error_ns: float
    """The true offset is within this of `offset_ns`."""


@dataclass(frozen=True, slots=True)
class _Exchange:
    at_ns: int
    offset_ns: int
    half_delay_ns: int


class ClockOffsetEstimator:
    """Keeps the last exchanges and picks the one with the smallest bound."""

    def __init__(self) -> None:
        self._exchanges: deque[_Exchange] = deque(maxlen=KEPT_EXCHANGES)
        self._line = DriftLine()
        self._peer = ""

    def add(
        self, peer: str, sent_ns: int, received_there_ns: int, sent_there_ns: int, received_ns: int
    ) -> None:
        """Take one exchange.

        Args:
            peer: whose clock it is; another coordinator's clock starts the estimate anew.
            sent_ns: heartbeat sent, this agent's monotonic clock.
            received_there_ns: heartbeat received, the coordinator's realtime clock.
            sent_there_ns: reply sent, the coordinator's realtime clock.
            received_ns: reply received, this agent's monotonic clock.
        """
        if peer != self._peer:
            self._peer = peer
            self.start_anew()
        delay_ns = (received_ns - sent_ns) - (sent_there_ns - received_there_ns)
        if delay_ns < 0 or sent_there_ns < received_there_ns:
            return  # the coordinator's clock stepped during the exchange
        offset_ns = ((received_there_ns - sent_ns) + (sent_there_ns - received_ns)) // 2
        latest = self._exchanges[-1] if self._exchanges else None
        if latest is not None and abs(offset_ns - latest.offset_ns) > self._allowed_ns(
            latest, delay_ns, received_ns
        ):
            # The coordinator's wall clock was set: what was learned before is of another clock.
            self.start_anew()
        self._exchanges.append(_Exchange(received_ns, offset_ns, (delay_ns + 1) // 2))
        self._line.add(received_ns, offset_ns, (delay_ns + 1) // 2)

    def start_anew(self) -> None:
        """Forget what was learned: this host slept, or one of the clocks was set."""
        self._exchanges.clear()
        self._line.start_anew()

    def estimate(self, now_ns: int) -> ClockOffset | None:
        """Return the best estimate for now, None before the first exchange."""
        if not self._exchanges:
            return None
        best = min(self._exchanges, key=lambda exchange: _bound_ns(exchange, now_ns))
        return ClockOffset(float(best.offset_ns), _bound_ns(best, now_ns))

    def drift(self) -> ClockDrift | None:
        """Return how fast the clocks drift apart, None until some minutes without a step have passed."""
        return self._line.fit()

    @staticmethod
    def _allowed_ns(latest: _Exchange, delay_ns: int, received_ns: int) -> float:
        return _bound_ns(latest, received_ns) + delay_ns / 2 + 1


def _bound_ns(exchange: _Exchange, now_ns: int) -> float:
    return exchange.half_delay_ns + DRIFT * abs(now_ns - exchange.at_ns)

"""One thread polls every source at dithered times and hands on columns about once a second.

A source whose read hangs keeps the thread that it holds, for itself; a new thread polls the others.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from harness_backends.telemetry.source import Reading, Source, SourceGone

from harness_agent.clock import Clock, MonotonicClock
from harness_agent.hang_watch import HangWatch
from harness_agent.polled_sources import FIRST_BACKOFF_NS, Group, Polled, Poller, SourceCounts
from harness_agent.punctual_thread import prefer_this_thread
from harness_agent.sample_blocks import SampleBlock, to_block

DEFAULT_HZ = 20.0
LARGEST_HZ = 5000.0
IDLE_HZ = 5.0
"""While nothing is measured: a poll of a real H200 takes its host 2 to 5 ms of processor time, all day long."""
BLOCK_NS = 1_000_000_000
LONGEST_WAIT_NS = 50_000_000
"""The thread looks up as often while nothing is due: so soon a run that begins gets the full rate."""
LONGEST_BACKOFF_NS = 30_000_000_000
STOP_S = 5.0
ALONE_S = 60.0
"""How long a source must answer in time before it is polled together with the others again."""
IN_PROGRESS_S = 0.5
"""A flush waits this long for a read that is on; a longer one hangs."""
KEPT_BLOCKS = 1200
"""Blocks kept while the sink refuses them: 2 sources for 10 minutes."""

Sink = Callable[[SampleBlock], None]
_log = logging.getLogger(__name__)


class Sampler:
    """Polls sources in a thread of its own until stopped, whatever the sources and the sink do.

    Each source is polled once in every interval of its rate, each time elsewhere in it: polls on a fixed grid
    beat with a sensor's own period and never see its phase. The places advance by the golden ratio from a
    random start. They fill the interval as evenly as random places would in the end, but at once, and no two
    polls are further apart than 1.62 intervals (random places: 2). For 40 ms polls of a 100 ms tick that
    halves the 99th percentile of the tick's error, and ten ticks are never miscounted.

    While nothing is measured, counters and power sensors are polled at `IDLE_HZ`; the full rate is there again
    within `LONGEST_WAIT_NS` and one of its intervals.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sink: Sink,
        hz: float | Mapping[str, float] | None = None,
        *,
        on_gone: Callable[[str, str], None] | None = None,
        on_hang: Callable[[str, str], None] | None = None,
        on_answer: Callable[[str, str], None] | None = None,
        is_idle: Callable[[], bool] | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        stop_s: float = STOP_S,
        alone_s: float = ALONE_S,
    ) -> None:
        """Prepare to sample; `start` begins.

        Args:
            sources: sources owned by this sampler from now on; `stop` closes them.
            sink: called with each block, from the sampler thread or from `flush`, never from both at once;
                a block that it refuses by raising is offered again.
            hz: polls a second for all sources, or by source id; None takes what each source asks for.
            on_gone: called with the source id and the reason when a source is given up.
            on_hang: called with the source id and a sentence when a read does not come back; the source has no
                samples until it answers, and the others go on. Not noticed under `run` without `start`.
            on_answer: called with the source id and a sentence when it answers again.
            is_idle: tells whether nothing is measured now; None: the full rate at all times. Called at every poll.
            clock: CLOCK_MONOTONIC unless simulated.
            seed: makes the dither repeatable.
            stop_s: how long `stop` waits for a poll to end, for a vendor's call may hang.
            alone_s: how long a source that hung must answer in time before it is polled with the others again.
        """
        self._sink = sink
        self._on_gone, self._on_hang, self._on_answer = on_gone, on_hang, on_answer
        self._stop_s, self._alone_s = stop_s, alone_s
        self._is_idle = is_idle or _never
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._refused: list[SampleBlock] = []
        self._lost_blocks = 0
        self.counts: dict[str, SourceCounts] = {}
        by_kind: dict[tuple[int, int], list[Polled]] = {}
        for source in sources:
            polled = Polled(source, source.info.source_id, SourceCounts())
            self.counts[polled.source_id] = polled.counts
            rate_hz = poll_rate_hz(source, hz)
            by_kind.setdefault((round(1e9 / rate_hz), _idle_slots(source, rate_hz)), []).append(polled)
        generator = random.Random(seed)  # noqa: S311
        self._common = Poller(
            [
                Group(interval, members, generator.random(), slots)
                for (interval, slots), members in by_kind.items()
            ]
        )
        self._pollers = [self._common]
        """The common one, and one for each source that hung."""

    @property
    def lost_blocks(self) -> int:
        """Blocks given up because the sink refused them for too long."""
        return self._lost_blocks

    def start(self) -> None:
        """Begin polling in a daemon thread, and watch for reads that hang in another."""
        self._start_thread(self._common)
        HangWatch(lambda: tuple(self._pollers), self._isolate, self._stop).start()

    def stop(self) -> None:
        """Stop polling, hand on what is buffered and close the sources."""
        self._stop.set()
        with self._lock:
            pollers = list(self._pollers)
        deadline_s = time.monotonic() + self._stop_s
        for poller in pollers:
            hangs = any(polled.hung_since_ns for polled in poller.members())
            if poller.thread is not None and not hangs:
                poller.thread.join(max(0.0, deadline_s - time.monotonic()))
        self.flush()
        for poller in pollers:
            if poller.thread is not None and poller.thread.is_alive():
                # It holds its source: closing under it could bring the whole process down.
                _log.error("a sensor does not answer at the end; it is left behind")
                continue
            for polled in poller.members():
                polled.source.close()
            poller.groups = []

    def flush(self) -> None:
        """Hand on what is buffered now, with the reads that are on; callable from any thread."""
        for poller in tuple(self._pollers):
            number, deadline_s = poller.reads, time.monotonic() + IN_PROGRESS_S
            while (reading := poller.reading) is not None and poller.reads == number:
                if reading.hung_since_ns or time.monotonic() > deadline_s:
                    break
                time.sleep(0.001)
        with self._lock:
            for poller in self._pollers:
                for polled in poller.members():
                    self._emit(polled)
            self._offer_refused()

    def run(self) -> None:
        """Poll in the calling thread until `stop` is called elsewhere."""
        self._begin(self._common)
        self._poll_until_over(self._common)

    def _start_thread(self, poller: Poller) -> None:
        poller.thread = threading.Thread(target=self._run_thread, args=(poller,), name="sampler", daemon=True)
        self._begin(poller)
        poller.thread.start()

    def _run_thread(self, poller: Poller) -> None:
        prefer_this_thread(min((group.interval_ns for group in poller.groups), default=BLOCK_NS))
        self._poll_until_over(poller)

    def _begin(self, poller: Poller) -> None:
        now_ns = self._clock.now_ns()
        for group in poller.groups:
            if not group.due_ns:
                group.begin(now_ns)

    def _poll_until_over(self, poller: Poller) -> None:
        while not self._stop.is_set() and not poller.over:
            if not poller.groups:
                # A source that hung may come back.
                self._stop.wait(BLOCK_NS * 1e-9)
                continue
            idle, now_ns = self._is_idle(), self._clock.now_ns()
            if not idle:
                for group in tuple(poller.groups):
                    group.hasten(now_ns)
            group = min(poller.groups, key=_due)
            if group.due_ns - now_ns > LONGEST_WAIT_NS:
                # A run may begin meanwhile.
                self._clock.wait_until(now_ns + LONGEST_WAIT_NS, self._stop)
                continue
            self._clock.wait_until(group.due_ns, self._stop)
            if self._stop.is_set():
                return
            self._poll(poller, group)
            with self._lock:
                if group not in poller.groups:
                    continue  # it is another thread's by now
                if group.members:
                    group.schedule_next(self._clock.now_ns(), idle=idle)
                else:
                    poller.groups.remove(group)

    def _poll(self, poller: Poller, group: Group) -> None:
        for polled in tuple(group.members):
            if polled.retry_ns and self._clock.now_ns() < polled.retry_ns:
                continue
            reading: Reading | None = None
            gone: SourceGone | None = None
            error: Exception | None = None
            polled.counts.polls += 1
            poller.reads += 1
            poller.reading = polled
            try:
                reading = polled.source.read()
            except SourceGone as told:
                gone = told
            except Exception as told:  # noqa: BLE001 - a vendor library may raise anything, and sampling must go on
                error = told
            with self._lock:
                poller.reading = None
                hung = bool(polled.hung_since_ns)
                if hung:
                    self._end_hang(poller, polled)
                if gone is not None:
                    self._give_up(poller, polled, str(gone))
                elif error is not None:
                    self._back_off(polled, error)
                elif not hung:
                    self._take(polled, reading)
                if polled.answered_ns and not hung:
                    self._rejoin(poller, polled)
            if hung:
                return  # this thread has the one source only now

    def _take(self, polled: Polled, reading: Reading | None) -> None:
        if polled.retry_ns:
            polled.retry_ns, polled.backoff_ns = 0, FIRST_BACKOFF_NS
        if reading is None:
            if polled.readings and self._clock.now_ns() - polled.first_ns >= BLOCK_NS:
                self._emit(polled)
            return
        polled.counts.readings += 1
        if not polled.readings:
            polled.first_ns = self._clock.now_ns()
        polled.readings.append(reading)
        if reading.t_ns - polled.first_ns >= BLOCK_NS:
            self._emit(polled)

    def _isolate(self, poller: Poller, polled: Polled, number: int) -> None:
        """Leave a thread to the source whose read hangs in it, and poll the others in a new one."""
        with self._lock:
            if poller.reading is not polled or poller.reads != number or self._stop.is_set():
                return  # it came back meanwhile
            polled.hung_since_ns = self._clock.now_ns()
            polled.counts.hangs += 1
            self._emit(polled)
            others = poller.split(polled) if poller is self._common else None
            if others is not None:
                self._common = others
                self._pollers.append(others)
                self._start_thread(others)
            self._tell(
                self._on_hang,
                polled,
                "a read does not come back; there are no samples of it until it answers",
            )

    def _end_hang(self, poller: Poller, polled: Polled) -> None:
        """Note that the read came back. What it tells is of no known time within the hang, so it is not used."""
        now_ns = self._clock.now_ns()
        silent_s, polled.hung_since_ns, polled.answered_ns = (now_ns - polled.hung_since_ns) * 1e-9, 0, now_ns
        for group in poller.groups:
            group.begin(now_ns)
        self._tell(
            self._on_answer,
            polled,
            f"it answers again; for {silent_s:.1f} s and more there are no samples of it",
        )

    def _rejoin(self, poller: Poller, polled: Polled) -> None:
        """Poll a source in the common thread again once it has answered in time for long enough."""
        if poller is self._common or self._clock.now_ns() - polled.answered_ns < self._alone_s * 1e9:
            return
        polled.answered_ns = 0
        self._common.take_back(poller.groups)
        poller.groups, poller.over = [], True
        self._pollers.remove(poller)

    def _tell(self, told: Callable[[str, str], None] | None, polled: Polled, sentence: str) -> None:
        _log.warning("%s: %s", polled.source_id, sentence)
        if told is None:
            return
        try:
            told(polled.source_id, sentence)
        except Exception:  # noqa: BLE001 - sampling must go on whatever becomes of the message
            _log.exception("telling about %s failed", polled.source_id)

    def _back_off(self, polled: Polled, error: Exception) -> None:
        counts = polled.counts
        counts.errors += 1
        counts.last_error = f"{type(error).__name__}: {error}"
        if counts.errors == 1:
            _log.warning("%s failed to read and is tried again: %s", polled.source_id, counts.last_error)
        polled.retry_ns = self._clock.now_ns() + polled.backoff_ns
        polled.backoff_ns = min(2 * polled.backoff_ns, LONGEST_BACKOFF_NS)

    def _give_up(self, poller: Poller, polled: Polled, reason: str) -> None:
        self._emit(polled)
        for group in poller.groups:
            if polled in group.members:
                group.members.remove(polled)
        polled.counts.gone = reason
        _log.warning("%s is gone: %s", polled.source_id, reason)
        try:
            polled.source.close()
            if self._on_gone is not None:
                self._on_gone(polled.source_id, reason)
        except Exception:  # noqa: BLE001 - a vendor library may raise anything, and sampling must go on
            _log.exception("closing %s failed", polled.source_id)

    def _emit(self, polled: Polled) -> None:
        if not polled.readings:
            return
        block = to_block(polled.source_id, polled.readings)
        polled.readings = []
        self._refused.append(block)
        self._offer_refused()

    def _offer_refused(self) -> None:
        """Hand on blocks in their order; what the sink refuses stays first in line."""
        while self._refused:
            try:
                self._sink(self._refused[0])
            except Exception:  # noqa: BLE001 - whatever the sink's trouble is, the sensors go on
                _log.exception("the sink refused a block of %s; it is kept", self._refused[0].source_id)
                surplus = len(self._refused) - KEPT_BLOCKS
                if surplus > 0:
                    del self._refused[:surplus]
                    self._lost_blocks += surplus
                return
            del self._refused[0]


def poll_rate_hz(source: Source, hz: float | Mapping[str, float] | None) -> float:
    """Return a source's poll rate: what is asked for, else what it needs, else the default.

    Raises:
        ValueError: a rate that is not positive is asked for.
    """
    if isinstance(hz, Mapping):
        hz = hz.get(source.info.source_id)
    if hz is None:
        wanted = source.info.poll_hz
        hz = wanted if 0 < wanted <= LARGEST_HZ else DEFAULT_HZ
    if not 0 < hz <= LARGEST_HZ:
        msg = f"a poll rate of {hz} Hz for {source.info.source_id}; it must be above 0 and at most {LARGEST_HZ:.0f}"
        raise ValueError(msg)
    return hz


def _idle_slots(source: Source, rate_hz: float) -> int:
    """Return how many slots an idle poll takes: frames are not slowed, for each must be fetched, nor estimates."""
    slows = source.info.energy_source in {"counter", "power"}
    return max(1, int(rate_hz / IDLE_HZ)) if slows else 1


def _never() -> bool:
    return False


def _due(group: Group) -> int:
    return group.due_ns

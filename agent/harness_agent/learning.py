"""Learn each sensor's own rhythm at start, by polling fast for about a second and looking at its changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from harness_backends.telemetry.source import (
    NAN,
    Finding,
    ListsProcesses,
    Reading,
    Source,
    SourceGone,
    SourceInfo,
)

from harness_agent.clock import Clock, MonotonicClock
from harness_agent.discovery import Discovery, discover
from harness_agent.sensor_timing import averaging_s, counter_fault, update_period_s

LEARN_S = 1.0
"""Ten changes of the common 100 ms sensors, and a start-up below two seconds."""
FAST_POLL_NS = 2_000_000
POLLS_PER_PERIOD = 2.5
"""Two tell every change; the half is for the dither. Simulated: 40 ms polls find a 100 ms tick to 0.01 ms."""
LARGEST_HZ = 125.0
"""Two and a half polls of the quickest stepwise sensor known, 20 ms (Volta, Pascal)."""
CONTINUOUS_PERIOD_S = 0.005
CONTINUOUS_HZ = 50.0
"""RAPL changes every millisecond, as good as continuously: more polls would cost more than they tell."""
SMALLEST_HZ = 5.0


@dataclass(frozen=True, slots=True)
class Learned:
    """Sources with what was learned of them, and a finding for each sensor that was watched."""

    sources: list[Source]
    findings: list[Finding]


class LearnedSource:
    """A source that knows its rhythm; a counter that contradicts the power reading is left out of it."""

    def __init__(self, inner: Source, info: SourceInfo, *, drop_energy: bool) -> None:
        self.inner = inner
        self._info = info
        self._drop_energy = drop_energy

    @property
    def info(self) -> SourceInfo:
        """What this source is, with its learned periods."""
        return self._info

    def read(self) -> Reading | None:
        """Poll the source; a distrusted counter's value is absent."""
        reading = self.inner.read()
        if self._drop_energy and reading is not None:
            return replace(reading, energy_j=NAN)
        return reading

    def process_ids(self) -> list[int]:
        """Return the processes on the source's device, as far as it tells."""
        return self.inner.process_ids() if isinstance(self.inner, ListsProcesses) else []

    def close(self) -> None:
        """Close the source."""
        self.inner.close()


@dataclass(slots=True)
class _Watched:
    source: Source
    t_ns: list[int] = field(default_factory=list[int])
    power_w: list[float] = field(default_factory=list[float])
    energy_j: list[float] = field(default_factory=list[float])
    failed: bool = False

    def poll(self) -> None:
        try:
            reading = self.source.read()
        except SourceGone:
            self.failed = True
            return
        except Exception:  # noqa: BLE001 - a refusal that lasts is the sampler's to report
            return
        if reading is not None:
            self.t_ns.append(reading.t_ns)
            self.power_w.append(reading.power_w)
            self.energy_j.append(reading.energy_j)


def learn(sources: Sequence[Source], seconds: float = LEARN_S, clock: Clock | None = None) -> Learned:
    """Poll fast for a while and return the sources with their update periods and poll rates.

    Frame sources know their rhythm, and estimates have none: both are returned as they are.

    Args:
        sources: sources that nobody else polls meanwhile.
        seconds: how long to look.
        clock: CLOCK_MONOTONIC unless simulated.
    """
    clock = clock or MonotonicClock()
    watched = [_Watched(source) for source in sources if source.info.energy_source in {"counter", "power"}]
    never = threading.Event()
    begin_ns = clock.now_ns()
    due_ns = begin_ns
    while watched and due_ns < begin_ns + seconds * 1e9:
        for one in watched:
            if not one.failed:
                one.poll()
        due_ns = max(due_ns + FAST_POLL_NS, clock.now_ns())
        clock.wait_until(due_ns, never)
    learned = {id(one.source): _conclude(one) for one in watched}
    findings = [finding for _, told in learned.values() for finding in told]
    return Learned(
        [learned[id(source)][0] if id(source) in learned else source for source in sources], findings
    )


def _conclude(one: _Watched) -> tuple[Source, list[Finding]]:
    info = one.source.info
    t_s = (np.array(one.t_ns, np.int64) - (one.t_ns[0] if one.t_ns else 0)) * 1e-9
    power_w, energy_j = np.array(one.power_w), np.array(one.energy_j)
    power_period_s = update_period_s(t_s, power_w)
    counter_period_s = update_period_s(t_s, energy_j)
    fault = counter_fault(t_s, power_w, energy_j) if info.has_energy else ""
    found_s = averaging_s(t_s, power_w, energy_j, counter_period_s)
    periods = [period for period in (power_period_s, counter_period_s) if period > 0]
    poll_hz = NAN
    if periods:
        wanted_hz = CONTINUOUS_HZ if min(periods) < CONTINUOUS_PERIOD_S else POLLS_PER_PERIOD / min(periods)
        poll_hz = float(np.clip(wanted_hz, SMALLEST_HZ, LARGEST_HZ))
    is_found = found_s > 0 and (np.isnan(info.averaging_s) or _contradicts(found_s, info.averaging_s))
    facts = {**info.facts, "averaging_origin": "seen at start, roughly"} if is_found else info.facts
    notes = [*info.notes]
    if fault:
        notes.append(f"The energy counter is not used: {fault}.")
    if _contradicts(found_s, info.averaging_s):
        notes.append(
            f"Its power reading behaves like an average over {found_s:.2g} s, not {info.averaging_s:.2g} s."
        )
    better = replace(
        info,
        has_energy=info.has_energy and not fault,
        energy_source="power" if fault else info.energy_source,
        power_period_s=power_period_s,
        counter_period_s=NAN if fault else counter_period_s,
        averaging_s=found_s if is_found else info.averaging_s,
        poll_hz=poll_hz,
        facts=facts,
        notes=tuple(notes),
    )
    provider = info.source_id.partition(":")[0]
    findings = [Finding(provider, info.source_id, available=True, detail=_tell(better))]
    if fault:
        fix = "a reboot brings some counters back; until then energy is integrated from power"
        findings.append(
            Finding(provider, f"{info.source_id} counter", available=False, detail=fault, fix=fix)
        )
    return LearnedSource(one.source, better, drop_energy=bool(fault)), findings


def _contradicts(found_s: float, declared_s: float) -> bool:
    """Whether what was seen is clearly another window than what is published: the estimate is a rough one."""
    return found_s > 3 * max(declared_s, 0.1) or (found_s < declared_s / 3 and declared_s >= 0.5)


def _tell(info: SourceInfo) -> str:
    parts: list[str] = []
    for name, period_s in (("counter", info.counter_period_s), ("power", info.power_period_s)):
        if period_s > 0:
            parts.append(f"{name} changes every {period_s * 1e3:.3g} ms")
    if not parts:
        return "no change seen while it was watched: its update period is not known yet"
    if info.averaging_s > 0:
        parts.append(f"power is averaged over {info.averaging_s * 1e3:.3g} ms")
    return "; ".join([*parts, f"polled {info.poll_hz:.3g} times a second"])


def discover_learned(names: Sequence[str] | None = None, *, with_host: bool = True) -> Discovery:
    """Discover sources as `discovery.discover` does and learn their sensors; takes about a second."""
    found = discover(names, with_host=with_host)
    learned = learn(found.sources)
    return Discovery(learned.sources, [*found.findings, *learned.findings])

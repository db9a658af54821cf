"""What the sampler knows of each source, and which thread polls which sources."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness_backends.telemetry.source import Reading, Source

FIRST_BACKOFF_NS = 100_000_000
_GOLDEN = 0.6180339887498949


@dataclass(slots=True)
class SourceCounts:
    """What became of one source's polls so far."""

    polls: int = 0
    readings: int = 0
    errors: int = 0
    skipped_polls: int = 0
    """Poll slots that passed while the thread was kept from running."""
    hangs: int = 0
    """Reads that did not come back in time; what they returned in the end was not used."""
    last_error: str = ""
    gone: str = ""
    """Why the source was given up, empty while it is alive."""


@dataclass(slots=True, eq=False)
class Polled:
    """One source and what was read of it since its last block."""

    source: Source
    source_id: str
    counts: SourceCounts
    readings: list[Reading] = field(default_factory=list[Reading])
    first_ns: int = 0
    retry_ns: int = 0
    backoff_ns: int = FIRST_BACKOFF_NS
    hung_since_ns: int = 0
    """When it was found not to answer; 0 while it answers."""
    answered_ns: int = 0
    """When it last answered after a hang."""


@dataclass(slots=True, eq=False)
class Group:
    """Sources polled together: one wake-up serves all of one rate."""

    interval_ns: int
    members: list[Polled]
    dither: float
    """Where in its interval the next poll falls, 0 to 1."""
    idle_slots: int = 1
    """Slots from one poll to the next while nothing is measured."""
    slot_ns: int = 0
    due_ns: int = 0

    @property
    def kind(self) -> tuple[int, int]:
        """What sources that are polled together have in common."""
        return self.interval_ns, self.idle_slots

    def begin(self, now_ns: int) -> None:
        """Let the first interval begin now."""
        self.slot_ns = now_ns
        self.due_ns = now_ns + self._dither_ns()

    def hasten(self, now_ns: int) -> None:
        """Let a new interval begin now where the next poll is slots away."""
        if self.slot_ns > now_ns + self.interval_ns:
            self.begin(now_ns)

    def schedule_next(self, now_ns: int, *, idle: bool = False) -> None:
        """Choose the time of the next poll; slots that passed meanwhile are counted as skipped."""
        self.slot_ns += self.interval_ns * (self.idle_slots if idle else 1)
        late_ns = now_ns - self.slot_ns
        if late_ns > self.interval_ns:
            # After a suspend or a stall the missed slots are gone: polling them in a burst tells nothing.
            missed = late_ns // self.interval_ns
            self.slot_ns += missed * self.interval_ns
            for polled in self.members:
                polled.counts.skipped_polls += missed
        self.due_ns = self.slot_ns + self._dither_ns()

    def _dither_ns(self) -> int:
        self.dither = (self.dither + _GOLDEN) % 1.0
        return int(self.dither * self.interval_ns)


@dataclass(slots=True, eq=False)
class Poller:
    """One thread and the groups that it polls."""

    groups: list[Group]
    reading: Polled | None = None
    """The source whose read is on."""
    reads: int = 0
    """Reads begun so far: the same number twice is the same read."""
    over: bool = False
    """Its only source went back to the common thread."""
    thread: threading.Thread | None = None

    def members(self) -> list[Polled]:
        """Return all of its sources."""
        return [polled for group in self.groups for polled in group.members]

    def split(self, polled: Polled) -> Poller:
        """Keep only the source whose read hangs; return a poller for all the others."""
        others = Poller([group for group in self.groups if polled not in group.members])
        for group in self.groups:
            if polled in group.members:
                group.members.remove(polled)
                if group.members:
                    others.groups.append(group)
                self.groups = [Group(group.interval_ns, [polled], group.dither, group.idle_slots)]
                break
        return others

    def take_back(self, groups: Sequence[Group]) -> None:
        """Poll these groups' sources too from now on."""
        for group in groups:
            own = next((known for known in self.groups if known.kind == group.kind), None)
            if own is None:
                self.groups.append(group)
            else:
                own.members += group.members

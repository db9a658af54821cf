"""The spool: what this agent has to tell, on disk until the coordinator has acknowledged it.

Two lanes, control messages and sample batches, each a row of append-only segments in a directory of its boot.
Appending never blocks: a writer thread makes records durable in groups. Control messages are never dropped.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from harness_agent.errors import StateDirError
from harness_agent.spool_segment import Record, Segment, index_segment, read_records
from harness_agent.spool_writer import SpoolWriter

READ_BYTES = 256 * 1024
_log = logging.getLogger(__name__)


class LaneName(StrEnum):
    """The two kinds of messages, kept apart so that samples never hold up control."""

    CONTROL = "control"
    SAMPLES = "samples"


class Lane:
    """Segments of one lane over all boots, oldest first, and what of them is acknowledged."""

    def __init__(self, name: LaneName) -> None:
        self.name = name
        self.segments: list[Segment] = []
        self.acked: dict[tuple[str, str], int] = {}
        """Highest acknowledged sequence number by (boot, source)."""
        self.next_seq: dict[str, int] = {}
        """Of the current boot, by source."""

    def is_acked(self, segment: Segment) -> bool:
        """Whether all durable records of a segment are acknowledged."""
        return all(
            seq <= self.acked.get((segment.boot_id, source), 0) for source, seq in segment.last_seq.items()
        )


class Spool:
    """Keeps messages until they are acknowledged, over crashes of this process and outages of the link."""

    def __init__(
        self, directory: Path, boot_id: str, limit_bytes: int, on_change: Callable[[], None] | None = None
    ) -> None:
        """Open the spool and read what earlier boots left.

        Args:
            directory: made when absent; only one process may use it.
            boot_id: this process.
            limit_bytes: bound on disk; beyond it the oldest samples are dropped and counted.
            on_change: called from the writer thread when records became durable or the disk's state changed.

        Raises:
            StateDirError: the directory cannot be read or made.
        """
        self._lock = threading.RLock()
        self._lanes = {name: Lane(name) for name in LaneName}
        self._boot_id = boot_id
        self._root = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            number = self._load(directory)
        except OSError as error:
            raise StateDirError(
                f"The spool {directory} cannot be read: {error.strerror or error}."
            ) from error
        self._writer = SpoolWriter(
            self._lock,
            directory / f"{number:08d}-{boot_id}",
            boot_id,
            {name.value: lane.segments for name, lane in self._lanes.items()},
            limit_bytes,
            self._written,
        )
        self._on_change = on_change

    @property
    def full_reason(self) -> str:
        """Why nothing can be written now, empty while all is well."""
        return self._writer.full_reason

    @property
    def dropped_samples(self) -> int:
        """Samples given up since the start, because of the bound or a full disk."""
        return self._writer.dropped_samples

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        with self._lock:
            return sum(segment.size for lane in self._lanes.values() for segment in lane.segments)

    def append(
        self, lane: LaneName, make: Callable[[int], bytes], source_id: str = "", samples: int = 0
    ) -> int:
        """Take a message; it can be read once it is durable.

        Args:
            lane: which lane.
            make: returns the message's bytes for the sequence number it gets.
            source_id: of a sample batch; each source counts its own sequence.
            samples: number of samples inside, for the count of what is dropped.

        Returns:
            The sequence number, from 1.
        """
        with self._lock:
            state = self._lanes[lane]
            seq = state.next_seq.get(source_id, 0) + 1
            record = Record(seq, make(seq), source_id, samples)
            state.next_seq[source_id] = seq
            self._writer.put(lane.value, record)
        return seq

    def acknowledge(self, lane: LaneName, boot_id: str, source_id: str, seq: int) -> None:
        """Forget everything of this boot and source up to and including `seq`."""
        with self._lock:
            state = self._lanes[lane]
            key = (boot_id, source_id)
            if boot_id == self._boot_id:
                # Whatever the other side says, what was never told is not acknowledged.
                seq = min(seq, state.next_seq.get(source_id, 0))
            state.acked[key] = max(seq, state.acked.get(key, 0))
            for segment in tuple(state.segments):
                if not segment.sealed and not self._writer.seal_if_worn(lane.value, segment, state.is_acked):
                    continue
                if state.is_acked(segment):
                    self._remove(state, segment)

    def pending(self, lane: LaneName) -> bool:
        """Whether anything of a lane is not acknowledged yet, durable or not."""
        with self._lock:
            state = self._lanes[lane]
            if any(
                seq > state.acked.get((self._boot_id, source), 0) for source, seq in state.next_seq.items()
            ):
                return True
            return any(not state.is_acked(segment) for segment in state.segments)

    def is_settled(self, lane: LaneName) -> bool:
        """Whether everything taken so far is durable."""
        return self._writer.is_settled(lane.value)

    def reader(self, lane: LaneName) -> LaneReader:
        """Return a reader that begins at the oldest record without acknowledgement."""
        return LaneReader(self, self._lanes[lane], self._lock)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything taken so far is durable; False when it is not in time."""
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """Make durable what can be, stop the writer, and delete what is acknowledged."""
        self._writer.close()
        with self._lock:
            for lane in self._lanes.values():
                for segment in tuple(lane.segments):
                    if lane.is_acked(segment):
                        self._remove(lane, segment)
        _remove_if_empty(self._writer.folder)

    def _written(self) -> None:
        if self._on_change is not None:
            self._on_change()

    def _remove(self, lane: Lane, segment: Segment) -> None:
        lane.segments.remove(segment)
        segment.deleted = True
        segment.path.unlink(missing_ok=True)
        self._writer.room_made()
        if segment.boot_id != self._boot_id:
            _remove_if_empty(segment.path.parent)

    def _load(self, directory: Path) -> int:
        """Index what earlier boots left, oldest first, and return the number of this boot."""
        number = 0
        for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
            prefix, _, boot_id = folder.name.partition("-")
            if not prefix.isdigit() or not boot_id:
                continue
            number = max(number, int(prefix))
            for path in sorted(folder.glob("*.seg")):
                lane = self._lanes[LaneName(path.name.partition("-")[0])]
                segment = index_segment(path, boot_id)
                if segment.size:
                    lane.segments.append(segment)
                else:
                    path.unlink()
            _remove_if_empty(folder)
        return number + 1


class LaneReader:
    """Reads one lane in order, durable records only, from the oldest without acknowledgement."""

    def __init__(self, spool: Spool, lane: Lane, lock: threading.RLock) -> None:
        self._spool = spool
        self._lane = lane
        self._lock = lock
        self._segment: Segment | None = None
        self._passed: set[Segment] = set()
        self._offset = 0

    def read(self, limit_bytes: int = READ_BYTES) -> list[Record]:
        """Return the next records, at least one where there is one; empty: nothing new is durable.

        Reads files; callable from any thread, by one at a time.
        """
        while True:
            with self._lock:
                segment = self._advance()
                if segment is None:
                    return []
                end, offset = segment.size, self._offset
            found: list[Record] = []
            taken = 0
            try:
                for record, after in read_records(segment.path, offset, end):
                    self._offset = after
                    if record.seq > self._lane.acked.get((segment.boot_id, record.source_id), 0):
                        found.append(record)
                        taken += len(record.payload)
                    if taken >= limit_bytes:
                        break
            except FileNotFoundError:
                continue  # acknowledged or dropped between the look and the read
            if self._offset == offset:
                _log.error(
                    "the spool file %s is damaged at byte %d; the rest of it is skipped", segment.path, offset
                )
                self._offset = end
            if found:
                return found

    def _advance(self) -> Segment | None:
        """Return the segment to read from, one with something beyond the offset."""
        segment = self._segment
        if segment is not None and not segment.deleted and self._offset < segment.size:
            return segment
        if segment is not None and (segment.sealed or segment.deleted):
            self._passed.add(segment)
            self._segment = segment = None
        if segment is not None:
            return None
        self._passed.intersection_update(self._lane.segments)
        for candidate in self._lane.segments:
            if candidate not in self._passed:
                self._segment, self._offset = candidate, 0
                return candidate if candidate.size else None
        return None


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or gone
        folder.rmdir()

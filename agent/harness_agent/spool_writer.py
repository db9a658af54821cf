"""The thread that makes the spool's records durable, a group at a time, and keeps within its bound."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness_agent.spool_segment import Record, Segment, encode

SEGMENT_BYTES = {"control": 1024 * 1024, "samples": 4 * 1024 * 1024}
WORN_BYTES = 128 * 1024
"""A segment acknowledged to its end is replaced from this size on: a restart resends no more than that."""
GATHER_S = 0.2
"""Samples wait this long for company: one fsync serves all sources. Control messages never wait."""
RETRY_S = 1.0
PORTION_BYTES = 256 * 1024
"""Written and synced at once; what has gathered while the disk was full may be more than the room there is now."""
MEMORY_BYTES = 32 * 1024 * 1024
"""Samples kept in memory while the disk is full; beyond it the oldest are dropped."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_log = logging.getLogger(__name__)


class SpoolWriter:
    """Owns the current boot's files. The spool's lock guards the segments, this class's queue and counters."""

    def __init__(
        self,
        lock: threading.RLock,
        folder: Path,
        boot_id: str,
        segments: dict[str, list[Segment]],
        limit_bytes: int,
        on_change: Callable[[], None],
    ) -> None:
        self._changed = threading.Condition(lock)
        self.folder = folder
        self._boot_id = boot_id
        self._segments = segments
        self._limit_bytes = limit_bytes
        self._on_change = on_change
        self._queues: dict[str, list[Record]] = {lane: [] for lane in segments}
        self._open: dict[str, tuple[Segment, int]] = {}
        self._made = 0
        self._busy = False
        self._room_made = False
        self._closing = False
        self._flushing = 0
        self.full_reason = ""
        self.dropped_samples = 0
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def put(self, lane: str, record: Record) -> None:
        """Queue a record; the caller holds the lock."""
        self._queues[lane].append(record)
        if self.full_reason:
            self._drop_waiting_samples()
        self._changed.notify_all()

    def room_made(self) -> None:
        """Try again now if the disk was full: a segment was deleted; the caller holds the lock."""
        self._room_made = True
        self._changed.notify_all()

    def is_settled(self, lane: str) -> bool:
        """Whether nothing of a lane is queued."""
        with self._changed:
            return not self._queues[lane]

    def flush(self, timeout_s: float) -> bool:
        """Wait until the queues are empty."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                while self._busy or any(self._queues.values()):
                    remaining_s = deadline_s - time.monotonic()
                    if remaining_s <= 0 or not self._thread.is_alive():
                        return False
                    self._changed.wait(remaining_s)
            finally:
                self._flushing -= 1
        return True

    def close(self) -> None:
        """Write what is queued, give up what cannot be written, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        lost = len(self._queues["control"])
        if lost:
            _log.error(
                "%d results could not be written to %s and are lost; their tasks will be repeated",
                lost,
                self.folder,
            )
        for segment, descriptor in self._open.values():
            segment.sealed = True
            os.close(descriptor)
        self._open.clear()

    def seal_if_worn(self, lane: str, segment: Segment, is_acked: Callable[[Segment], bool]) -> bool:
        """Close a segment that is acknowledged to its end and large enough; the caller holds the lock."""
        current = self._open.get(lane)
        if self._busy or current is None or current[0] is not segment:
            return False
        if segment.size < WORN_BYTES or not is_acked(segment):
            return False
        self._seal(lane)
        return True

    def _is_urgent(self) -> bool:
        return bool(self._queues["control"]) or self._closing or self._flushing > 0

    def _run(self) -> None:
        while True:
            with self._changed:
                while not any(self._queues.values()) and not self._closing:
                    self._changed.wait()
                self._changed.wait_for(self._is_urgent, GATHER_S)
                # Samples first: a result on disk whose samples are lost would be without joules for ever.
                lanes = sorted(self._queues, key=lambda lane: lane != "samples")
                batch = {lane: list(self._queues[lane]) for lane in lanes if self._queues[lane]}
                if not batch and self._closing:
                    return
                self._busy = True
            failure: Exception | None = None
            for lane, records in batch.items():
                try:
                    self._write(lane, records)
                except Exception as error:  # noqa: BLE001 - this thread must not end while there is something to keep
                    failure = error
            with self._changed:
                self._busy = False
                self._keep_within_limit()
                self._told(failure)
                self._changed.notify_all()
            self._on_change()
            if failure is not None:
                with self._changed:
                    if self._closing:
                        return
                    self._drop_waiting_samples()
                    self._changed.wait_for(lambda: self._closing or self._room_made, RETRY_S)
                    self._room_made = False

    def _write(self, lane: str, records: list[Record]) -> None:
        """Make records durable in portions: with less room than all of them need, the oldest still get on."""
        for portion in _portions(records):
            try:
                self._write_portion(lane, portion)
            except OSError as error:
                if error.errno not in _NO_ROOM or len(portion) == 1:
                    raise
                for record in portion:
                    self._write_portion(lane, [record])

    def _write_portion(self, lane: str, records: list[Record]) -> None:
        """Append records to the lane's segment and make them durable, all or none."""
        segment, descriptor = self._current(lane)
        encoded = [encode(record) for record in records]
        data = memoryview(b"".join(encoded))
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        except OSError:
            # After a failed fsync nothing is known of the file's end: cut it off and go on in a new file.
            with self._changed:
                self._seal(lane)
            with contextlib.suppress(OSError):
                os.truncate(segment.path, segment.size)
            raise
        with self._changed:
            for record, one in zip(records, encoded, strict=True):
                segment.note(record, len(one))
            del self._queues[lane][: len(records)]
            if segment.size >= min(SEGMENT_BYTES[lane], max(4096, self._limit_bytes // 8)):
                self._seal(lane)

    def _current(self, lane: str) -> tuple[Segment, int]:
        current = self._open.get(lane)
        if current is not None:
            return current
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made += 1
        segment = Segment(self.folder / f"{lane}-{self._made:08d}.seg", self._boot_id)
        descriptor = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        _sync_folder(self.folder)
        with self._changed:
            self._open[lane] = (segment, descriptor)
            self._segments[lane].append(segment)
        return segment, descriptor

    def _seal(self, lane: str) -> None:
        segment, descriptor = self._open.pop(lane)
        segment.sealed = True
        os.close(descriptor)
        if not segment.size:
            self._segments[lane].remove(segment)
            segment.deleted = True
            segment.path.unlink(missing_ok=True)

    def _keep_within_limit(self) -> None:
        size = sum(segment.size for lane in self._segments.values() for segment in lane)
        for segment in [segment for segment in self._segments["samples"] if segment.sealed]:
            if size <= self._limit_bytes:
                return
            size -= segment.size
            self._segments["samples"].remove(segment)
            segment.deleted = True
            segment.path.unlink(missing_ok=True)
            self._count_dropped(segment.samples, f"the spool is over its bound of {self._limit_bytes} bytes")

    def _drop_waiting_samples(self) -> None:
        queue = self._queues["samples"]
        size = sum(len(record.payload) for record in queue)
        while queue and size > MEMORY_BYTES and not self._busy:
            record = queue.pop(0)
            size -= len(record.payload)
            self._count_dropped(record.samples, "the disk is full")

    def _count_dropped(self, samples: int, why: str) -> None:
        if not self.dropped_samples:
            _log.warning("%s: the oldest samples that wait to be sent are dropped, and counted", why)
        self.dropped_samples += samples

    def _told(self, failure: Exception | None) -> None:
        size = sum(segment.size for segment in self._segments["control"])
        if failure is not None:
            no_room = isinstance(failure, OSError) and failure.errno in _NO_ROOM
            room = "no space left" if no_room else str(failure)
            reason = f"the spool {self.folder.parent} cannot be written: {room}"
        elif size > self._limit_bytes:
            reason = f"unsent results take {size} bytes, more than the spool's bound of {self._limit_bytes}"
        else:
            reason = ""
        if reason and not self.full_reason:
            _log.error("%s; this agent takes no new work until there is room", reason)
        elif self.full_reason and not reason:
            _log.warning("the spool %s can be written again; this agent takes work", self.folder.parent)
        self.full_reason = reason


def _portions(records: list[Record]) -> list[list[Record]]:
    """Cut records into portions of about PORTION_BYTES, at least one record each."""
    portions: list[list[Record]] = []
    size = PORTION_BYTES
    for record in records:
        if size >= PORTION_BYTES:
            portions.append([])
            size = 0
        portions[-1].append(record)
        size += len(record.payload)
    return portions


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    for path in (folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

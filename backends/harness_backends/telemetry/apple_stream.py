"""One powermetrics child shared by all rails: read by one thread, started again when it dies."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from harness_backends.telemetry.apple_frames import BadFrameError, Frame, FrameCutter, parse_frame

BACKOFF_S = (1.0, 30.0)
"""Pause before the first restart, doubled up to the second figure."""
LARGEST_RESTARTS = 10
"""Restarts in a row without a single frame: 1 + 2 + 4 + 8 + 16 + 5 x 30 s is about 3 min of trying."""
STALL_S = 5.0
"""A child that falls silent for so long, 25 of the usual intervals, is taken for dead."""
FIRST_FRAME_S = 10.0
"""So long a new child may take to its first frame: a busy machine is slow to start a program."""
_WAKE_S = 0.2
_KEPT_FRAMES = 10_000
_KEPT_STDERR = 4000


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A frame and when it arrived: midpoint and half of the time from its first byte to its last."""

    frame: Frame
    t_ns: int
    half_width_ns: int


class PowermetricsStream:
    """Runs the child while there are subscribers; every subscriber gets every frame."""

    def __init__(
        self, command: Sequence[str], backoff_s: tuple[float, float] = BACKOFF_S, stall_s: float = STALL_S
    ) -> None:
        self._command = list(command)
        self._stall_s = stall_s
        self._backoff_s = backoff_s
        self._subscribers: list[deque[TimedFrame]] = []
        self._stop = threading.Event()
        self._arrived = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._last_heard_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="powermetrics", daemon=True)
        self.stderr = ""
        self.failure = ""
        """Why the stream was given up, empty while it is alive or being started again."""
        self.bad_frames = 0
        self.starts = 0

    def start(self) -> None:
        """Start the child and its reader."""
        self._thread.start()

    def wait_for_frame(self, timeout_s: float) -> bool:
        """Return whether a frame came, or false as soon as the child has ended without one."""
        self._arrived.wait(timeout_s)
        return self._arrived.is_set() and not self.failure

    def subscribe(self) -> deque[TimedFrame]:
        """Return a queue that every frame from now on is put on; the oldest is dropped from a full one."""
        queue: deque[TimedFrame] = deque(maxlen=_KEPT_FRAMES)
        self._subscribers = [*self._subscribers, queue]
        return queue

    def unsubscribe(self, queue: deque[TimedFrame]) -> None:
        """Drop a queue; the child is stopped with the last one."""
        self._subscribers = [other for other in self._subscribers if other is not queue]
        if not self._subscribers:
            self.close()

    def close(self) -> None:
        """Stop the child and its reader."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        (first_s, longest_s), failures = self._backoff_s, 0
        backoff_s = first_s
        while not self._stop.is_set():
            got_frames = self._run_child()
            if self._stop.is_set():
                return
            if not got_frames and not self._arrived.is_set():
                # It never gave a frame: no rights, no such option. Trying again would not change that.
                self._give_up("powermetrics gave no frame")
                return
            backoff_s = first_s if got_frames else min(2 * backoff_s, longest_s)
            failures = 0 if got_frames else failures + 1
            if failures >= LARGEST_RESTARTS:
                self._give_up(f"powermetrics died {failures} times in a row")
                return
            self._stop.wait(backoff_s)

    def _give_up(self, what: str) -> None:
        self.failure = f"{what}: {self.stderr.strip() or 'it said nothing'}"
        self._arrived.set()

    def _run_child(self) -> bool:
        """Read one child to its end; returns whether it gave any frame."""
        self.stderr = ""
        self.starts += 1
        self._last_heard_s = time.monotonic()
        try:
            # Its own process group, so that Ctrl-C on the agent does not end it first; the same session, as
            # sudo remembers its permission by terminal.
            child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            self.stderr = f"{self._command[0]}: {error.strerror}"
            return False
        self._child = child
        complaints = threading.Thread(target=self._read_stderr, args=(child,), daemon=True)
        complaints.start()
        got_frames = self._read_frames(child)
        self._end_child()
        complaints.join(timeout=1)
        return got_frames

    def _read_frames(self, child: subprocess.Popen[bytes]) -> bool:
        """Deliver frames until the child ends its output, falls silent, or the stream is closed."""
        if child.stdout is None:
            return False
        got_frames = False
        cutter = FrameCutter()
        first_ns = 0
        descriptor = child.stdout.fileno()
        while not self._stop.is_set():
            patience_s = self._stall_s if got_frames else max(self._stall_s, FIRST_FRAME_S)
            if time.monotonic() - self._last_heard_s >= patience_s:
                break
            if not select.select([descriptor], [], [], _WAKE_S)[0]:
                continue
            data = os.read(descriptor, 1 << 17)
            if not data:
                break
            now_ns = time.monotonic_ns()
            first_ns = first_ns or now_ns
            got_frames |= self._deliver(cutter, data, first_ns, now_ns)
            if cutter.is_empty:
                first_ns = 0
        return got_frames

    def _deliver(self, cutter: FrameCutter, data: bytes, first_ns: int, now_ns: int) -> bool:
        try:
            pieces = cutter.feed(data)
        except BadFrameError:
            self.bad_frames += 1
            return False
        frames: list[Frame] = []
        for piece in pieces:
            try:
                frames.append(parse_frame(piece))
            except BadFrameError:
                self.bad_frames += 1
        if not frames:
            return False
        # Of frames that one late read brought together, each had ended when the next one began.
        ends_ns = [(first_ns + now_ns) // 2]
        for later in reversed(frames[1:]):
            ends_ns.append(ends_ns[-1] - later.elapsed_ns)
        for frame, end_ns in zip(frames, reversed(ends_ns), strict=True):
            for queue in self._subscribers:
                queue.append(TimedFrame(frame, end_ns, (now_ns - first_ns + 1) // 2))
        self._last_heard_s = time.monotonic()
        self._arrived.set()
        return True

    def _read_stderr(self, child: subprocess.Popen[bytes]) -> None:
        if child.stderr is None:
            return
        with child.stderr:
            for line in child.stderr:
                self.stderr = (self.stderr + line.decode(errors="replace"))[-_KEPT_STDERR:]

    def _end_child(self) -> None:
        child = self._child
        if child is None:
            return
        # A child under sudo is root's: it ends by itself at its next write, once nobody reads its pipe.
        with contextlib.suppress(PermissionError):
            child.terminate()
        if child.stdout is not None:
            child.stdout.close()
        try:
            child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return

"""Child processes of the demo: started together, watched, and gone when the demo is, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from harness_cli.failure import Failure, work_failed

STOP_TIMEOUT_S = 10.0
CHECK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Child:
    """One running process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def must_live(self) -> None:
        """Raise with the log's last line if the process ended.

        Raises:
            Failure: it ended.
        """
        if self.process.poll() is not None:
            raise self.failure()

    def failure(self) -> Failure:
        """Return what to say of a child that ended by itself."""
        lines = [t for t in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if t.strip()]
        last = lines[-1] if lines else f"exit code {self.process.returncode}"
        return work_failed(f"the {self.name} stopped: {last} (log: {self.log})")


class ChildProcesses:
    """A context in which processes run; leaving it stops them, newest first."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._children: list[Child] = []
        self._old_handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> ChildProcesses:
        self._log_folder.mkdir(parents=True, exist_ok=True)
        if threading.current_thread() is threading.main_thread():
            # A closed terminal ends the children like a Ctrl-C does.
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._old_handlers[number] = signal.signal(number, _terminate)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._old_handlers:
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(KeyboardInterrupt):
            for child in reversed(self._children):
                _stop(child.process)
        for child in self._children:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a process that writes to its own log and does not see the terminal's Ctrl-C.

        It gets the signal from here instead, so that the agent can stop its engine in order.
        """
        log = self._log_folder / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    @contextlib.contextmanager
    def must_live(self) -> Iterator[None]:
        """While inside, the end of any child interrupts the main thread and is reported as the failure."""
        over = threading.Event()
        ended: list[Child] = []

        def check() -> None:
            while not over.wait(CHECK_EVERY_S):
                for child in self._children:
                    if child.process.poll() is not None:
                        ended.append(child)
                        signal.raise_signal(signal.SIGINT)
                        return

        watcher = threading.Thread(target=check, daemon=True, name="child-watch")
        watcher.start()
        try:
            yield
        except KeyboardInterrupt:
            if ended:
                raise ended[0].failure() from None
            raise
        finally:
            over.set()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt

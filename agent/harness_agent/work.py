"""What the agent works on: takes leases, runs one run at a time, asks for more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from harness_proto.v1 import fleet_pb2

from harness_agent.run import Run, RunSurroundings
from harness_agent.run_reports import task_update

FIRST_REQUEST_TASKS = 64
"""Asked for before the job's concurrency is known; the coordinator gives what fits."""
STILL_MEASURED_S = 6.0
"""After a run's end the sensors are polled at their full rate for so long: what comes then sharpens its last edge."""
SENSORS_SETTLE_S = 0.5
"""Before a run that follows idle time: its first edge is sharp where the full rate saw the sensors' ticks before it.
Sensors that are slowed while idle tick at least four times a second, as far as their tick is known."""
_log = logging.getLogger(__name__)

Request = Callable[[str, int], None]


class Work:
    """Handles what the coordinator asks for; lives on the event loop."""

    def __init__(self, surroundings: RunSurroundings) -> None:
        self._around = surroundings
        self._run: Run | None = None
        self._task: asyncio.Task[None] | None = None
        self._request: Request = _nobody
        self._answered: Callable[[str], None] = lambda _: None
        self._is_requested: Callable[[str], bool] = lambda _: False
        self._draining = ""
        self._stopping = ""
        self._over_s = -STILL_MEASURED_S

    def is_idle(self) -> bool:
        """Whether no run is on and none was a moment ago; callable from any thread."""
        return self._run is None and time.monotonic() - self._over_s > STILL_MEASURED_S

    def connect(
        self, request: Request, answered: Callable[[str], None], is_requested: Callable[[str], bool]
    ) -> None:
        """Say where requests for work go.

        Args:
            request: asks for tasks of a run (empty: of a new one).
            answered: forgets a request.
            is_requested: whether a request is open.
        """
        self._request, self._answered, self._is_requested = request, answered, is_requested

    def lease(self, offer: fleet_pb2.LeaseOffer) -> None:
        """Take tasks of a new run or of the one that is on; give back what does not fit."""
        run = self._run
        if run is not None and offer.run_id == run.run_id:
            self._answered(run.run_id)
            run.queue.add(list(offer.tasks), last=offer.last)
            return
        if run is not None or self._draining or self._stopping or not offer.HasField("settings"):
            # A run that ended while its next tasks were on the way, or an agent that shall not begin.
            for task in offer.tasks:
                self._around.outbox.task_update(
                    task_update(offer.run_id, task, fleet_pb2.TaskUpdate.RELEASED)
                )
            return
        self._answered("")
        if not offer.tasks:
            self.ask_for_new_run()
            return
        settle_s = SENSORS_SETTLE_S if self.is_idle() and offer.settings.energy != "off" else 0.0
        self._run = Run(offer, self._around, self._low)
        self._task = asyncio.create_task(self._execute(self._run, settle_s))

    def no_work(self, run_id: str) -> None:
        """End a run once its tasks are done."""
        self._answered(run_id)
        if self._run is not None and self._run.run_id == run_id:
            self._run.queue.end()

    def cancel(self, tasks: list[tuple[str, int]], reason: str) -> None:
        """Stop tasks; unknown ones are none of ours any more."""
        if self._run is not None:
            for key in tasks:
                self._run.cancel(key, reason)

    def drain(self, reason: str) -> None:
        """Finish what is in flight, give back the rest, take nothing new in this session."""
        _log.info("draining: %s", reason or "asked by the coordinator")
        self._draining = reason or "drained"
        self._answered("")
        if self._run is not None:
            self._answered(self._run.run_id)
            self._run.release_waiting()

    def welcomed(self) -> None:
        """Begin a session: a coordinator that still wants this agent drained will say so again."""
        self._draining = ""
        self.ask_for_new_run()

    def heartbeat(self) -> fleet_pb2.Heartbeat:
        """Tell what is held, what is loaded, and up to when all is told."""
        beat = fleet_pb2.Heartbeat()
        keys = {(result.task_id, result.attempt) for result in self._around.outbox.results_on_their_way()}
        run = self._run
        if run is not None:
            keys.update(run.held())
            beat.loaded_model = run.loaded_model
            beat.watermarks.add(run_id=run.run_id, before_ns=run.watermark_ns())
        for task_id, attempt in sorted(keys):
            beat.held.add(task_id=task_id, attempt=attempt)
        return beat

    def ask_for_new_run(self) -> None:
        """Ask for work where there is room for it."""
        if (
            self._run is None
            and not self._draining
            and not self._stopping
            and self._around.may_start.is_set()
        ):
            self._request("", FIRST_REQUEST_TASKS)

    async def stop(self, reason: str) -> None:
        """End the run at once and take nothing new."""
        self._stopping = reason
        self._answered("")
        if self._run is not None:
            self._run.stop(reason)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _low(self, run: Run) -> None:
        if not self._is_requested(run.run_id) and not self._draining:
            self._request(run.run_id, run.queue.room())

    async def _execute(self, run: Run, settle_s: float) -> None:
        _log.info("run %s begins: model %s, job %s", run.run_id, run.settings.model.id, run.settings.job_id)
        started_s = time.monotonic()
        try:
            await asyncio.sleep(settle_s)
            await run.execute()
        finally:
            _log.info("run %s is over after %.1f s", run.run_id, time.monotonic() - started_s)
            self._answered(run.run_id)
            self._over_s = time.monotonic()
            self._run = None
            self._task = None
            self.ask_for_new_run()


def _nobody(_run_id: str, _tasks: int) -> None:
    """Nobody to ask before the link is there."""

"""What the agent has to tell, as messages of the wire in the spool; and which results are still on their way."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from harness_proto.v1 import fleet_pb2, telemetry_pb2, work_pb2

from harness_agent.sample_blocks import SampleBlock
from harness_agent.spool import LaneName, Spool

_COLUMNS = (
    "t_ns", "half_width_ns", "energy_j", "power_w", "power_avg_w", "memory_used_bytes", "temperature_c",
    "utilisation", "sm_clock_mhz", "throttle_bits", "interval_ns",
)  # fmt: skip
_LARGEST_UINT32 = 2**32 - 1
SAMPLES_EVERY_S = 1.0
"""Between two messages of samples while a run is on: its joules so far are told every two seconds."""
IDLE_SAMPLES_EVERY_S = 20.0
"""The same while none is: nobody waits, and a message costs the coordinator as much as a thousand samples."""
HURRY_S = 3.0
"""After the end of a run nothing is held back for so long: its joules wait for the samples that cover it."""
_OVER = frozenset({fleet_pb2.RunUpdate.ENDED, fleet_pb2.RunUpdate.FAILED})


@dataclass(frozen=True, slots=True)
class SentResult:
    """A finished task whose generation is not acknowledged yet: its lease is still held."""

    run_id: str
    task_id: str
    attempt: int
    start_ns: int


class Outbox:
    """Writes messages into the spool; callable from any thread."""

    def __init__(self, spool: Spool, agent_id: str, boot_id: str, clock_id: str) -> None:
        self.spool = spool
        self._agent_id = agent_id
        self._boot_id = boot_id
        self._clock_id = clock_id
        self._lock = threading.Lock()
        self._results: dict[int, SentResult] = {}
        self._runs: set[str] = set()
        self._run_over_s = -HURRY_S

    @property
    def samples_every_s(self) -> float:
        """How long samples may be gathered now before they are sent together."""
        if time.monotonic() - self._run_over_s < HURRY_S:
            return 0.0
        return SAMPLES_EVERY_S if self._runs else IDLE_SAMPLES_EVERY_S

    def generation(self, generation: work_pb2.Generation) -> None:
        """Tell the end of a query, whether it succeeded or not."""
        message = fleet_pb2.AgentMessage(generation=generation)
        # One lock over both: the acknowledgement must not come before the result is noted.
        with self._lock:
            seq = self._append(message)
            if not generation.warmup:
                self._results[seq] = SentResult(
                    generation.run_id, generation.task_id, generation.attempt, generation.start_ns
                )

    def task_update(self, update: fleet_pb2.TaskUpdate) -> None:
        """Tell that a task runs, failed without running, or is given back."""
        self._append(fleet_pb2.AgentMessage(task_update=update))

    def run_update(self, update: fleet_pb2.RunUpdate) -> None:
        """Tell that a run reached its next phase."""
        update.clock_id = self._clock_id
        if update.phase in _OVER:
            self._runs.discard(update.run_id)
            self._run_over_s = time.monotonic()
        else:
            self._runs.add(update.run_id)
        self._append(fleet_pb2.AgentMessage(run_update=update))

    def source_gone(self, source_id: str, reason: str) -> None:
        """Tell that a source cannot be read any more."""
        update = fleet_pb2.SourceUpdate(
            source_id=source_id, gone=True, reason=reason, t_ns=time.monotonic_ns()
        )
        self._append(fleet_pb2.AgentMessage(source_update=update))

    def event(self, kind: str, detail: str) -> None:
        """Tell something that whoever reads the results should know."""
        event = fleet_pb2.AgentEvent(t_ns=time.monotonic_ns(), kind=kind, detail=detail)
        self._append(fleet_pb2.AgentMessage(event=event))

    def samples(self, block: SampleBlock) -> None:
        """Take a block of one source's polls."""
        batch = to_batch(block)
        batch.agent_id, batch.boot_id, batch.clock_id = self._agent_id, self._boot_id, self._clock_id

        def make(seq: int) -> bytes:
            batch.seq = seq
            return batch.SerializeToString()

        self.spool.append(LaneName.SAMPLES, make, block.source_id, len(block))

    def acknowledge(self, boot_id: str, seq: int) -> None:
        """Forget control messages that the coordinator has stored."""
        if boot_id == self._boot_id:
            with self._lock:
                for known in [known for known in self._results if known <= seq]:
                    del self._results[known]
        self.spool.acknowledge(LaneName.CONTROL, boot_id, "", seq)

    def acknowledge_samples(self, boot_id: str, source_id: str, seq: int) -> None:
        """Forget sample batches that the coordinator has stored."""
        self.spool.acknowledge(LaneName.SAMPLES, boot_id, source_id, seq)

    def results_on_their_way(self) -> list[SentResult]:
        """Return the finished tasks that the coordinator may not know to be finished."""
        with self._lock:
            return list(self._results.values())

    def _append(self, message: fleet_pb2.AgentMessage) -> int:
        message.agent_id, message.boot_id = self._agent_id, self._boot_id

        def make(seq: int) -> bytes:
            message.seq = seq
            return message.SerializeToString()

        return self.spool.append(LaneName.CONTROL, make)


def to_batch(block: SampleBlock) -> telemetry_pb2.SampleBatch:
    """Return a block as columns of the wire; what the source does not have stays empty."""
    batch = telemetry_pb2.SampleBatch(source_id=block.source_id)
    for name in _COLUMNS:
        values = block.columns.get(name)
        if values is None:
            continue
        if name in ("half_width_ns", "throttle_bits"):
            values = np.clip(values, 0, _LARGEST_UINT32)
        getattr(batch, name).extend(values.tolist())
    return batch

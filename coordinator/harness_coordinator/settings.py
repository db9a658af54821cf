"""The coordinator's settings and its time constants, with the arithmetic beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_LISTEN = "127.0.0.1:7411"

HEARTBEAT_S = 5.0
"""One small message per agent; 1,000 agents make 200 a second."""

LEASE_S = 20.0
"""Four heartbeats: three may be lost before a lease ends. A vanished agent's tasks are back within two leases."""

SCHEDULE_EVERY_S = 0.5
"""Besides at once when an agent asks or a job arrives: leases that ended and retries that became due."""

HOUSEKEEPING_EVERY_S = 2.0

RETRY_DELAYS_S = (2.0, 10.0, 60.0)
"""Before the second, third and every later attempt of a task."""

MEASURE_EVERY_S = 1.0

SAMPLES_WAIT_S = 120.0
"""How long a run that ended waits for samples that cover it, before its joules are computed with a gap."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A generation of a 1M-token context is about 4 MB of text; a second of one source is about 2 kB."""

SUBMIT_CHUNK_ROWS = 500


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """What `harness coordinator run` was told."""

    database_url: str
    listen: str = DEFAULT_LISTEN
    state_dir: Path | None = None
    heartbeat_s: float = HEARTBEAT_S
    lease_s: float = LEASE_S
    samples_wait_s: float = SAMPLES_WAIT_S

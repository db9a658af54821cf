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

LIVE_EVERY_S = 2.0
"""Provisional joules of runs that are on; agents' samples and watermarks arrive every second or slower."""

LATE_SAMPLES_QUIET_NS = 5_000_000_000
"""Samples that arrive late are waited for until none came for this long; then the run is computed once more."""

SAMPLES_WAIT_S = 120.0
"""How long a run that ended waits for samples that cover it, before its joules are computed with a gap."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A generation of a 1M-token context is about 4 MB of text; a second of one source is about 2 kB."""

SUBMIT_CHUNK_ROWS = 500
SUBMIT_CHUNK_BYTES = 4 * 1024 * 1024

MAX_SUBMIT_ROWS = 200_000
MAX_SUBMIT_BYTES = 256 << 20
"""Of one submission, which is held in memory until it is stored; an imported dataset passes through a file."""

CERTIFICATE_DAYS = 90.0
"""Of clients; they renew in the last third, so a machine may be off for a month and come back by itself."""

ROSTER_EVERY_S = 2.0
"""How long a revoked certificate may still be taken by a coordinator that did not revoke it itself."""


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """What `harness coordinator run` was told."""

    database_url: str
    listen: str = DEFAULT_LISTEN
    state_dir: Path | None = None
    heartbeat_s: float = HEARTBEAT_S
    lease_s: float = LEASE_S
    samples_wait_s: float = SAMPLES_WAIT_S
    tls_dir: Path | None = None
    """Folder of the certificate authority; None: no TLS, and loopback only."""
    certificate_days: float = CERTIFICATE_DAYS
    listen_enrolment: str | None = None
    """HOST:PORT for machines that have a join token and no certificate yet; None: the port after `listen`."""

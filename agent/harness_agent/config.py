"""What `harness agent run` was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_SPOOL_LIMIT_BYTES = 2 * 1024**3
"""About 2 weeks of one source at 20 Hz (88 B a sample on the wire, six columns): 20 x 88 x 86,400 = 152 MB a day."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Settings of one agent process."""

    coordinator: str
    """HOST:PORT of the coordinator; several with commas between where they share a database."""
    state_dir: Path
    """Directory that holds the agent's identity, its spool and the logs of its engines; made when absent."""
    name: str = ""
    """Name in the fleet; empty: the host's name."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    poll_hz: float = 20.0
    """Polls a second of sources that ask for no rate of their own."""
    spool_limit_bytes: int = DEFAULT_SPOOL_LIMIT_BYTES
    exit_if_unreachable_s: float | None = None
    """Give up when the coordinator was never reached within this time; None: try for ever."""
    providers: tuple[str, ...] | None = None
    """Telemetry providers to ask; None: all that are installed."""
    join_token: str = ""
    """Turned into a certificate at the first start; not needed any more once there is one."""
    enrolment: str = ""
    """HOST:PORT where the coordinator takes join tokens; empty: the port after the coordinator's."""

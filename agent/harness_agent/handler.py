"""What the link needs of whoever does the work."""

from __future__ import annotations

from typing import Protocol

from harness_proto.v1 import fleet_pb2


class Handler(Protocol):
    """Whoever does the work that the coordinator gives."""

    def lease(self, offer: fleet_pb2.LeaseOffer) -> None:
        """Take tasks of a new run or of the one that is on."""
        ...

    def no_work(self, run_id: str) -> None:
        """End a run once its tasks are done."""
        ...

    def cancel(self, tasks: list[tuple[str, int]], reason: str) -> None:
        """Stop these (task, attempt) pairs; unknown ones are none of ours."""
        ...

    def drain(self, reason: str) -> None:
        """Finish what is in flight and take nothing new."""
        ...

    def welcomed(self) -> None:
        """A session has begun."""
        ...

    def heartbeat(self) -> fleet_pb2.Heartbeat:
        """Tell what is held and loaded now; times and clock offset are filled in by the session."""
        ...

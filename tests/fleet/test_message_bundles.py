"""Control messages in bundles: applied and acknowledged as if each had come alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from harness_agent.session import bundle
from harness_coordinator.fleet_service import MOST_APPLIED
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc

from tests.end_to_end.harness_processes import Harness

UNKNOWN_FIELD = bytes([0xFA, 0x7F, 5]) + b"hello"
"""Field 2047, five bytes long: of a version that is yet to come."""
MANY = MOST_APPLIED + 10


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Yield an empty harness."""
    made = Harness(tmp_path)
    yield made
    assert made.stop() == []


def test_a_bundle_keeps_every_message_bit_for_bit_and_what_it_does_not_know_of_them() -> None:
    payloads = [_event(seq).SerializeToString() + UNKNOWN_FIELD for seq in (1, 2, 3)]
    joined = fleet_pb2.AgentMessage.FromString(bundle(payloads))
    assert [message.SerializeToString() for message in joined.bundle.messages] == payloads


def test_messages_of_bundles_are_applied_once_each_and_acknowledged_and_nested_ones_skipped(
    harness: Harness,
) -> None:
    hello = fleet_pb2.Hello(agent_id="a1", name="a1", boot_id="b1", clock_id="c1")
    nested = fleet_pb2.AgentMessage(seq=4, boot_id="b1")
    nested.bundle.messages.append(_event(99))
    said = [
        fleet_pb2.AgentMessage(hello=hello),
        _bundled([_event(1), _event(2)]),
        _event(3),
        _bundled([_event(2), _event(3), nested, _event(5)]),
        _bundled([_event(seq) for seq in range(6, 6 + MANY)]),
        fleet_pb2.AgentMessage(goodbye=fleet_pb2.Goodbye(reason="done")),
    ]
    harness.start_coordinator()
    with grpc.insecure_channel(harness.address) as channel:
        answers = list(fleet_pb2_grpc.FleetStub(channel).Session(iter(said), timeout=30))
    assert "message_bundles" in answers[0].welcome.features
    acknowledged = [answer.ack.seq for answer in answers if answer.WhichOneof("body") == "ack"]
    assert acknowledged == sorted(acknowledged)
    assert acknowledged[-1] == 5 + MANY
    with sqlite3.connect(harness.database.removeprefix("sqlite:///")) as database:
        stored = database.execute(
            "select detail from events where kind = 'test' order by event_id"
        ).fetchall()
    assert [int(detail) for (detail,) in stored] == [1, 2, 3, 5, *range(6, 6 + MANY)]


def _event(seq: int) -> fleet_pb2.AgentMessage:
    event = fleet_pb2.AgentEvent(t_ns=seq, kind="test", detail=str(seq))
    return fleet_pb2.AgentMessage(seq=seq, boot_id="b1", agent_id="a1", event=event)


def _bundled(messages: list[fleet_pb2.AgentMessage]) -> fleet_pb2.AgentMessage:
    return fleet_pb2.AgentMessage.FromString(bundle([message.SerializeToString() for message in messages]))

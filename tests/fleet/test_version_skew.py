"""Agents of another version: a recorded older one, and one that says things this program has never heard of."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from harness_proto.v1 import fleet_pb2

from tests.end_to_end.harness_processes import Harness

RECORDED = Path(__file__).with_name("recorded") / "agent-0.1.0.txt"
UNKNOWN_FIELD = bytes([0xFA, 0x7F, 5]) + b"hello"
"""Field 2047, five bytes long: of a version that is yet to come."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Yield an empty harness."""
    made = Harness(tmp_path)
    yield made
    assert made.stop() == []


@pytest.mark.parametrize("extra", [b"", UNKNOWN_FIELD], ids=["older", "newer"])
def test_an_agent_of_another_version_is_served_and_acknowledged(harness: Harness, extra: bytes) -> None:
    lines = [line for line in RECORDED.read_text().splitlines() if not line.startswith("#")]
    recorded = [base64.b64decode(line) + extra for line in lines]
    last = max(fleet_pb2.AgentMessage.FromString(message).seq for message in recorded)
    hello = fleet_pb2.AgentMessage.FromString(recorded[0]).hello
    harness.start_coordinator()
    with grpc.insecure_channel(harness.address) as channel:
        session = channel.stream_stream(
            "/harness.v1.Fleet/Session",
            request_serializer=None,
            response_deserializer=fleet_pb2.CoordinatorMessage.FromString,
        )
        kinds: dict[str, int] = {}
        acknowledged = 0
        for answer in session(iter(recorded), timeout=20):
            kind = str(answer.WhichOneof("body"))
            kinds[kind] = kinds.get(kind, 0) + 1
            acknowledged = max(acknowledged, answer.ack.seq if kind == "ack" else 0)
    assert (kinds["welcome"], kinds["heartbeat_reply"], acknowledged) == (1, 3, last)
    with sqlite3.connect(harness.database.removeprefix("sqlite:///")) as database:
        assert database.execute("select agent_id, version from agents").fetchall() == [
            (hello.agent_id, hello.version)
        ]
        stored = database.execute("select max(control_seq) from agent_boots").fetchone()
    assert stored == (last,)

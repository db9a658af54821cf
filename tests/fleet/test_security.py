"""An outsider can do nothing but be refused; an insider can do what its role says, in its own name only."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from harness_agent.enrolment import Credentials, enrol, tls_options
from harness_agent.errors import EnrolmentError
from harness_coordinator.authority import Authority
from harness_coordinator.enrolment import PEER_BURST, RateLimit
from harness_coordinator.roles import RPC_ROLES
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc, telemetry_pb2
from harness_store.models import PACKED
from harness_store.sample_columns import unpack
from harness_store.segment_codec import decode_segment

from tests.end_to_end.harness_processes import HARNESS, wait_for
from tests.fleet.garbage import MutatedBatches, polls_of
from tests.fleet.secure_fleet import ALL_RPCS, SERVICES, SecureFleet, call, call_and_hear, channel_of

REFUSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


def test_every_rpc_has_its_roles() -> None:
    assert {"Fleet", "Jobs", "Datasets", "Verdicts"} <= set(SERVICES)
    assert set(RPC_ROLES) == set(ALL_RPCS)


def test_a_stranger_gets_through_no_rpc(secure: SecureFleet, tmp_path: Path) -> None:
    stranger = Authority.create(tmp_path / "other-fleet")
    _, own = secure.agent_certificate()
    forged = Credentials(tmp_path, *_certificate_by(stranger, tmp_path), own.ca, own.begins, own.ends)
    with channel_of(secure.address, None) as plain, channel_of(secure.address, forged) as foreign:
        without = grpc.secure_channel(
            secure.address, grpc.ssl_channel_credentials(own.ca), options=tls_options()
        )
        with without as anonymous:
            for channel in (plain, foreign, anonymous):
                assert {call(channel, rpc) for rpc in ALL_RPCS} <= set(REFUSED)
    with channel_of(secure.address, own) as known:  # refused because of who asks, not because nobody listens
        assert call(known, "/harness.v1.Jobs/Submit") is grpc.StatusCode.PERMISSION_DENIED


def test_the_enrolment_port_knows_nothing_but_enrolment(secure: SecureFleet) -> None:
    ca = secure.person_certificate("viewer").ca
    with grpc.secure_channel(
        secure.enrolment, grpc.ssl_channel_credentials(ca), options=tls_options()
    ) as channel:
        others = {call(channel, rpc) for rpc in ALL_RPCS if not rpc.endswith("/Enroll")}
        assert others == {grpc.StatusCode.UNIMPLEMENTED}
        assert call(channel, "/harness.v1.Fleet/Enroll") is grpc.StatusCode.INVALID_ARGUMENT
        large = fleet_pb2.EnrollRequest(csr_pem=b"x" * 1_000_000).SerializeToString()
        assert call(channel, "/harness.v1.Fleet/Enroll", large) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("role", ["agent", "submitter", "viewer"])
def test_each_role_may_call_what_its_row_says_and_nothing_else(secure: SecureFleet, role: str) -> None:
    mine = secure.agent_certificate()[1] if role == "agent" else secure.person_certificate(role)
    with channel_of(secure.address, mine) as channel:
        for rpc in ALL_RPCS:
            code, said = call_and_hear(channel, rpc)
            denied = code is grpc.StatusCode.PERMISSION_DENIED and f"the role {role} may not call" in said
            assert denied == (role not in RPC_ROLES[rpc]), rpc


def test_an_agent_speaks_in_its_own_name_only(secure: SecureFleet) -> None:
    agent_id, mine = secure.agent_certificate()
    other_id, _ = secure.agent_certificate()
    hello = fleet_pb2.AgentMessage(hello=fleet_pb2.Hello(agent_id=other_id, name="mallory", boot_id="b"))
    batch = telemetry_pb2.SampleBatch(
        agent_id=other_id, boot_id="b", clock_id="c", source_id="s", seq=1, t_ns=[1, 2], power_w=[3.0, 4.0]
    )
    with channel_of(secure.address, mine) as channel:
        session = call(channel, "/harness.v1.Fleet/Session", hello.SerializeToString())
        samples = call(channel, "/harness.v1.Fleet/PushSamples", batch.SerializeToString())
        assert (session, samples) == (grpc.StatusCode.PERMISSION_DENIED,) * 2
        batch.agent_id = agent_id
        assert call(channel, "/harness.v1.Fleet/PushSamples", batch.SerializeToString()) is grpc.StatusCode.OK
    with sqlite3.connect(secure.database.removeprefix("sqlite:///")) as database:
        assert database.execute("select distinct agent_id from sample_segments").fetchall() == [(agent_id,)]
        assert database.execute("select count(*) from agents where name = 'mallory'").fetchone() == (0,)


def test_an_agents_token_serves_one_key_and_that_key_again(secure: SecureFleet, tmp_path: Path) -> None:
    token, agent_id = secure.token("agent"), str(uuid.uuid4())
    first = enrol(tmp_path / "one", secure.enrolment, token, agent_id=agent_id)
    again = enrol(tmp_path / "one", secure.enrolment, token, agent_id=agent_id)
    assert first.key == again.key
    with pytest.raises(EnrolmentError, match="used by another agent"):
        enrol(tmp_path / "two", secure.enrolment, token, agent_id=str(uuid.uuid4()))
    with pytest.raises(EnrolmentError, match="certificate under another key"):
        secure.agent_certificate(agent_id)


def test_tokens_that_are_wrong_expired_or_revoked_give_nothing(secure: SecureFleet, tmp_path: Path) -> None:
    good = secure.token("viewer")
    head, token_id, secret, ca = good.split(".")
    short = secure.token("agent", "0.001s")
    cases = {
        f"{head}.{token_id}.{'A' * len(secret)}.{ca}": "not known",
        f"{head}.nobody.{secret}.{ca}": "not known",
        short: "expired",
        good[:-40]: "not whole",
        "hello": "not whole",
    }
    for token, reason in cases.items():
        with pytest.raises(EnrolmentError, match=reason):
            enrol(tmp_path / uuid.uuid4().hex, secure.enrolment, token, agent_id=str(uuid.uuid4()), name="x")
    revoked = secure.token("agent")
    secure.administer("token", "revoke", revoked.split(".")[1])
    with pytest.raises(EnrolmentError, match="revoked"):
        enrol(tmp_path / "r", secure.enrolment, revoked, agent_id=str(uuid.uuid4()))


def test_the_database_and_the_log_hold_no_secret(secure: SecureFleet) -> None:
    made = secure.administer("token", "create", "--role", "viewer", "--ttl", "5m", "--note", "for the wall")
    assert "valid 5m" in made.stderr
    token = made.stdout.strip()
    secret = token.split(".")[2]
    listed = json.loads(secure.administer("token", "list", "--format", "json").stdout)
    (mine,) = [row for row in listed if row["id"] == token.split(".")[1]]
    assert (mine["role"], mine["subject"], mine["state"]) == ("viewer", "for the wall", "valid")
    assert secret not in json.dumps(listed)
    for path in secure.folder.glob("harness.db*"):
        assert secret.encode() not in path.read_bytes()
    assert secret not in secure.log("coordinator")


def test_a_revoked_agent_is_out_though_its_session_was_on(secure: SecureFleet) -> None:
    agent_id, mine = secure.agent_certificate()
    with channel_of(secure.address, mine) as channel:
        beats = _hello_and_heartbeats(agent_id)
        session = fleet_pb2_grpc.FleetStub(channel).Session(beats)
        assert next(session).HasField("welcome")
        assert "1 certificate" in secure.administer("token", "revoke", agent_id).stdout
        with pytest.raises(grpc.RpcError) as ended:
            for _ in session:
                pass
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
        assert call(channel, "/harness.v1.Fleet/Enroll") is grpc.StatusCode.UNAUTHENTICATED


def _hello_and_heartbeats(agent_id: str) -> Iterator[fleet_pb2.AgentMessage]:
    yield fleet_pb2.AgentMessage(
        hello=fleet_pb2.Hello(agent_id=agent_id, name=agent_id[:8], boot_id="b", clock_id="c")
    )
    until = time.monotonic() + 20
    while time.monotonic() < until:
        yield fleet_pb2.AgentMessage(heartbeat=fleet_pb2.Heartbeat(sent_monotonic_ns=1))
        time.sleep(0.1)  # the pace of a heartbeat, not a wait for anything


def test_certificates_are_renewed_before_they_end(own_fleet: SecureFleet) -> None:
    # Due after two thirds: four seconds are left for it on a busy machine.
    life_s = 12.0
    own_fleet.start_coordinator("127.0.0.1:0", "--certificate-days", str(life_s / 86400))
    own_fleet.join("box")
    folder = own_fleet.folder / "box" / "tls"
    first = Credentials.load(folder)
    assert first is not None

    def renewed() -> Credentials | None:
        held = Credentials.load(folder)
        return held if held is not None and held.ends > first.ends else None

    second = wait_for(renewed, "the certificate is renewed")
    assert second.key == first.key
    assert second.begins < first.ends, "renewed only after it had ended"
    ended_ns = int(first.ends.timestamp() * 1e9)
    heard_after = "select 1 from agents where name = 'box' and state = 'live' and last_seen_realtime_ns > ?"
    wait_for(lambda: own_fleet.query(heard_after, ended_ns), "the agent is heard after the first one's end")
    assert own_fleet.processes["box"].poll() is None


def test_a_key_that_others_can_read_is_refused_with_the_way_out(own_fleet: SecureFleet) -> None:
    key = own_fleet.folder / "co" / "tls" / "ca-key.pem"
    assert key.stat().st_mode & 0o077 == 0
    key.chmod(0o644)
    done = own_fleet.administer(
        "coordinator", "run", "--listen", "127.0.0.1:0", check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert f"chmod 600 {key}" in done.stderr


def test_an_agent_without_certificate_or_token_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [*HARNESS, "agent", "run", "--coordinator", "192.0.2.1:7411", "--state-dir", str(tmp_path)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "harness token create --role agent" in done.stderr


def test_a_viewer_on_the_command_line_reads_and_does_not_cancel(secure: SecureFleet) -> None:
    assert secure.run("jobs").returncode == 3
    secure.log_in("viewer")
    assert secure.run("jobs", "--format", "json", check=True).stdout.strip() == "[]"
    done = secure.run("job", "cancel", "any")
    assert (done.returncode, "viewer may not call CancelJob" in done.stderr) == (3, True)


def test_garbage_on_the_wire_harms_nobody(secure: SecureFleet) -> None:
    assert_survives_garbage(secure, rounds=40)


def assert_survives_garbage(fleet: SecureFleet, rounds: int) -> None:
    """Send malformed messages as a certified agent and as nobody: nothing of them is stored, and the rest goes on."""
    chance = random.Random(7)
    agent_id, mine = fleet.agent_certificate()
    mutated = MutatedBatches(agent_id, chance)
    with channel_of(fleet.address, mine) as channel:
        for number in range(rounds):
            noise = chance.randbytes(chance.randrange(1, 2000))
            call(channel, "/harness.v1.Fleet/Session", noise)
            call(channel, "/harness.v1.Fleet/PushSamples", mutated.next(number) if number % 4 else noise)
            if number % 20 == 0:
                for address in (fleet.address, fleet.enrolment):
                    host, _, port = address.rpartition(":")
                    with socket.create_connection((host, int(port)), timeout=5) as raw:
                        raw.sendall(noise)
    fleet.log_in("viewer")
    assert fleet.run("jobs").returncode == 0
    assert fleet.processes["coordinator"].poll() is None
    assert mutated.broken > rounds / 4, "too little was broken to learn anything"
    with sqlite3.connect(fleet.database.removeprefix("sqlite:///")) as database:
        stored = database.execute(
            "select boot_id, source_id, codec, payload from sample_segments where agent_id = ?",
            (agent_id,),
        ).fetchall()
        assert database.execute("select count(*) from agents where agent_id = ?", (agent_id,)).fetchone() == (
            0,
        )
    for boot_id, source_id, codec, payload in stored:
        columns = unpack(payload) if codec == PACKED else decode_segment(codec, payload)
        left = polls_of(boot_id, source_id, columns) - mutated.whole
        assert not left, f"something of a broken batch is stored: {left}"


def test_enrolment_is_limited_for_each_address() -> None:
    limit = RateLimit()
    tries = [limit.admits("ipv4:192.0.2.7", 0.0) for _ in range(PEER_BURST + 5)]
    assert tries == [True] * PEER_BURST + [False] * 5
    assert limit.admits("ipv4:192.0.2.8", 0.0), "another address is not held back"
    assert limit.admits("ipv4:192.0.2.7", 2.0), "and the first one may try again later"


def test_guessing_is_stopped_at_the_wire(secure: SecureFleet) -> None:
    ca = secure.folder / "co" / "tls" / "ca.pem"
    with grpc.secure_channel(
        secure.enrolment, grpc.ssl_channel_credentials(ca.read_bytes()), options=tls_options()
    ) as channel:
        codes = [call(channel, "/harness.v1.Fleet/Enroll") for _ in range(PEER_BURST + 10)]
    assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED


def _certificate_by(authority: Authority, folder: Path) -> tuple[bytes, bytes]:
    """Return key and certificate of an agent of another fleet."""
    from harness_agent import enrolment as client
    from harness_coordinator.authority import read_request

    key = client._own_key(folder / "forged")
    request = read_request(client._request(key, str(uuid.uuid4()), "forged"))
    issued = authority.sign_client(request, "agent", str(uuid.uuid4()), 1.0)
    return (folder / "forged" / client.KEY).read_bytes(), issued.pem

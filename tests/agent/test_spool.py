from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness_agent.spool import LaneName, LaneReader, Spool
from harness_agent.spool_segment import Record, encode, index_segment, read_records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BIG = 1 << 40
CONTROL, SAMPLES = LaneName.CONTROL, LaneName.SAMPLES


@contextmanager
def spool_at(folder: Path, boot: str = "boot-1", limit: int = BIG) -> Iterator[Spool]:
    spool = Spool(folder, boot, limit)
    try:
        yield spool
    finally:
        spool.close()


def tell(spool: Spool, lane: LaneName, text: str, source: str = "", samples: int = 0) -> int:
    return spool.append(lane, lambda seq: f"{seq}:{text}".encode(), source, samples)


def drain(reader: LaneReader) -> list[bytes]:
    found: list[bytes] = []
    while records := reader.read():
        found += [record.payload for record in records]
    return found


def test_messages_are_numbered_from_1_and_read_in_order(tmp_path: Path) -> None:
    with spool_at(tmp_path) as spool:
        assert [tell(spool, CONTROL, "a"), tell(spool, CONTROL, "b")] == [1, 2]
        assert [tell(spool, SAMPLES, "x", "gpu"), tell(spool, SAMPLES, "y", "cpu")] == [1, 1]
        assert spool.flush(5.0)
        assert drain(spool.reader(CONTROL)) == [b"1:a", b"2:b"]
        assert drain(spool.reader(SAMPLES)) == [b"1:x", b"1:y"]


def test_only_durable_messages_can_be_read_and_the_reader_is_told_when(tmp_path: Path) -> None:
    changed = threading.Event()
    spool = Spool(tmp_path, "boot-1", BIG, changed.set)
    reader = spool.reader(CONTROL)
    tell(spool, CONTROL, "a")
    assert changed.wait(5.0)
    assert drain(reader) == [b"1:a"]
    assert drain(reader) == []
    tell(spool, CONTROL, "b")
    assert spool.flush(5.0)
    assert drain(reader) == [b"2:b"]
    spool.close()


def test_what_is_not_acknowledged_survives_restarts_oldest_first(tmp_path: Path) -> None:
    with spool_at(tmp_path, "boot-b") as spool:
        for text in "abc":
            tell(spool, CONTROL, text)
        assert spool.flush(5.0)
        spool.acknowledge(CONTROL, "boot-b", "", 1)
    with spool_at(tmp_path, "boot-a") as spool:
        tell(spool, CONTROL, "d")
        assert spool.flush(5.0)
        # The acknowledgement of 1 is not on disk: sending it again costs nothing.
        assert drain(spool.reader(CONTROL)) == [b"1:a", b"2:b", b"3:c", b"1:d"]
        spool.acknowledge(CONTROL, "boot-b", "", 3)
        assert drain(spool.reader(CONTROL)) == [b"1:d"]
        assert len(list(tmp_path.iterdir())) == 1, "the older boot's folder is gone"
        spool.acknowledge(CONTROL, "boot-a", "", 1)
        assert not spool.pending(CONTROL)
    assert list(tmp_path.iterdir()) == [], "nothing is left of a spool that was acknowledged to its end"


def test_a_reader_skips_what_is_acknowledged_meanwhile(tmp_path: Path) -> None:
    with spool_at(tmp_path) as spool:
        for text in "abcd":
            tell(spool, CONTROL, text)
        assert spool.flush(5.0)
        spool.acknowledge(CONTROL, "boot-1", "", 2)
        assert drain(spool.reader(CONTROL)) == [b"3:c", b"4:d"]


def test_samples_are_acknowledged_by_source(tmp_path: Path) -> None:
    with spool_at(tmp_path) as spool:
        for source in ("gpu", "cpu", "gpu"):
            tell(spool, SAMPLES, source, source)
        assert spool.flush(5.0)
        spool.acknowledge(SAMPLES, "boot-1", "gpu", 2)
        assert drain(spool.reader(SAMPLES)) == [b"1:cpu"]
        assert spool.pending(SAMPLES)
        spool.acknowledge(SAMPLES, "boot-1", "cpu", 1)
        assert not spool.pending(SAMPLES)


def test_disk_use_does_not_grow_while_everything_is_acknowledged(tmp_path: Path) -> None:
    with spool_at(tmp_path) as spool:
        most = 0
        for _ in range(40):
            seq = tell(spool, CONTROL, "x" * 50_000)
            assert spool.flush(5.0)
            spool.acknowledge(CONTROL, "boot-1", "", seq)
            most = max(most, spool.size_bytes)
        assert most < 300_000
        assert spool.size_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.seg"))


def test_beyond_its_bound_the_oldest_samples_go_and_are_counted_but_no_result(tmp_path: Path) -> None:
    with spool_at(tmp_path, limit=100_000) as spool:
        tell(spool, CONTROL, "a result")
        for _ in range(60):
            tell(spool, SAMPLES, "x" * 5000, "gpu", samples=20)
            assert spool.flush(5.0)
        assert spool.size_bytes <= 115_000
        kept = [int(payload.partition(b":")[0]) for payload in drain(spool.reader(SAMPLES))]
        assert kept == list(range(61 - len(kept), 61)), "the newest are kept, without a hole"
        assert spool.dropped_samples == 20 * (60 - len(kept)) > 0
        assert drain(spool.reader(CONTROL)) == [b"1:a result"]
        assert spool.full_reason == ""


def test_results_beyond_the_bound_are_kept_and_said_to_be_too_many(tmp_path: Path) -> None:
    with spool_at(tmp_path, limit=20_000) as spool:
        for _ in range(10):
            tell(spool, CONTROL, "x" * 5000)
        assert spool.flush(5.0)
        assert "more than the spool's bound of 20000" in spool.full_reason
        assert len(drain(spool.reader(CONTROL))) == 10
        spool.acknowledge(CONTROL, "boot-1", "", 10)
        tell(spool, CONTROL, "small")
        assert spool.flush(5.0)
        assert spool.full_reason == ""


RECORDS = [Record(n, bytes([n]) * n * 7, f"source-{n % 2}", n) for n in range(1, 6)]


@given(cut=st.integers(0, sum(len(encode(record)) for record in RECORDS)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_torn_by_a_crash_costs_only_itself(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "control-00000001.seg"
    path.write_bytes(b"".join(encode(record) for record in RECORDS)[:cut])
    sizes = [len(encode(record)) for record in RECORDS]
    whole = [record for n, record in enumerate(RECORDS) if sum(sizes[: n + 1]) <= cut]
    assert [record for record, _ in read_records(path, 0)] == whole
    segment = index_segment(path, "boot")
    assert segment.size == sum(sizes[: len(whole)])
    assert segment.samples == sum(record.samples for record in whole)


@given(at=st.integers(0, 400), flip=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_never_handed_on_as_data(tmp_path: Path, at: int, flip: int) -> None:
    data = bytearray(b"".join(encode(record) for record in RECORDS))
    data[at % len(data)] ^= flip
    path = tmp_path / "control-00000001.seg"
    path.write_bytes(data)
    read = [record for record, _ in read_records(path, 0)]
    assert read == RECORDS[: len(read)]
    assert len(read) < len(RECORDS)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 3)),
            st.tuples(st.just("ack"), st.integers(0, 30)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=25,
    )
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_unacknowledged_is_ever_missing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    boot = 1
    spool = Spool(folder, f"boot-{boot}", BIG)
    waiting: list[tuple[int, int]] = []
    for step, number in steps:
        if step == "append":
            for _ in range(number):
                waiting.append((boot, tell(spool, CONTROL, f"{boot}:" + "x" * 20_000)))
        elif step == "ack":
            spool.flush(5.0)
            spool.acknowledge(CONTROL, f"boot-{boot}", "", number)
            waiting = [(of, seq) for of, seq in waiting if of != boot or seq > number]
        else:
            spool.close()
            boot += 1
            spool = Spool(folder, f"boot-{boot}", BIG)
        spool.flush(5.0)
        read = [tuple(map(int, payload.split(b":")[1::-1])) for payload in drain(spool.reader(CONTROL))]
        # An acknowledgement is not on disk, so after a restart more may come, never less, and in order.
        assert [key for key in read if key in waiting] == waiting
        assert read == sorted(set(read))
    spool.close()


KILLED = """
import sys, threading
from pathlib import Path
from harness_agent.spool import LaneName, Spool
spool = Spool(Path(sys.argv[1]), "boot-1", 1 << 40)
reader = spool.reader(LaneName.CONTROL)
def write():
    while True:
        for _ in range(20):
            spool.append(LaneName.CONTROL, lambda seq: b"%d:" % seq + b"x" * 3000)
        spool.append(LaneName.SAMPLES, lambda seq: b"y" * 3000, "gpu", 10)
        spool.flush(1.0)
threading.Thread(target=write, daemon=True).start()
while True:
    for record in reader.read():
        print(record.seq, flush=True)  # from here on it could have been sent, and acknowledged
"""


def test_kill_9_loses_nothing_that_could_have_been_sent(tmp_path: Path) -> None:
    for round_number in range(3):
        folder = tmp_path / str(round_number)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        sent = 0
        while sent < 100 * (round_number + 1):
            sent = int(process.stdout.readline())
        process.kill()
        rest, _ = process.communicate()
        sent = int(rest.split()[-1]) if rest.split() else sent
        with spool_at(folder, "boot-2") as spool:
            read = [int(payload.partition(b":")[0]) for payload in drain(spool.reader(CONTROL))]
        assert read == list(range(1, len(read) + 1))
        assert len(read) >= sent


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from harness_agent.spool import LaneName, Spool
# The kernel's own "file too large" stands in for the full disk: it needs no mount.
spool = Spool(Path(sys.argv[1]), "boot-1", 1 << 40)
def tell(text): spool.append(LaneName.CONTROL, lambda seq: text.encode() * 2000)
def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
tell("a")
assert spool.flush(5)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
tell("b")
tell("c")
until(lambda: spool.full_reason)
assert "no space left" in spool.full_reason, spool.full_reason
assert [r.payload[:1] for r in spool.reader(LaneName.CONTROL).read()] == [b"a"]
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
until(lambda: not spool.full_reason)
assert spool.flush(5)
reader = spool.reader(LaneName.CONTROL)
read = []
while records := reader.read():
    read += [r.payload[:1] for r in records]
assert read == [b"a", b"b", b"c"], read
spool.close()
"""


def test_a_full_disk_is_told_and_nothing_is_lost_when_there_is_room_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "spool")],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("takes no new work until there is room") == 1
    with spool_at(tmp_path / "spool", "boot-2") as spool:
        assert [payload[:1] for payload in drain(spool.reader(CONTROL))] == [b"a", b"b", b"c"]


def test_appending_never_waits_for_the_disk(tmp_path: Path) -> None:
    with spool_at(tmp_path) as spool:
        began_s = time.monotonic()
        for _ in range(2000):
            tell(spool, CONTROL, "x" * 500)
        elapsed_s = time.monotonic() - began_s
        assert spool.flush(20.0)
    assert elapsed_s < 2.0

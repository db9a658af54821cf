"""Samples: stored once, read exactly, compacted without losing a bit, rolled up by the second."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from harness_store import fleet, segments
from harness_store.compaction import QUIET_NS, SEGMENT_ROWS, due_sources
from harness_store.database import Store
from harness_store.errors import BadSegmentError
from harness_store.models import ARROW_ZSTD, PACKED, SAMPLES_1HZ, SampleSegment
from harness_store.sample_columns import DTYPES, NAMES, normalise, pack, unpack
from harness_store.segment_codec import decode_segment, encode_segment
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from tests.store.worlds import NOW, S, register

WHERE = {"agent_id": "a1", "source_id": "g", "clock_id": "c1"}


def _block(
    seq: int, t_ns: Any, source_id: str = "g", boot_id: str = "b1", **columns: Any
) -> segments.NewBlock:
    return segments.NewBlock(
        "a1", boot_id, source_id, "c1", seq, {"t_ns": np.asarray(t_ns, np.int64), **columns}
    )


def _second(seq: int, hz: int = 20) -> segments.NewBlock:
    t_ns = seq * S + np.arange(hz) * (S // hz)
    return _block(seq, t_ns, power_w=100.0 + np.sin(t_ns / 3e9))


def _codecs(c: Connection) -> dict[str, int]:
    rows = c.execute(select(SampleSegment.codec, func.count()).group_by(SampleSegment.codec))
    return {row[0]: row[1] for row in rows}


def _read(c: Connection, **window: int) -> dict[str, NDArray[Any]]:
    return segments.read_columns(c, **WHERE, **window)


def _same(one: Mapping[str, NDArray[Any]], two: Mapping[str, NDArray[Any]]) -> bool:
    """Whether columns are the same bit for bit; a NaN and a negative zero count too."""
    return list(one) == list(two) and all(
        one[n].dtype == two[n].dtype and one[n].tobytes() == two[n].tobytes() for n in one
    )


def test_a_block_that_is_sent_again_changes_nothing(store: Store) -> None:
    with store.begin() as c:
        register(c)
        assert segments.append_blocks(c, [_second(1), _second(2), _second(1)]) == 2
    with store.begin() as c:
        assert segments.append_blocks(c, [_second(2), _second(3)]) == 1
        assert len(_read(c)["t_ns"]) == 60
        assert c.execute(select(func.sum(SAMPLES_1HZ.c.n))).scalar() == 60


def test_a_block_that_arrives_late_is_not_taken_for_one_that_was_there(store: Store) -> None:
    with store.begin() as c:
        register(c)
        segments.append_blocks(c, [_second(1), _second(3)])
        segments.compact(c, everything=True)
        assert segments.append_blocks(c, [_second(2)]) == 1
        assert segments.append_blocks(c, [_second(2), _second(1), _second(3)]) == 0
        assert np.array_equal(_read(c)["t_ns"] // S, np.repeat([1, 2, 3], 20))


def test_of_batches_sent_together_those_that_are_new_are_stored(store: Store) -> None:
    def joined(first: int, last: int) -> segments.NewBlock:
        t_ns = np.concatenate([_second(seq).columns["t_ns"] for seq in range(first, last + 1)])
        columns = {"t_ns": t_ns, "power_w": t_ns / 1e9}
        return segments.NewBlock("a1", "b1", "g", "c1", first, columns, (20,) * (last - first + 1))

    with store.begin() as c:
        register(c)
        assert segments.append_blocks(c, [joined(3, 5)]) == 3
        assert segments.append_blocks(c, [joined(1, 8), joined(7, 9), _second(4)]) == 6
        assert segments.append_blocks(c, [joined(2, 6), _second(9)]) == 0
        ranges = c.execute(
            select(SampleSegment.seq_first, SampleSegment.seq_last).order_by(SampleSegment.seq_first)
        ).all()
        assert [tuple(r) for r in ranges] == [(1, 2), (3, 5), (6, 8), (9, 9)]
        assert np.array_equal(_read(c)["t_ns"] // S, np.repeat(np.arange(1, 10), 20))
        assert c.execute(select(func.sum(SAMPLES_1HZ.c.n))).scalar() == 180


def test_the_same_number_of_another_process_or_source_is_another_block(store: Store) -> None:
    with store.begin() as c:
        register(c)
        blocks = [_block(1, [5]), _block(1, [6], boot_id="b2"), _block(1, [7], source_id="g2")]
        assert segments.append_blocks(c, blocks) == 3
        assert _read(c)["t_ns"].tolist() == [5, 6]
        assert segments.covered_until_ns(c, "a1", "g", "c1") == 6
        assert segments.covered_until_ns(c, "a1", "g", "c1", boot_id="b1") == 5
        assert segments.covered_until_ns(c, "a1", "g", "other clock") is None


def test_a_window_is_read_with_both_ends_in_order_and_each_time_once(store: Store) -> None:
    with store.begin() as c:
        register(c)
        blocks = [
            _block(1, [10, 30, 20], power_w=np.array([1.0, 3.0, 2.0])),
            _block(2, [30, 40], power_w=np.array([99.0, 4.0])),
            _block(1, [25, 35], boot_id="b2"),
        ]
        segments.append_blocks(c, blocks)
        found = _read(c, start_ns=20, end_ns=35)
        assert found["t_ns"].tolist() == [20, 25, 30, 35]
        np.testing.assert_array_equal(found["power_w"], [2.0, np.nan, 3.0, np.nan])
        assert _read(c, start_ns=41, end_ns=50)["t_ns"].size == 0
        assert list(_read(c, start_ns=100)) == ["t_ns"]
        pieces = list(segments.iter_columns(c, **WHERE, start_ns=20, end_ns=35))
        assert np.concatenate([p["t_ns"] for p in pieces]).tolist() == [20, 25, 30, 35]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t_ns": np.zeros(0, np.int64)}, "at least one time"),
        ({"power_w": np.ones(3)}, "at least one time"),
        ({"t_ns": np.arange(3), "power_w": np.ones(2)}, "power_w has 2 values for 3 times"),
        ({"t_ns": np.arange(3), "watts": np.ones(3)}, "no column 'watts'"),
    ],
)
def test_columns_that_do_not_fit_are_refused_and_nothing_is_stored(
    store: Store, columns: dict[str, NDArray[Any]], message: str
) -> None:
    bad = segments.NewBlock("a1", "b1", "g", "c1", 2, columns)
    with pytest.raises(BadSegmentError, match=message), store.begin() as c:
        segments.append_blocks(c, [_second(1), bad])
    with store.read() as c:
        assert _codecs(c) == {}


floats = st.one_of(
    st.floats(width=64),
    st.integers(-(10**9), 10**9).map(lambda i: i / 1000),
    st.sampled_from([0.0, -0.0, np.nan, np.inf, 5e-324, 1.7976931348623157e308, 0.1, 2.0**53, 1e15 + 0.001]),
)


@st.composite
def column_sets(draw: st.DrawFn) -> dict[str, NDArray[Any]]:
    """Columns as an agent may send them, and stranger ones."""
    rows = draw(st.integers(1, 30))
    found: dict[str, NDArray[Any]] = {"t_ns": draw(hnp.arrays(np.int64, rows))}
    for name in draw(st.lists(st.sampled_from(NAMES[1:]), unique=True)):
        if DTYPES[name].kind == "i":
            found[name] = draw(hnp.arrays(np.int64, rows))
        else:
            found[name] = np.array(draw(st.lists(floats, min_size=rows, max_size=rows))).astype(DTYPES[name])
    return found


@settings(deadline=None, max_examples=150)
@given(column_sets())
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_no_form_of_storage_changes_a_bit(columns: dict[str, NDArray[Any]]) -> None:
    wanted = normalise(columns)
    assert _same(unpack(pack(wanted)), wanted)
    assert _same(decode_segment(ARROW_ZSTD, encode_segment(wanted)), wanted)


def test_a_cut_or_foreign_payload_is_refused() -> None:
    packed = pack(normalise({"t_ns": np.arange(3)}))
    for payload in (packed[:-1], packed[:3], b"\x09" + packed[1:]):
        with pytest.raises(BadSegmentError, match="stored block"):
            unpack(payload)
    segment = encode_segment(normalise({"t_ns": np.arange(3)}))
    with pytest.raises(BadSegmentError, match="cannot be read"):
        decode_segment(ARROW_ZSTD, segment[:40])
    with pytest.raises(BadSegmentError, match="'parquet', which this version cannot read"):
        decode_segment("parquet", segment)


def test_ten_minutes_of_blocks_become_one_segment_and_read_the_same(store: Store) -> None:
    blocks = [_second(seq) for seq in range(1, 1000)]
    with store.begin() as c:
        register(c)
        segments.append_blocks(c, blocks, now_ns=NOW)
        before = _read(c)
        done = segments.compact(c, now_ns=NOW)
        assert (done.segments, done.blocks, done.more) == (1, SEGMENT_ROWS // 20, False)
        assert _codecs(c) == {ARROW_ZSTD: 1, PACKED: 399}
        assert _same(_read(c), before)
        assert segments.append_blocks(c, blocks[:5] + blocks[-5:]) == 0
        assert segments.compact(c, now_ns=NOW).segments == 0
        # The source falls silent: what is left is compacted too.
        assert segments.compact(c, now_ns=NOW + QUIET_NS + 1).blocks == 399
        assert _codecs(c) == {ARROW_ZSTD: 2}
        assert _same(_read(c), before)
        assert segments.append_blocks(c, [blocks[7], blocks[700]]) == 0
        window = _read(c, start_ns=590 * S, end_ns=610 * S)
        assert (window["t_ns"][0], window["t_ns"][-1], window["t_ns"].size) == (590 * S, 610 * S, 401)


def test_a_slow_source_is_cut_by_time(store: Store) -> None:
    with store.begin() as c:
        register(c)
        segments.append_blocks(c, [_second(seq, hz=1) for seq in range(1, 1300)], now_ns=NOW)
        assert segments.compact(c, now_ns=NOW).segments == 2
        spans = c.execute(
            select(SampleSegment.end_ns - SampleSegment.start_ns).where(SampleSegment.codec == ARROW_ZSTD)
        ).scalars()
        assert [round(span / S) for span in spans] == [600, 600]


def test_a_backlog_is_compacted_in_several_transactions(store: Store) -> None:
    with store.begin() as c:
        register(c)
        blocks = [_block(seq, [seq], source_id=f"g{i}") for i in range(20) for seq in (1, 2)]
        segments.append_blocks(c, blocks, now_ns=NOW)
        done = [segments.compact(c, now_ns=NOW, everything=True) for _ in range(2)]
        assert [(d.segments, d.more) for d in done] == [(16, True), (4, False)]


def test_sources_that_are_due_are_found_and_compacted_by_name(store: Store) -> None:
    with store.begin() as c:
        register(c)
        long = [_block(seq, [seq * S], source_id=name) for name in ("g0", "g1") for seq in (1, 700)]
        segments.append_blocks(c, [*long, _block(1, [5], source_id="g2")], now_ns=NOW)
    with store.read() as c:
        due = due_sources(c, now_ns=NOW)
        assert due == [("a1", "b1", "g0"), ("a1", "b1", "g1")]
        assert len(due_sources(c, now_ns=NOW + QUIET_NS + 1)) == 3
    with store.begin() as c:
        assert segments.compact(c, now_ns=NOW + QUIET_NS + 1, sources=due).segments == 4
        assert due_sources(c, now_ns=NOW + QUIET_NS + 1) == [("a1", "b1", "g2")]


def test_a_second_that_arrives_in_two_blocks_is_one_row(store: Store) -> None:
    def rows(c: Connection) -> list[Any]:
        return list(c.execute(select(*SAMPLES_1HZ.columns).order_by(SAMPLES_1HZ.c.second)))

    with store.begin() as c:
        register(c)
        fleet.heartbeat(
            c, agent_id="a1", boot_id="b1", now_ns=NOW, clock_offset_ns=5e9, clock_offset_error_ns=1.0
        )
        segments.append_blocks(
            c,
            [
                _block(
                    1,
                    [S - 1, S, S + 10],
                    power_w=np.array([7.0, 10.0, np.nan]),
                    energy_j=np.array([1.0, 2.0, 3.0]),
                    temperature_c=np.array([40.0, 41.0, 45.0]),
                )
            ],
        )
        before, second = rows(c)
        assert (before.second, before.n, before.power_w_avg, before.realtime_s) == (0, 1, 7.0, 5.0)
        assert (second.n, second.power_n, second.power_w_avg, second.energy_j_last) == (2, 1, 10.0, 3.0)
        segments.append_blocks(c, [_block(2, [S + 20, S + 30], power_w=np.array([16.0, 40.0]))])
        _, second = rows(c)
    assert (second.n, second.power_n, second.power_w_avg) == (4, 3, 22.0)
    assert (second.power_w_min, second.power_w_max) == (10.0, 40.0)
    assert (second.energy_j_last, second.temperature_c_max, second.memory_used_bytes_max) == (3.0, 45.0, None)


def test_a_source_without_power_has_a_roll_up_without_power(store: Store) -> None:
    with store.begin() as c:
        register(c)
        segments.append_blocks(c, [_block(1, [5, 6], energy_j=np.array([1.0, 2.0]))])
        segments.append_blocks(c, [_block(2, [7], energy_j=np.array([np.nan]))])
        (row,) = c.execute(select(*SAMPLES_1HZ.columns))
    assert (row.n, row.power_n, row.power_w_avg, row.power_w_min, row.energy_j_last) == (
        3,
        0,
        None,
        None,
        2.0,
    )
    assert row.realtime_s is None


def test_two_streams_of_one_agent_store_each_block_once(store: Store) -> None:
    with store.begin() as c:
        register(c)
    new: list[int] = []

    def send() -> None:
        for start in range(1, 61, 3):
            with store.begin() as c:
                new.append(segments.append_blocks(c, [_second(seq) for seq in range(start, start + 5)]))
                if start % 20 == 1:
                    segments.compact(c, everything=True)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    with store.read() as c:
        assert sum(new) == 62
        assert len(_read(c)["t_ns"]) == 62 * 20
        assert c.execute(select(func.sum(SAMPLES_1HZ.c.n))).scalar() == 62 * 20
        assert c.execute(select(func.sum(SampleSegment.row_count))).scalar() == 62 * 20

from __future__ import annotations

import numpy as np
import pytest
from harness_agent.sample_ranges import MOST_BATCHES, join_batches
from harness_coordinator.sample_columns import MalformedBatchError, columns_of, columns_of_range
from harness_proto.v1 import telemetry_pb2
from hypothesis import given
from hypothesis import strategies as st


def batch(
    seq: int, source_id: str = "gpu", clock_id: str = "c", **columns: object
) -> telemetry_pb2.SampleBatch:
    return telemetry_pb2.SampleBatch(
        agent_id="a", boot_id="b", clock_id=clock_id, source_id=source_id, seq=seq,
        t_ns=[seq * 10, seq * 10 + 1], half_width_ns=[7, 2**32 - 1], **columns,
    )  # fmt: skip


def joined(*batches: telemetry_pb2.SampleBatch) -> telemetry_pb2.SampleBatch:
    return telemetry_pb2.SampleBatch.FromString(join_batches("a", [b.SerializeToString() for b in batches]))


def test_batches_that_follow_each_other_are_one_range_and_a_gap_or_another_clock_begins_another() -> None:
    message = joined(batch(1), batch(1, "cpu"), batch(2), batch(4), batch(5, clock_id="d"), batch(2, "cpu"))
    found = {(r.source_id, r.seq_first): list(r.rows) for r in message.ranges}
    assert found == {("gpu", 1): [2, 2], ("gpu", 4): [2], ("gpu", 5): [2], ("cpu", 1): [2, 2]}
    assert (message.agent_id, message.seq, len(message.t_ns)) == ("a", 0, 0)
    long = joined(*(batch(seq) for seq in range(1, MOST_BATCHES + 2)))
    assert [len(r.rows) for r in long.ranges] == [MOST_BATCHES, 1]


number = st.floats(width=32)


@given(st.lists(st.tuples(number, number, st.booleans()), min_size=1, max_size=5))
def test_a_range_holds_every_bit_of_its_batches(values: list[tuple[float, float, bool]]) -> None:
    batches = [
        batch(
            seq, energy_j=[a, b], temperature_c=[b, a] if warm else [], throttle_bits=[0, 9] if warm else []
        )
        for seq, (a, b, warm) in enumerate(values, 1)
    ]
    (made,) = joined(*batches).ranges
    whole = columns_of_range(made)
    for i, one in enumerate(batches):
        for name, expected in columns_of(one).items():
            assert np.array_equal(whole[name][2 * i : 2 * i + 2], expected, equal_nan=True), name
        if not one.temperature_c and "temperature_c" in whole:
            assert np.isnan(whole["temperature_c"][2 * i : 2 * i + 2]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"power_w": b"\0" * 15},
        {"t_ns": b"\0" * 8},
        {"rows": [2, 0, 2]},
        {"rows": []},
        {"source_id": ""},
        {"seq_first": 0},
        {"seq_first": 2**63 - 1},
    ],
)
def test_a_range_whose_parts_do_not_fit_is_malformed(change: dict[str, object]) -> None:
    (good,) = joined(batch(1), batch(2)).ranges
    columns_of_range(good)
    fields = {f.name: v for f, v in good.ListFields()}
    with pytest.raises(MalformedBatchError):
        columns_of_range(telemetry_pb2.SampleRange(**{**fields, **change}))

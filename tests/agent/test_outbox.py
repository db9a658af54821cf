from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from harness_agent.inventory import source_message
from harness_agent.outbox import Outbox, to_batch
from harness_agent.sample_blocks import SampleBlock
from harness_agent.spool import LaneName, Spool
from harness_backends.telemetry.source import NAN, SourceInfo
from harness_proto.v1 import fleet_pb2, telemetry_pb2, work_pb2


def block(source_id: str = "gpu", count: int = 3) -> SampleBlock:
    power = np.array([NAN, 100.0, 101.5])[:count]
    return SampleBlock(
        source_id,
        {
            "t_ns": np.arange(count, dtype=np.int64) * 50_000_000 + 10**15,
            "half_width_ns": np.full(count, 7, np.int64),
            "power_w": power,
            "throttle_bits": np.array([0, 1, 4], np.int64)[:count],
        },
    )


def test_a_missing_value_travels_as_nan_and_a_missing_column_as_nothing() -> None:
    batch = telemetry_pb2.SampleBatch.FromString(to_batch(block()).SerializeToString())
    assert list(batch.t_ns) == [10**15, 10**15 + 50_000_000, 10**15 + 100_000_000]
    assert math.isnan(batch.power_w[0])
    assert list(batch.power_w[1:]) == [100.0, 101.5]
    assert list(batch.throttle_bits) == [0, 1, 4]
    assert not batch.energy_j
    assert not batch.memory_used_bytes


def test_a_read_that_took_longer_than_four_seconds_does_not_break_the_batch() -> None:
    slow = block()
    slow.columns["half_width_ns"][0] = 2**33
    assert to_batch(slow).half_width_ns[0] == 2**32 - 1


def test_unknown_numbers_of_a_source_stay_unset() -> None:
    message = source_message(
        SourceInfo("s", "nvidia", "d", "name", "gpu", "power", has_power=True, power_period_s=0.1)
    )
    assert message.power_period_s == 0.1
    assert not message.HasField("max_power_w")
    assert not message.HasField("counter_wrap_j")


def test_every_message_names_its_agent_boot_and_number(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "boot-1", 1 << 30)
    outbox = Outbox(spool, "agent-1", "boot-1", "clock-1")
    outbox.event("clock_step", "by an hour")
    outbox.run_update(fleet_pb2.RunUpdate(run_id="run-1"))
    outbox.samples(block("gpu"))
    outbox.samples(block("cpu"))
    outbox.samples(block("gpu"))
    assert spool.flush(5.0)
    messages = [fleet_pb2.AgentMessage.FromString(r.payload) for r in spool.reader(LaneName.CONTROL).read()]
    assert [(m.agent_id, m.boot_id, m.seq) for m in messages] == [
        ("agent-1", "boot-1", 1),
        ("agent-1", "boot-1", 2),
    ]
    assert messages[1].run_update.clock_id == "clock-1"
    batches = [telemetry_pb2.SampleBatch.FromString(r.payload) for r in spool.reader(LaneName.SAMPLES).read()]
    assert [(b.source_id, b.seq, b.clock_id) for b in batches] == [
        ("gpu", 1, "clock-1"),
        ("cpu", 1, "clock-1"),
        ("gpu", 2, "clock-1"),
    ]
    spool.close()


def test_results_are_on_their_way_until_acknowledged_and_warm_ups_never(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "boot-1", 1 << 30)
    outbox = Outbox(spool, "agent-1", "boot-1", "clock-1")
    for number in range(3):
        outbox.generation(
            work_pb2.Generation(task_id=f"task-{number}", attempt=1, run_id="r", start_ns=number)
        )
    outbox.generation(work_pb2.Generation(task_id="warmup/r/0", attempt=1, warmup=True))
    assert spool.flush(5.0)
    assert [result.task_id for result in outbox.results_on_their_way()] == ["task-0", "task-1", "task-2"]
    outbox.acknowledge("another-boot", 9)
    assert len(outbox.results_on_their_way()) == 3
    outbox.acknowledge("boot-1", 2)
    assert [result.task_id for result in outbox.results_on_their_way()] == ["task-2"]
    spool.close()

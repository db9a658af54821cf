"""Messages with bytes that were changed, and what of them may be in the database afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import numpy as np
from google.protobuf.message import DecodeError
from harness_proto.v1 import telemetry_pb2
from harness_store.sample_columns import DTYPES
from numpy.typing import NDArray

Poll = tuple[str, str, frozenset[tuple[str, bytes]]]
"""Boot, source and the raw bytes of what was read."""

Polls = dict[str, bytes]
"""Columns of one batch as the store's raw bytes."""


class MutatedBatches:
    """Makes broken batches and remembers those that are whole all the same: a changed digit is still a number."""

    def __init__(self, agent_id: str, chance: random.Random) -> None:
        self._agent_id = agent_id
        self._chance = chance
        self.whole: set[Poll] = set()
        self.broken = 0

    def next(self, number: int) -> bytes:
        """Return the bytes of one, in turn as a batch of its own and as a range of two."""
        seq, times = 2 * number + 1, np.arange(2, dtype="<i8") + 10 * number
        good = telemetry_pb2.SampleBatch(agent_id=self._agent_id)
        if number % 2:
            good.MergeFrom(
                telemetry_pb2.SampleBatch(
                    boot_id="b", clock_id="c", source_id="s", seq=seq, t_ns=times, power_w=[3.0, 4.0]
                )
            )
        else:
            one = telemetry_pb2.SampleRange(
                boot_id="b", clock_id="c", source_id="s", seq_first=seq, rows=[1, 1], t_ns=times.tobytes(),
                power_w=np.array([3.0, 4.0]).tobytes(),
            )  # fmt: skip
            good.ranges.append(one)
        changed = bytearray(good.SerializeToString())
        for _ in range(3):
            changed[self._chance.randrange(len(changed))] = self._chance.randrange(256)
        self._note(bytes(changed))
        return bytes(changed)

    def _note(self, payload: bytes) -> None:
        found = list(_whole(payload, self._agent_id))
        self.broken += not found
        for (boot_id, source_id), polls in found:
            columns = {name: np.frombuffer(raw, DTYPES[name]) for name, raw in polls.items()}
            self.whole.update(polls_of(boot_id, source_id, columns))


def polls_of(boot_id: str, source_id: str, columns: Mapping[str, NDArray[np.generic]]) -> set[Poll]:
    """Return every poll bit for bit, without what it lacks: batches may be stored in parts or joined."""
    found: set[Poll] = set()
    for i in range(len(columns["t_ns"])):
        told = {name: values[i] for name, values in columns.items()}
        known = {n: v.tobytes() for n, v in told.items() if n == "t_ns" or (v == v and bool(v))}  # noqa: PLR0124
        found.add((boot_id, source_id, frozenset(known.items())))
    return found


def _whole(payload: bytes, agent_id: str) -> Iterator[tuple[tuple[str, str], Polls]]:
    try:
        message = telemetry_pb2.SampleBatch.FromString(payload)
    except DecodeError:
        return
    if message.agent_id != agent_id:
        return
    for each in message.ranges or (message,):
        is_range = isinstance(each, telemetry_pb2.SampleRange)
        seq = each.seq_first if is_range else each.seq
        rows = sum(each.rows) if is_range else len(each.t_ns)
        polls: Polls = {}
        for name, dtype in DTYPES.items():
            wire = np.dtype("<u4") if name in {"half_width_ns", "throttle_bits"} else dtype
            raw = getattr(each, name)
            values = raw if is_range else np.array(raw, wire).tobytes()
            if not values:
                continue
            if len(values) != rows * wire.itemsize:
                break
            polls[name] = np.frombuffer(values, wire).astype(dtype).tobytes()
        else:
            if "t_ns" in polls and each.source_id and each.boot_id and 0 < seq < 2**63:
                yield (each.boot_id, each.source_id), polls

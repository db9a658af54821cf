"""Sources of the wire as rows of the store, and rows of the store as traits for the energy code."""

from __future__ import annotations

import json
import math

from harness_proto.v1 import telemetry_pb2
from harness_store.fleet import SourceRecord

from harness_coordinator.energy.records import SourceTraits

ESTIMATE_GAIN_ERROR = 0.5
"""Watts per busy core from a table are right to within half at best: clock, vector width and memory traffic move
the power of one core by more than that. The bounds of an estimate must say so."""

_OPTIONAL = (
    "counter_resolution_j",
    "counter_wrap_j",
    "max_power_w",
    "power_period_s",
    "counter_period_s",
    "averaging_s",
    "memory_total_bytes",
)


def source_record(info: telemetry_pb2.SourceInfo) -> SourceRecord:
    """Return the row of a source; what the agent does not know is None."""
    numbers = {
        name: getattr(info, name) if info.HasField(name) and math.isfinite(getattr(info, name)) else None
        for name in _OPTIONAL
    }
    return SourceRecord(
        source_id=info.source_id,
        vendor=info.vendor,
        device_id=info.device_id,
        device_name=info.device_name,
        scope=info.scope,
        energy_source=info.energy_source,
        has_energy=info.has_energy,
        has_power=info.has_power,
        contained_in=info.contained_in,
        facts_json=json.dumps(dict(info.facts)),
        notes_json=json.dumps(list(info.notes)),
        **numbers,
    )


def traits_of(record: SourceRecord) -> SourceTraits:
    """Return what the energy code must know of a source; unknown numbers are NaN."""

    def number(value: float | None) -> float:
        return math.nan if value is None else value

    return SourceTraits(
        source_id=record.source_id,
        scope=record.scope,
        device_id=record.device_id,
        energy_source=record.energy_source,
        counter_wrap_j=number(record.counter_wrap_j),
        counter_resolution_j=number(record.counter_resolution_j),
        max_power_w=number(record.max_power_w),
        power_period_s=number(record.power_period_s),
        counter_period_s=number(record.counter_period_s),
        averaging_s=number(record.averaging_s),
        contained_in=record.contained_in,
        gain_error=ESTIMATE_GAIN_ERROR if record.energy_source == "estimated" else math.nan,
    )

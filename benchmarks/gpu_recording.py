"""Recordings of an NVIDIA GPU's instruments under known loads: how they are made, read and measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness_agent.learning import discover_learned
from harness_agent.sample_blocks import SampleBlock
from harness_agent.sampler import Sampler
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import (
    Float64,
    Int64,
    QueryColumns,
    SampleColumns,
    SourceEnergy,
    SourceTraits,
)

from benchmarks.machine import machine

QUIET_S = 10.0
POLLED_HZ = 75.0
"""Faster than the agent polls, to see when readings change; figures are made from as many polls as an agent has."""
AGENT_POLL_NS = 40_000_000
EDGE_TICKS = 2
"""Whole ticks after a burst that its energy may still arrive in."""


def record(folder: Path) -> None:
    """Record the first NVIDIA GPU under the bursts, with the agent's own sampler."""
    found = discover_learned(("nvidia",), with_host=False)
    if not found.sources:
        sys.exit("; ".join(f"{finding.subject}: {finding.detail}" for finding in found.findings))
    info = found.sources[0].info
    folder.mkdir(parents=True, exist_ok=True)
    cores = _cores_of_sampling()
    blocks: list[SampleBlock] = []
    sampler = Sampler(found.sources[:1], blocks.append, POLLED_HZ)
    sampler.start()
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_bursts", str(folder / "bursts.parquet")], check=False
    )
    sampler.stop()
    if child.returncode:
        sys.exit(child.returncode)
    names = ("t_ns", "half_width_ns", "energy_j", "power_w", "power_avg_w")
    columns = {name: np.concatenate([block.columns[name] for block in blocks]) for name in names}
    pq.write_table(pa.table(columns), folder / "samples.parquet", compression="zstd")
    facts = {
        "device": info.device_name,
        "driver": info.facts.get("driver", ""),
        "machine": machine(),
        "max_power_w": info.max_power_w,
        "averaging_s": info.averaging_s,
        "counter_period_s": info.counter_period_s,
        "power_period_s": info.power_period_s,
        "sampler_cores": round(cores, 5),
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")


def _cores_of_sampling() -> float:
    """Processor time of an agent's sampler at the rate that it chooses, a second."""
    found = discover_learned(("nvidia",), with_host=False)
    sampler = Sampler(found.sources[:1], lambda _: None)
    sampler.start()
    before = time.process_time()
    time.sleep(QUIET_S)
    used_s = time.process_time() - before
    sampler.stop()
    return used_s / QUIET_S


class Recording:
    """One recording: polls, bursts and facts."""

    def __init__(self, samples: dict[str, np.ndarray], bursts: dict[str, np.ndarray], facts: dict) -> None:
        """Take columns of samples and bursts, and the facts of the device."""
        self.samples, self.bursts, self.facts = samples, bursts, facts

    @classmethod
    def read(cls, folder: Path) -> Recording:
        """Read a folder that `record` wrote."""
        samples, bursts = (
            {name: table[name].to_numpy() for name in table.column_names}
            for table in (pq.read_table(folder / f"{name}.parquet") for name in ("samples", "bursts"))
        )
        return cls(samples, bursts, json.loads((folder / "facts.json").read_text()))

    def part(self, name: str) -> tuple[Int64, Int64]:
        """Start and end of each burst of a part, ns."""
        mine = self.bursts["part"] == name
        return self.bursts["start_ns"][mine], self.bursts["end_ns"][mine]

    def traits(self) -> SourceTraits:
        """What the energy code is told of the device."""
        facts = self.facts
        return SourceTraits(
            "gpu",
            "gpu",
            counter_resolution_j=1e-3,
            max_power_w=facts["max_power_w"],
            averaging_s=facts["averaging_s"],
            counter_period_s=facts["counter_period_s"],
            power_period_s=facts["power_period_s"],
        )

    def polls(self, begin_ns: int, end_ns: int, *, counter: bool = True) -> SampleColumns:
        """The polls of a time, with or without the counter."""
        s = self.samples
        inside = (s["t_ns"] >= begin_ns) & (s["t_ns"] <= end_ns)
        energy = s["energy_j"][inside] if counter else np.zeros(0)
        return SampleColumns(s["t_ns"][inside], energy, s["power_w"][inside], s["half_width_ns"][inside])

    def period_s(self) -> float:
        """The counter's period over the whole recording: what a second of watching tells is off by a thousandth."""
        seen_ns, _ = self.ticks()
        count = np.rint(np.diff(seen_ns) * 1e-9 / self.facts["counter_period_s"]).sum()
        return float((seen_ns[-1] - seen_ns[0]) * 1e-9 / count)

    def ticks(self) -> tuple[Int64, Float64]:
        """When each change of the counter was seen, ns, and its value, J."""
        changed = np.flatnonzero(np.diff(self.samples["energy_j"])) + 1
        return self.samples["t_ns"][changed], self.samples["energy_j"][changed]


def caused_j(recording: Recording, start: Int64, end: Int64) -> Float64:
    """Energy of each burst, the idle power under it included, from whole ticks between idle times, J."""
    tick_ns, tick_j = recording.ticks()
    period_s = recording.period_s()
    first = np.searchsorted(tick_ns, start) - 1
    last = np.searchsorted(tick_ns, end + int(EDGE_TICKS * period_s * 1e9)) + 1
    count = np.rint((tick_ns[last] - tick_ns[first]) * 1e-9 / period_s)
    idle = np.append(first[1:], first[-1])
    quiet_j, quiet = tick_j[idle] - tick_j[last], np.rint((tick_ns[idle] - tick_ns[last]) * 1e-9 / period_s)
    idle_j = np.where(quiet > 0, quiet_j / np.maximum(quiet, 1), np.nan)
    idle_j = np.where(np.isnan(idle_j), np.nanmedian(idle_j), idle_j)
    return tick_j[last] - tick_j[first] - count * idle_j + idle_j / period_s * (end - start) * 1e-9


def singles_measured(recording: Recording) -> SourceEnergy:
    """Measure the single bursts as an agent's polls of them would be."""
    start, end = recording.part("singles")
    begin, finish = int(start[0]) - 1_000_000_000, int(end[-1]) + 1_000_000_000
    unknown = np.full(len(start), np.nan)
    queries = QueryColumns(start, np.zeros(len(start), np.int64), end, unknown, unknown)
    samples = agent_polls(recording.polls(begin, finish))
    return measure_source(recording.traits(), samples, queries, (begin, finish), attribution="time")


def agent_polls(samples: SampleColumns) -> SampleColumns:
    """As many polls as an agent makes, at places as uneven."""
    chance = np.random.default_rng(7)
    keep, due = [0], int(samples.t_ns[0])
    for index, t_ns in enumerate(samples.t_ns.tolist()):
        if t_ns >= due:
            keep.append(index)
            due = t_ns - (t_ns - due) % AGENT_POLL_NS + int(AGENT_POLL_NS * chance.uniform(0.6, 1.4))
    rows = np.array(keep[1:])
    return SampleColumns(
        samples.t_ns[rows], samples.energy_j[rows], samples.power_w[rows], samples.half_width_ns[rows]
    )

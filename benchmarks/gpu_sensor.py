"""What an NVIDIA GPU's own instruments see of loads whose times are known, and what is made of it.

    python -m benchmarks.gpu_sensor record FOLDER   on a machine with the GPU and PyTorch; 3.5 minutes
    python -m benchmarks.gpu_sensor FOLDER          prints the figures of a recording, anywhere
    python -m benchmarks.gpu_sensor plot FOLDER FILE.png

`record` polls with the agent's own sampler while `benchmarks.gpu_bursts` works: 25 ms of every 100 ms (as long as
Hopper's power reading is blind between looks), single bursts of 5 to 500 ms, and a steady product.

There is no external meter. What stands for the truth is the counter over whole ticks that begin and end in idle time:
energy of the ticks around a burst, less the idle power of the ticks beside it. That the counter misses nothing between
the looks of the power reading is itself shown, by the beats: the reading's mean over all phases is the counter's power.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
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

from benchmarks.energy_peers import last_minus_first
from benchmarks.gpu_bursts import BEAT_PERIOD_S, SINGLE_S
from benchmarks.machine import machine, markdown_table

QUIET_S = 10.0
POLLED_HZ = 75.0
"""Faster than the agent polls, to see when readings change; figures are made from as many polls as an agent has."""
AGENT_POLL_NS = 40_000_000
PHASES = 20
EDGE_TICKS = 2
"""Whole ticks after a burst that its energy may still arrive in."""


def main() -> None:
    """Record, or print the figures of a recording."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="+", metavar="[record | plot] FOLDER [FILE]")
    words = parser.parse_args().words
    if words[0] == "record" and len(words) == 2:
        record(Path(words[1]))
    elif words[0] == "plot" and len(words) == 3:
        plot(Recording.read(Path(words[1])), Path(words[2]))
    elif len(words) == 1:
        print(show(Recording.read(Path(words[0]))))
    else:
        parser.error("say `record FOLDER`, `plot FOLDER FILE` or `FOLDER`")


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


def show(recording: Recording) -> str:
    """Return the figures as Markdown."""
    facts = recording.facts
    return "\n".join(
        [
            f"{facts['device']}, driver {facts['driver']}, counter every {1e3 * facts['counter_period_s']:.1f} ms, "
            f"power every {1e3 * facts['power_period_s']:.1f} ms; on {facts['machine']}.",
            "",
            *beats(recording),
            "",
            singles(recording),
            "",
            f"Sampling one GPU at the agent's rate took {100 * facts['sampler_cores']:.1f} % of a core.",
        ]
    )


def beats(recording: Recording) -> list[str]:
    """Bursts in step with the power reading: what 1 s of its readings integrates to, against the counter."""
    start, end = recording.part("beats")
    s = recording.samples
    windows = np.arange(start[0] + 1_000_000_000, end[-1] - 2_000_000_000, 250_000_000)

    def watts(name: str) -> Float64:
        known = ~np.isnan(s[name])
        t_s, value = (s["t_ns"][known] - start[0]) * 1e-9, s[name][known]
        energy = np.append(0.0, np.cumsum((value[1:] + value[:-1]) / 2 * np.diff(t_s)))
        begin = (windows - start[0]) * 1e-9
        return np.interp(begin + 1, t_s, energy) - np.interp(begin, t_s, energy)

    tick_ns, tick_j = recording.ticks()
    inside = (tick_ns > start[0] + 500_000_000) & (tick_ns < end[-1] - 500_000_000)
    period_s = recording.period_s()
    steps = int(np.rint((tick_ns[inside][-1] - tick_ns[inside][0]) * 1e-9 / period_s))
    counter_w = float((tick_j[inside][-1] - tick_j[inside][0]) / (steps * period_s))
    tens = tick_j[inside][10:] - tick_j[inside][:-10]
    lines = [
        f"Bursts of 25 ms every 100 ms for {(end[-1] - start[0]) * 1e-9:.0f} s; counter {counter_w:.1f} W."
    ]
    for what, value in (
        ("ten ticks of the counter", tens / (10 * period_s)),
        ("1 s of the instantaneous power integrated", watts("power_w")),
        ("1 s of the 1 s average integrated", watts("power_avg_w")),
    ):
        off = 100 * (value / counter_w - 1)
        lines.append(
            f"- {what}: {off.min():+.1f} to {off.max():+.1f} %, {np.median(off):+.1f} % in the median"
        )
    off = 100 * (phase_mean_w(recording) / counter_w - 1)
    lines.append(f"- the instantaneous power's mean over all phases of the beat: {off:+.1f} %")
    return lines


def plot(recording: Recording, path: Path) -> None:
    """Draw the beat of the power reading with a load, and the joules of single bursts, against the counter."""
    plt.switch_backend("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    start, end = recording.part("beats")
    s = recording.samples
    inside = (s["t_ns"] > start[0]) & (s["t_ns"] < end[-1])
    left.plot(
        (s["t_ns"][inside] - start[0]) * 1e-9,
        s["power_w"][inside],
        lw=0.7,
        label="power reading (25 of 100 ms)",
    )
    tick_ns, tick_j = recording.ticks()
    kept = (tick_ns > start[0]) & (tick_ns < end[-1])
    t_s, energy_j = (tick_ns[kept] - start[0]) * 1e-9, tick_j[kept]
    left.plot(
        t_s[10:], (energy_j[10:] - energy_j[:-10]) / (t_s[10:] - t_s[:-10]), label="energy counter, over 1 s"
    )
    left.set(title="25 ms of work every 100 ms: steady power", xlabel="time, s", ylabel="W", ylim=(0, None))
    left.legend(fontsize=8, loc="upper right")
    first, last = recording.part("singles")
    true, found = caused_j(recording, first, last), singles_measured(recording).queries.joules
    mine = recording.bursts["part"] == "singles"
    at_edges = (recording.bursts["counter_end_j"] - recording.bursts["counter_start_j"])[mine]
    length_s = (last - first) * 1e-9
    for what, value in (("this harness", found), ("counter read at the edges", at_edges)):
        shares = [
            value[k].sum() / true[k].sum()
            for k in (np.abs(length_s / nominal - 1) < 0.3 for nominal in SINGLE_S)
        ]
        right.semilogx(
            [1e3 * nominal for nominal in SINGLE_S], [100 * share for share in shares], "o-", label=what
        )
    right.axhline(100, color="grey", lw=0.8)
    right.set(
        title="Single bursts: joules found", xlabel="burst, ms", ylabel="% of what it caused", ylim=(-5, 115)
    )
    right.legend(fontsize=8, loc="lower right")
    figure.suptitle(f"{recording.facts['device']}, driver {recording.facts['driver']}", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def phase_mean_w(recording: Recording) -> float:
    """Mean power over the phases of the beat at which the reading was renewed, each phase counted once, W."""
    s = recording.samples
    start, end = recording.part("beats")
    renewed = np.flatnonzero(np.diff(s["power_w"])) + 1
    at_ns = (s["t_ns"][renewed] + s["t_ns"][renewed - 1]) // 2
    inside = (at_ns > start[0] + 1_000_000_000) & (at_ns < end[-1])
    at_ns, watts = at_ns[inside], s["power_w"][renewed][inside]
    phase = (at_ns - start[np.searchsorted(start, at_ns) - 1]) * 1e-9 / BEAT_PERIOD_S
    slot = np.clip((phase * PHASES).astype(int), 0, PHASES - 1)
    sums, counts = np.bincount(slot, watts, PHASES), np.bincount(slot, minlength=PHASES)
    filled = counts > 0
    means = np.interp(np.arange(PHASES), np.flatnonzero(filled), sums[filled] / counts[filled], period=PHASES)
    return float(means.mean())


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
    samples = _agent_polls(recording.polls(begin, finish))
    return measure_source(recording.traits(), samples, queries, (begin, finish), attribution="time")


def singles(recording: Recording) -> str:
    """Single bursts: ours and others' arithmetic against what each caused."""
    start, end = recording.part("singles")
    true = caused_j(recording, start, end)
    result = singles_measured(recording)
    ours = result.queries
    mine = recording.bursts["part"] == "singles"
    at_edges = (recording.bursts["counter_end_j"] - recording.bursts["counter_start_j"])[mine]
    polled = last_minus_first(_agent_polls(recording.polls(int(start[0]), int(end[-1]))), start, end)
    length_s = (end - start) * 1e-9
    rows: list[list[str]] = []
    for nominal_s in SINGLE_S:
        k = np.abs(length_s / nominal_s - 1) < 0.3
        mean = float(true[k].mean())

        def against(value: Float64, k: np.ndarray = k, mean: float = mean) -> str:
            return f"{100 * (float(value[k].mean()) / mean - 1):+.1f} %"

        held = (ours.joules_low[k] <= true[k]) & (true[k] <= ours.joules_high[k])
        width = float(np.median((ours.joules_high[k] - ours.joules_low[k]) / ours.joules[k]))
        rows.append(
            [
                f"{1e3 * nominal_s:.0f} ms",
                f"{mean:.2f} ± {float(true[k].std(ddof=1)) / np.sqrt(k.sum()):.2f} J",
                against(ours.joules),
                f"{100 * float(held.mean()):.0f} %",
                f"{100 * width:.0f} %",
                against(at_edges),
                against(polled),
            ]
        )
    heading = [
        "burst",
        "caused",
        "ours",
        "bounds hold",
        "their width",
        "counter at the edges",
        "last minus first poll",
    ]
    told = (
        f"{len(start)} single bursts; activity explains {100 * result.explained:.1f} % of the ticks' variance, the "
        f"stamps lead the counter by {-1e3 * result.lag_s:.1f} ± {1e3 * result.lag_standard_error_s:.1f} ms."
    )
    return f"{told}\n\n{markdown_table(heading, rows)}"


def _agent_polls(samples: SampleColumns) -> SampleColumns:
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


if __name__ == "__main__":
    main()

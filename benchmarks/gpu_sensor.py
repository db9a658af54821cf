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
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from harness_coordinator.energy.records import Float64

from benchmarks.energy_peers import last_minus_first
from benchmarks.gpu_bursts import BEAT_PERIOD_S, SINGLE_S
from benchmarks.gpu_recording import Recording, agent_polls, caused_j, record, singles_measured
from benchmarks.machine import markdown_table

PHASES = 20


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


def singles(recording: Recording) -> str:
    """Single bursts: ours and others' arithmetic against what each caused."""
    start, end = recording.part("singles")
    true = caused_j(recording, start, end)
    result = singles_measured(recording)
    ours = result.queries
    mine = recording.bursts["part"] == "singles"
    at_edges = (recording.bursts["counter_end_j"] - recording.bursts["counter_start_j"])[mine]
    polled = last_minus_first(agent_polls(recording.polls(int(start[0]), int(end[-1]))), start, end)
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


if __name__ == "__main__":
    main()

"""Figures on recordings made by others: an external meter beside nvidia-smi, MLPerf's wall meter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import Float64, QueryColumns, SampleColumns, SourceTraits
from harness_coordinator.recorded import read_samples

from benchmarks.energy_rows import Row
from benchmarks.gpu_bursts import SINGLE_S
from benchmarks.gpu_recording import Recording, caused_j, singles_measured

H200 = Path(__file__).resolve().parent / "recordings" / "nvidia-h200"
RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data" / "power"


def recording_rows() -> Iterator[Row]:
    """Rows on the recordings; those of others only where they lie beside the checkout."""
    yield from _h200()
    if not RECORDINGS.is_dir():
        return
    yield _partial_sensor()
    yield from _cards()
    yield _bounds_without_activity()
    yield _mlperf()


def _windows(start_s: Float64, end_s: Float64) -> QueryColumns:
    unknown = np.full(len(start_s), np.nan)
    start, end = (np.rint(t * 1e9).astype(np.int64) for t in (start_s, end_s))
    return QueryColumns(start, np.zeros(len(start), np.int64), end, unknown, unknown)


def _card_and_meter(card: str) -> tuple[SampleColumns, Float64, Float64, Float64]:
    folder = RECORDINGS / "nvml-vs-meter" / card
    polls, meter = pq.read_table(folder / "nvml.parquet"), pq.read_table(folder / "meter.parquet")
    power = polls["power_draw_w"].to_numpy().astype(np.float64)
    samples = SampleColumns(polls["t_ns"].to_numpy().astype(np.int64), np.zeros(0), power)
    t_s, power_w = meter["t_ns"].to_numpy() * 1e-9, meter["power_w"].to_numpy().astype(np.float64)
    energy = np.append(0.0, np.cumsum((power_w[1:] + power_w[:-1]) / 2 * np.diff(t_s)))
    return samples, t_s, power_w, energy


def _h200() -> Iterator[Row]:
    recording = Recording.read(H200)
    start, end = recording.part("singles")
    true, found = caused_j(recording, start, end), singles_measured(recording).queries
    held = (found.joules_low <= true) & (true <= found.joules_high)
    at_edges = recording.bursts["counter_end_j"] - recording.bursts["counter_start_j"]
    at_edges = at_edges[recording.bursts["part"] == "singles"]
    for low_s, high_s, reach in ((0.04, 0.15, 2.0), (0.15, 0.6, 1.0)):
        k = (end - start > low_s * 1e9) & (end - start < high_s * 1e9)
        off, others = (100 * float(value[k].sum() / true[k].sum() - 1) for value in (found.joules, at_edges))
        names = [f"{1e3 * s:.0f}" for s in SINGLE_S if low_s < s < high_s]
        yield Row(
            f"recorded H200, {k.sum()} bursts of {' and '.join(names)} ms: joules against what they caused",
            f"within {reach:.0f} %; 99 % inside the bounds",
            f"{off:+.2f} %; {100 * float(held[k].mean()):.0f} % inside",
            f"counter read at the edges (zeus): {others:+.0f} %",
            abs(off) <= reach and float(held[k].mean()) >= 0.99,
        )


def _partial_sensor() -> Row:
    samples, t_s, power_w, energy = _card_and_meter("A100-5050")
    change = np.diff((np.convolve(power_w, np.ones(20) / 20, "same") > 130).astype(int))
    up, down = t_s[np.flatnonzero(change > 0)], t_s[np.flatnonzero(change < 0)]
    down = down[down > up[0]]
    bursts = _windows(up[: len(down)], down[: len(up)])
    start = np.linspace(1.6, 8.3, 60)
    true = np.interp(start + 1.0, t_s, energy) - np.interp(start, t_s, energy)

    def ratio(inside: str) -> Float64:
        found = [
            measure_source(
                SourceTraits("a100"),
                samples,
                _windows(np.array([at]), np.array([at + 1.0])),
                (int(1.5e9), int(9.4e9)),
                inside=inside,
                activity=bursts,
            ).queries.joules[0]
            for at in start
        ]
        return np.array(found) / true

    integrated, fitted = np.abs(ratio("linear") - 1), ratio("shape")
    gain = float(np.median(fitted))
    scatter = 100 * float(np.abs(fitted / gain - 1).max())
    return Row(
        "recorded A100, 52 ms bursts, power readings only: 1 s windows against the meter",
        "scatter about one gain ≤ 1 %",
        f"largest {scatter:.2f} % about a gain of {100 * (gain - 1):+.1f} %",
        f"nvidia-smi integrated: {100 * np.median(integrated):.0f} % median, {100 * integrated.max():.0f} % worst",
        scatter <= 1,
    )


def _cards() -> Iterator[Row]:
    for card in ("A100-5050", "4090-transient"):
        samples, t_s, _, energy = _card_and_meter(card)
        begin, end = max(t_s[0], samples.t_ns[0] * 1e-9), min(t_s[-1], samples.t_ns[-1] * 1e-9)
        run = int(begin * 1e9), int(end * 1e9)
        whole = _windows(np.array([begin]), np.array([end]))
        result = measure_source(SourceTraits(card), samples, whole, run, inside="linear")
        meter_j = float(np.interp(end, t_s, energy) - np.interp(begin, t_s, energy))
        yield Row(
            f"nvidia-smi against the meter, {card}, whole overlap",
            "stated; meter inside the bounds",
            f"{result.device_joules:.1f} J ({100 * (result.device_joules / meter_j - 1):+.2f} %), "
            f"bounds {result.device_joules_low:.0f} to {result.device_joules_high:.0f} J",
            f"meter: {meter_j:.1f} J",
            result.device_joules_low <= meter_j <= result.device_joules_high,
        )


def _bounds_without_activity() -> Row:
    held: list[bool] = []
    width: list[float] = []
    for card in ("A100-5050", "4090-transient"):
        samples, t_s, _, energy = _card_and_meter(card)
        begin, end = max(t_s[0], samples.t_ns[0] * 1e-9) + 0.6, min(t_s[-1], samples.t_ns[-1] * 1e-9) - 0.6
        for at in np.linspace(begin, end - 1.0, 60):
            window, run = _windows(np.array([at]), np.array([at + 1.0])), (int(begin * 1e9), int(end * 1e9))
            row = measure_source(SourceTraits(card), samples, window, run, inside="linear").queries
            meter_j = float(np.interp(at + 1.0, t_s, energy) - np.interp(at, t_s, energy))
            held.append(bool(row.joules_low[0] <= meter_j <= row.joules_high[0]))
            width.append(float(row.joules_high[0] - row.joules_low[0]) / meter_j)
    return Row(
        "both cards, 1 s windows without known activity: meter inside the bounds",
        "≥ 99 % of windows",
        f"{100 * float(np.mean(held)):.0f} % of {len(held)}; width {100 * float(np.median(width)):.0f} % in the median",
        "no other tool gives bounds",
        float(np.mean(held)) >= 0.99,
    )


def _mlperf() -> Row:
    off: list[float] = []
    mean_off: list[float] = []
    for folder in sorted((RECORDINGS / "mlperf-v4.1-h200x8").iterdir()):
        window = json.loads((folder / "window.json").read_text())
        begin, end = window["begin_ns"], window["end_ns"]
        samples = read_samples(folder / "meter.parquet").samples
        inside = (samples.t_ns >= begin) & (samples.t_ns <= end)
        mean_off.append(abs(float(samples.power_w[inside].mean()) - window["published_average_w"]))
        whole = _windows(np.array([begin * 1e-9]), np.array([end * 1e-9]))
        result = measure_source(SourceTraits("meter", gain_error=0.001), samples, whole, (begin, end))
        off.append(abs(result.device_joules / ((end - begin) * 1e-9) / window["published_average_w"] - 1))
    return Row(
        "MLPerf v4.1, 8 × H200, four runs: our average power against the published one",
        "within 0.02 % (their plain mean of samples within 0.01 W)",
        f"largest difference {100 * max(off):.3f} %; plain mean off by {max(mean_off):.3f} W",
        "published averages",
        max(off) <= 2e-4 and max(mean_off) <= 0.01,
    )

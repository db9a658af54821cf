"""Against the world: an external meter beside nvidia-smi, and MLPerf's published averages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import Float64, QueryColumns, SampleColumns, SourceTraits
from harness_coordinator.recorded import read_samples

pq = pytest.importorskip("pyarrow.parquet")

RUNS = ("gptj-99-offline", "gptj-99-server", "llama2-70b-99-offline", "llama2-70b-99-server")


def _windows(start_s: Float64, end_s: Float64) -> QueryColumns:
    unknown = np.full(len(start_s), np.nan)
    start, end = (np.rint(t * 1e9).astype(np.int64) for t in (start_s, end_s))
    return QueryColumns(start, np.zeros(len(start), np.int64), end, unknown, unknown)


@pytest.mark.parametrize("run", RUNS)
def test_mlperf_averages_come_out_as_published(shared_data: Path, run: str) -> None:
    folder = shared_data / "power" / "mlperf-v4.1-h200x8" / run
    window = json.loads((folder / "window.json").read_text())
    begin, end = window["begin_ns"], window["end_ns"]
    recorded = read_samples(folder / "meter.parquet")
    inside = (recorded.samples.t_ns >= begin) & (recorded.samples.t_ns <= end)
    assert recorded.samples.power_w[inside].mean() == pytest.approx(window["published_average_w"], abs=0.01)
    result = measure_source(
        SourceTraits("meter", gain_error=0.001),
        recorded.samples,
        _windows(np.array([begin]) / 1e9, np.array([end]) / 1e9),
        (begin, end),
    )
    average_w = result.queries.joules[0] / ((end - begin) * 1e-9)
    assert average_w == pytest.approx(window["published_average_w"], rel=2e-4)
    assert result.method == "power-linear"
    assert result.coverage == 1.0


def _card_and_meter(folder: Path) -> tuple[SampleColumns, Float64, Float64, Float64]:
    card = pq.read_table(folder / "nvml.parquet")
    meter = pq.read_table(folder / "meter.parquet")
    samples = SampleColumns(
        card["t_ns"].to_numpy().astype(np.int64),
        np.zeros(0),
        card["power_draw_w"].to_numpy().astype(np.float64),
    )
    t_s, power_w = meter["t_ns"].to_numpy() * 1e-9, meter["power_w"].to_numpy().astype(np.float64)
    energy = np.append(0.0, np.cumsum((power_w[1:] + power_w[:-1]) / 2 * np.diff(t_s)))
    return samples, t_s, power_w, energy


def _bursts(t_s: Float64, power_w: Float64) -> tuple[Float64, Float64]:
    """When the load ran, from the meter smoothed over 4 ms: above the middle of its two levels."""
    smooth = np.convolve(power_w, np.ones(20) / 20, "same")
    change = np.diff((smooth > 130).astype(int))
    up, down = t_s[np.flatnonzero(change > 0)], t_s[np.flatnonzero(change < 0)]
    down = down[down > up[0]]
    return up[: len(down)], down[: len(up)]


def test_a_partial_sensor_on_a_recorded_a100_scatters_about_one_gain(shared_data: Path) -> None:
    samples, t_s, power_w, energy = _card_and_meter(shared_data / "power" / "nvml-vs-meter" / "A100-5050")
    bursts = _windows(*_bursts(t_s, power_w))
    start = np.linspace(1.6, 8.3, 200)
    asked = _windows(start, start + 1.0)
    true = np.interp(start + 1.0, t_s, energy) - np.interp(start, t_s, energy)
    run = int(1.5e9), int(9.4e9)

    def ratio(inside: str) -> Float64:
        # Windows overlap, so each is integrated by itself and not shared.
        joules = [
            measure_source(
                SourceTraits("a100"), samples, _one(asked, k), run, inside=inside, activity=bursts
            ).queries.joules[0]
            for k in range(0, 200, 8)
        ]
        return np.array(joules) / true[::8]

    integrated, fitted = ratio("linear"), ratio("shape")
    assert np.median(np.abs(integrated - 1)) > 0.2
    gain = np.median(fitted)
    assert 0.90 < gain < 0.97
    assert np.abs(fitted / gain - 1).max() <= 0.01


def _one(queries: QueryColumns, row: int) -> QueryColumns:
    return QueryColumns(
        queries.start_ns[row : row + 1],
        queries.first_token_ns[row : row + 1],
        queries.end_ns[row : row + 1],
        queries.prompt_tokens[row : row + 1],
        queries.output_tokens[row : row + 1],
    )


@pytest.mark.parametrize(
    ("card", "low", "high"), [("A100-5050", -0.02, 0.01), ("4090-transient", -0.08, -0.04)]
)
def test_nvidia_smi_is_this_far_from_the_meter(
    shared_data: Path, card: str, low: float, high: float, record_property: Callable[[str, object], None]
) -> None:
    samples, t_s, _, energy = _card_and_meter(shared_data / "power" / "nvml-vs-meter" / card)
    begin, end = max(t_s[0], samples.t_ns[0] * 1e-9), min(t_s[-1], samples.t_ns[-1] * 1e-9)
    whole = _windows(np.array([begin]), np.array([end]))
    result = measure_source(
        SourceTraits(card), samples, whole, (int(begin * 1e9), int(end * 1e9)), inside="linear"
    )
    meter_j = float(np.interp(end, t_s, energy) - np.interp(begin, t_s, energy))
    difference = result.device_joules / meter_j - 1
    record_property(
        "nvidia_smi_against_meter", f"{card}: {result.device_joules:.1f} J, meter {meter_j:.1f} J"
    )
    assert low < difference < high
    assert result.device_joules_low < meter_j < result.device_joules_high


@pytest.mark.parametrize("card", ["A100-5050", "4090-transient"])
@pytest.mark.parametrize("length_s", [0.25, 1.0, 3.0])
def test_bounds_without_known_activity_hold_the_meter(shared_data: Path, card: str, length_s: float) -> None:
    samples, t_s, _, energy = _card_and_meter(shared_data / "power" / "nvml-vs-meter" / card)
    begin, end = max(t_s[0], samples.t_ns[0] * 1e-9) + 0.6, min(t_s[-1], samples.t_ns[-1] * 1e-9) - 0.6
    start = np.linspace(begin, end - length_s, 30)
    asked = _windows(start, start + length_s)
    meter_j = np.interp(start + length_s, t_s, energy) - np.interp(start, t_s, energy)
    for k in range(30):
        run = int(begin * 1e9), int(end * 1e9)
        result = measure_source(SourceTraits(card), samples, _one(asked, k), run, inside="linear")
        assert result.queries.joules_low[0] <= meter_j[k] <= result.queries.joules_high[0]
        assert "unseen_time" in result.queries.flags[0]

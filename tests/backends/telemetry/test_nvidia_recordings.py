"""Recorded cards, seen by a meter and by nvidia-smi at once, replayed through the stand-in NVML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from harness_backends.telemetry.nvidia import NvidiaProvider

from tests.standins.play import PowerCurve, Stage
from tests.standins.stage import nvml_on_stage


def _curve(path: Path, column: str) -> PowerCurve:
    table = pq.read_table(path)
    t_s = table["t_ns"].to_numpy() * 1e-9
    return PowerCurve(t_s, table[column].to_numpy().astype(float), linear=True)


@pytest.mark.parametrize(
    ("recording", "column", "meter_j", "nvml_j"),
    [("A100-5050", "power_instant_w", 1156.3, 1146.8), ("4090-transient", "power_draw_w", 2892.9, 2728.5)],
)
def test_replayed_meter_and_nvidia_smi_give_their_energies(
    recording: str, column: str, meter_j: float, nvml_j: float, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "power" / "nvml-vs-meter" / recording
    meter, nvml = _curve(folder / "meter.parquet", "power_w"), _curve(folder / "nvml.parquet", column)
    begin_s, end_s = max(meter.t_s[0], nvml.t_s[0]), min(meter.t_s[-1], nvml.t_s[-1])
    for curve, expected_j in ((meter, meter_j), (nvml, nvml_j)):
        shifted = PowerCurve(curve.t_s - begin_s + 5.0, curve.power_w, linear=True)
        with nvml_on_stage(
            Stage(shifted, settings={"counter_period_s": 0.02}), tmp_path / "stage"
        ) as control:
            control.set_time_s(1.0)
            source = NvidiaProvider(control.now_ns).discover()[0][0]
            energy_j = []
            for t_s in (5.0, 5.0 + end_s - begin_s):
                control.set_time_s(float(t_s))
                reading = source.read()
                assert reading is not None
                energy_j.append(reading.energy_j)
            source.close()
        # One counter tick at either end is what a bare difference may be off by.
        assert energy_j[1] - energy_j[0] == pytest.approx(expected_j, abs=0.02 * float(np.max(curve.power_w)))
        assert curve.energy_j(float(begin_s), float(end_s)) == pytest.approx(expected_j, rel=2e-3)

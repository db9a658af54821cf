from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harness_backends.telemetry.amd import AmdProvider
from harness_backends.telemetry.amd_source import AmdReadError, celsius, energy_joules, number
from harness_backends.telemetry.source import Finding, Source, SourceGone

from tests.standins.build import BUILD, build_library
from tests.standins.play import Stage, constant, random_steps, square
from tests.standins.stage import Control, Play, amdsmi_on_stage, stages_of

MI300 = {"device_name": "AMD Instinct MI300X", "limit_w": 750}


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    with stages_of(amdsmi_on_stage, tmp_path / "stage") as begin:
        yield begin


def _open(control: Control) -> tuple[list[Source], list[Finding]]:
    return AmdProvider(control.now_ns).discover()


def test_mi300_has_current_power_and_a_counter(play: Play) -> None:
    control = play(Stage(constant(640), devices=2, settings={**MI300, "driver_version": "6.12.12"}))
    sources, findings = _open(control)
    info = sources[0].info
    assert (info.vendor, info.scope, info.energy_source) == ("amd", "gpu", "counter")
    assert info.device_name == "AMD Instinct MI300X"
    assert info.facts["power_reading"] == "current_socket_power"
    assert info.facts["driver"] == "6.12.12"
    assert info.max_power_w == 750
    assert info.memory_total_bytes == 81920 * 2**20
    assert len({source.info.source_id for source in sources}) == 2
    assert all(finding.available for finding in findings)
    reading = sources[0].read()
    assert reading is not None
    assert reading.power_w == 640
    assert math.isnan(reading.power_avg_w)


def test_counter_follows_the_truth(play: Play) -> None:
    control = play(Stage(random_steps(5, 60), settings={"counter_period_s": 0.001}))
    source = _open(control)[0][0]
    energies = []
    for t_s in (20.0, 50.0):
        control.set_time_s(t_s)
        reading = source.read()
        assert reading is not None
        energies.append(reading.energy_j)
    assert energies[1] - energies[0] == pytest.approx(control.true_energy_j(20.0, 50.0), abs=0.5)


def test_older_generations_tell_an_average_and_it_is_said(play: Play) -> None:
    control = play(
        Stage(square(100, 300, 4.0), settings={"generation": "mi200", "device_name": "AMD Instinct MI210"})
    )
    sources, findings = _open(control)
    assert sources[0].info.facts["power_reading"] == "average_socket_power"
    assert "average power only" in findings[0].detail
    control.set_time_s(24.5)
    reading = sources[0].read()
    assert reading is not None
    assert reading.power_w == pytest.approx(control.true_energy_j(23.5, 24.5), abs=1)
    assert reading.power_avg_w == reading.power_w


@pytest.mark.parametrize("value", ["N/A", 0xFFFF, 0xFFFFFFFF, 2**64 - 1, None, True, "0"])
def test_every_encoding_of_missing_is_absent(value: object) -> None:
    assert math.isnan(number(value))


@pytest.mark.parametrize("missing", [0xFFFF, 0xFFFFFFFF, 2**64 - 1])
def test_missing_power_is_never_a_number_of_watts(missing: int, play: Play) -> None:
    control = play(Stage(constant(200), settings={"generation": "silent", "missing": missing}))
    source = _open(control)[0][0]
    assert not source.info.has_power
    assert source.info.has_energy
    reading = source.read()
    assert reading is not None
    assert math.isnan(reading.power_w)


def test_energy_key_of_old_and_new_wrappers() -> None:
    new = {"energy_accumulator": 1_000_000, "counter_resolution": 15.300000190734863, "timestamp": 1}
    old = {"power": 1_000_000, "counter_resolution": 15.300000190734863, "timestamp": 1}
    assert energy_joules(new) == energy_joules(old) == pytest.approx(15.3)
    assert math.isnan(energy_joules({}))


@pytest.mark.parametrize(
    ("told", "degrees"), [(47, 47.0), (47_000, 47.0), (0xFFFF, math.nan), ("N/A", math.nan)]
)
def test_temperature_off_by_a_thousand_is_put_right(told: object, degrees: float) -> None:
    assert celsius(told) == pytest.approx(degrees, nan_ok=True)


@pytest.mark.parametrize(("temperature", "refused"), [(61, ""), (61_000, ""), (61, "temperature_hotspot 2")])
def test_slow_values(temperature: int, refused: str, play: Play) -> None:
    settings = {
        "temperature_c": temperature,
        "memory_used_mib": 3000,
        "utilisation": 80,
        "sm_clock_mhz": 1900,
    }
    control = play(Stage(constant(200), settings=settings, statuses=[refused] if refused else []))
    source = _open(control)[0][0]
    control.set_time_s(20.0)
    reading = source.read()
    assert reading is not None
    assert reading.temperature_c == 61
    assert reading.memory_used_bytes == 3000 * 2**20
    assert reading.utilisation == 0.8
    assert reading.sm_clock_mhz == 1900
    control.set_time_s(20.1)
    reading = source.read()
    assert reading is not None
    assert math.isnan(reading.temperature_c)


def test_partitions_of_one_package_are_counted_once(play: Play) -> None:
    # Two packages in CPX-like mode, four partitions each; only the primary answers for power.
    silent = {"status": ["amdsmi_get_power_info 2", "amdsmi_get_energy_count 2"]}
    per_device = {i: {"physical": i // 4, "partition": i % 4, **(silent if i % 4 else {})} for i in range(8)}
    sources, findings = _open(play(Stage(constant(500), devices=8, settings=MI300, per_device=per_device)))
    assert len(sources) == 2
    assert "4 partitions share this package" in sources[0].info.notes[0]
    left_out = [finding for finding in findings if not finding.available]
    assert len(left_out) == 6
    assert "partition 1 of gpu 0" in left_out[0].detail


@pytest.mark.parametrize("generation", ["silent", "zero"])
def test_mi250_odd_dies_report_nothing_and_are_no_source(generation: str, play: Play) -> None:
    odd = {"generation": generation, "status": ["amdsmi_get_energy_count 2"]}
    stage = Stage(
        constant(400),
        devices=4,
        settings={"device_name": "AMD Instinct MI250X", "generation": "mi200"},
        per_device={1: odd, 3: odd},
    )
    sources, findings = _open(play(stage))
    assert [source.info.facts["index"] for source in sources] == ["0", "2"]
    assert "both dies" in sources[0].info.notes[0]
    assert [finding.detail for finding in findings if not finding.available] == [
        "second die of an MI250: gpu 0 reports the energy of both dies",
        "second die of an MI250: gpu 2 reports the energy of both dies",
    ]


def test_card_whose_power_call_fails_keeps_its_counter(play: Play) -> None:
    control = play(Stage(constant(200), statuses=["amdsmi_get_power_info 2", "amdsmi_get_power_cap_info 2"]))
    source = _open(control)[0][0]
    assert (source.info.has_power, source.info.has_energy) == (False, True)
    assert math.isnan(source.info.max_power_w)


def test_a_counter_at_zero_after_a_reset_is_a_counter(play: Play) -> None:
    control = play(Stage(constant(200), settings={"reset_s": 10.0}))
    source = _open(control)[0][0]
    assert source.info.has_energy
    reading = source.read()
    assert reading is not None
    assert reading.energy_j == 0


def test_zero_joules_beside_no_power_is_no_counter(play: Play) -> None:
    sources, _ = _open(play(Stage(constant(200), settings={"reset_s": 10.0, "generation": "silent"})))
    assert sources == []


def test_gpu_without_any_sensor_is_no_source(play: Play) -> None:
    sources, findings = _open(
        play(Stage(constant(1), statuses=["amdsmi_get_power_info 2", "amdsmi_get_energy_count 2"]))
    )
    assert sources == []
    assert "neither power nor energy" in findings[0].detail


def test_passing_refusals_are_errors_and_lasting_ones_are_the_end(play: Play) -> None:
    control = play(Stage(constant(200), statuses=["amdsmi_get_power_info 30 20 25", "* 30 25 30", "* 31 30"]))
    source = _open(control)[0][0]
    control.set_time_s(21.0)
    reading = source.read()
    assert reading is not None
    assert math.isnan(reading.power_w)
    assert np.isfinite(reading.energy_j)
    control.set_time_s(26.0)
    with pytest.raises(AmdReadError, match="amdsmi_get_power_info"):
        source.read()
    control.set_time_s(31.0)
    with pytest.raises(SourceGone, match="no longer there"):
        source.read()


@pytest.mark.parametrize(
    ("status", "told"), [(34, "not loaded"), (10, "refuses this user"), (43, "amdsmi says")]
)
def test_driver_that_refuses_to_start_says_why(status: int, told: str, play: Play) -> None:
    sources, findings = _open(play(Stage(constant(200), statuses=[f"init {status}"])))
    assert sources == []
    assert told in findings[0].detail


_READ = """
import json
from harness_backends.telemetry.amd import AmdProvider
sources, findings = AmdProvider().discover()
reading = sources[0].read() if sources else None
print(json.dumps({
    "told": [finding.detail for finding in findings], "fix": [finding.fix for finding in findings],
    "power_w": reading and reading.power_w, "energy_j": reading and reading.energy_j,
    "key": sources[0].info.facts["power_reading"] if sources else None,
}))
"""


def _ask_in_a_process(
    tmp_path: Path, library: Path | None, wrapper: Path | None = None, **settings: object
) -> dict[str, object]:
    rocm = tmp_path / "rocm"
    (rocm / "lib").mkdir(parents=True)
    if library is not None:
        (rocm / "lib" / "libamd_smi.so").symlink_to(library)
    stage = Stage(constant(310), settings={"counter_base_j": 5000.0, **settings}).write(tmp_path / "stage")
    environment = {
        name: value for name, value in os.environ.items() if name not in {"LD_LIBRARY_PATH", "ROCM_HOME"}
    }
    environment |= {"ROCM_PATH": str(rocm), "HARNESS_STANDIN": str(stage)}
    if wrapper is not None:
        environment["PYTHONPATH"] = str(wrapper)
    ran = subprocess.run(
        [sys.executable, "-c", _READ], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.count("\n") == 1, f"something else printed too: {ran.stdout}"
    return json.loads(ran.stdout)


def test_an_import_that_prints_and_raises_key_error_is_explained(tmp_path: Path) -> None:
    told = _ask_in_a_process(tmp_path, None)
    assert "libamd_smi.so is not found" in str(told["told"])
    assert "ROCM_PATH" in str(told["fix"])


def test_a_library_older_than_the_wrapper_is_explained(tmp_path: Path) -> None:
    old = tmp_path / "old.so"
    source = tmp_path / "old.c"
    source.write_text("int amdsmi_init(unsigned long flags) { (void)flags; return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(old), str(source)], check=True)
    told = _ask_in_a_process(tmp_path, old)
    assert "older than the Python wrapper" in str(told["told"])


_ABI = {"6.1.2": 60, "6.2.4": 60, "6.3.3": 60, "6.4.4": 64, "installed": 70}


@pytest.mark.parametrize("version", list(_ABI))
@pytest.mark.parametrize(
    ("generation", "key"), [("mi300", "current_socket_power"), ("mi200", "average_socket_power")]
)
def test_every_wrapper_from_6_1_to_7_reads_the_same_watts_and_joules(
    version: str, generation: str, key: str, tmp_path: Path
) -> None:
    """HARNESS_AMDSMI_WRAPPERS names a folder with one `pip install --target` per version."""
    wrapper = None
    if version != "installed":
        wrapper = Path(os.environ.get("HARNESS_AMDSMI_WRAPPERS", "")) / version
        if not (wrapper / "amdsmi").is_dir():
            pytest.skip(f"amdsmi {version} is not in the folder that HARNESS_AMDSMI_WRAPPERS names")
    library = build_library("libamd_smi.so")
    told = _ask_in_a_process(tmp_path, library, wrapper, abi=_ABI[version], generation=generation)
    assert told["power_w"] == 310
    assert told["key"] == key
    assert told["energy_j"] == pytest.approx(5000.0, abs=400)


def test_the_stand_in_exports_what_every_wrapper_binds(shared_data: Path) -> None:
    build_library("libamd_smi.so")
    listed = subprocess.run(
        ["nm", "-D", str(BUILD / "libamd_smi.so")], capture_output=True, text=True, check=True
    ).stdout
    exported = {line.split()[-1] for line in listed.splitlines()}
    wanted = set((shared_data / "amdsmi" / "symbols-all-versions.txt").read_text().split())
    assert wanted <= exported

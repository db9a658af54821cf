from __future__ import annotations

import pytest
from harness_agent.run_sources import NoSourceError, choose_sources, engine_devices
from harness_backends.telemetry.source import SourceInfo


def source(
    source_id: str,
    scope: str,
    device_id: str = "d",
    vendor: str = "nvidia",
    energy_source: str = "counter",
    contained_in: str = "",
) -> SourceInfo:
    return SourceInfo(
        source_id,
        vendor,
        device_id,
        "a device",
        scope,
        energy_source,
        has_energy=True,
        contained_in=contained_in,
    )


PACKAGES = [
    source("rapl:0", "package", "package-0", "intel"),
    source("rapl:1", "package", "package-1", "intel"),
    source("rapl:0:dram", "dram", "package-0", "intel"),
]
ESTIMATE = source("estimate:cpu", "cpu", "host-cpu", "host", "estimated")
HOST = SourceInfo("host:memory", "host", "host", "a host", "host", "")
GPUS = [source(f"gpu:{n}", "gpu", f"GPU-{n}") for n in range(8)]


def test_a_cpu_engine_is_accounted_by_the_packages() -> None:
    chosen = choose_sources([*PACKAGES, ESTIMATE, HOST, *GPUS], [], "measured")
    assert chosen.primary == ("rapl:0", "rapl:1")
    assert chosen.host == ()


def test_an_estimate_is_taken_only_where_the_job_accepts_it_and_nothing_measures() -> None:
    assert choose_sources([ESTIMATE, HOST], [], "estimated-ok").primary == ("estimate:cpu",)
    assert choose_sources([*PACKAGES, ESTIMATE], [], "estimated-ok").primary == ("rapl:0", "rapl:1")
    with pytest.raises(NoSourceError, match="energy: measured"):
        choose_sources([ESTIMATE, HOST, *GPUS], [], "measured")
    with pytest.raises(NoSourceError):
        choose_sources([HOST], [], "estimated-ok")


def test_an_accelerator_is_accounted_by_its_own_scope_with_the_host_beside_it() -> None:
    chosen = choose_sources([*PACKAGES, ESTIMATE, HOST, *GPUS], ["GPU-3", "GPU-5"], "measured")
    assert chosen.primary == ("gpu:3", "gpu:5")
    assert chosen.host == ("rapl:0", "rapl:1", "rapl:0:dram")


def test_a_module_that_contains_the_gpu_is_not_added_to_it() -> None:
    module = source("gh:module", "module", "GPU-0")
    gpu = source("gh:gpu", "gpu", "GPU-0", contained_in="gh:module")
    assert choose_sources([module, gpu], ["GPU-0"], "measured").primary == ("gh:gpu",)
    assert choose_sources([module], ["GPU-0"], "measured").primary == ("gh:module",)


def test_apple_is_accounted_by_the_whole_soc() -> None:
    rails = [source(f"apple:{r}", r, "soc", "apple", "frame", "apple:soc") for r in ("cpu", "gpu", "ane")]
    soc = source("apple:soc", "soc", "soc", "apple", "frame")
    assert choose_sources([*rails, soc], ["soc"], "measured").primary == ("apple:soc",)


def test_a_device_without_sensor_fails_only_where_measurement_is_asked() -> None:
    with pytest.raises(NoSourceError, match="GPU-9"):
        choose_sources(GPUS, ["GPU-9"], "measured")
    assert choose_sources(GPUS, ["GPU-9"], "estimated-ok").primary == ()


def test_energy_off_accounts_nothing() -> None:
    chosen = choose_sources([*PACKAGES, ESTIMATE], [], "off")
    assert (chosen.primary, chosen.host) == ((), ())


def test_engine_devices_carry_their_vendor() -> None:
    (device,) = engine_devices(GPUS, ["GPU-2"])
    assert (device.vendor, device.device_id) == ("nvidia", "GPU-2")

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness_backends.telemetry.rapl import RaplProvider
from harness_backends.telemetry.source import SourceGone

from tests.standins.powercap_tree import (
    AMD_CPUINFO,
    AMD_RANGE_UJ,
    INTEL_CPUINFO,
    add_zone,
    dies,
    laptop_with_psys,
    two_socket_xeon,
)


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(INTEL_CPUINFO)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "powercap"


def _ids(root: Path, cpuinfo: Path) -> dict[str, str]:
    sources, _ = RaplProvider(root, cpuinfo).discover()
    return {source.info.source_id: source.info.contained_in for source in sources}


def test_server_has_packages_and_dram_but_neither_cores_nor_the_mmio_duplicate(
    root: Path, cpuinfo: Path
) -> None:
    two_socket_xeon(root)
    sources, findings = RaplProvider(root, cpuinfo).discover()
    assert [source.info.source_id for source in sources] == [
        "rapl:package-0",
        "rapl:package-0:dram",
        "rapl:package-1",
        "rapl:package-1:dram",
    ]
    assert all(source.info.contained_in == "" for source in sources)
    package = sources[0].info
    assert (package.vendor, package.scope, package.device_id) == ("intel", "package", "package-0")
    assert package.counter_resolution_j == pytest.approx(61.04e-6, rel=1e-3)
    assert package.max_power_w == 420.0
    assert sources[1].info.device_id == "package-0"
    refused = {finding.subject: finding.detail for finding in findings if not finding.available}
    assert "second time" in refused["intel-rapl-mmio"]
    assert "inside package-1" in refused["package-1:core"]


def test_platform_zone_contains_its_package(root: Path, cpuinfo: Path) -> None:
    laptop_with_psys(root)
    assert _ids(root, cpuinfo) == {"rapl:package-0": "rapl:psys", "rapl:psys": ""}


def test_each_die_of_a_package_is_a_package_source(root: Path, cpuinfo: Path) -> None:
    dies(root)
    sources, _ = RaplProvider(root, cpuinfo).discover()
    assert [source.info.scope for source in sources] == ["package", "package"]
    assert sum(reading.energy_j for source in sources if (reading := source.read())) == pytest.approx(30.0)


def test_nested_tree_of_the_devices_folder_is_read_once(root: Path, cpuinfo: Path) -> None:
    add_zone(root, "intel-rapl/intel-rapl:0", "package-0")
    add_zone(root, "intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram")
    assert list(_ids(root, cpuinfo)) == ["rapl:package-0", "rapl:package-0:dram"]


def test_amd_package_is_named_after_its_maker(root: Path, tmp_path: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0", range_uj=AMD_RANGE_UJ)
    cpuinfo = tmp_path / "amd"
    cpuinfo.write_text(AMD_CPUINFO)
    sources, findings = RaplProvider(root, cpuinfo).discover()
    assert sources[0].info.vendor == "amd"
    assert sources[0].info.counter_wrap_j == pytest.approx(65532.610987)
    assert "EPYC 9654" in findings[0].detail


def test_counter_is_unwrapped_at_the_range_of_its_own_zone(root: Path, cpuinfo: Path) -> None:
    zone = add_zone(root, "intel-rapl:0", "package-0", energy_j=65000.0, range_uj=AMD_RANGE_UJ)
    sources, _ = RaplProvider(root, cpuinfo).discover()
    seen = []
    for energy_j in (65000.0, 65500.0, 66000.0, 131000.0, 131500.0):
        zone.set_energy_j(energy_j, range_uj=AMD_RANGE_UJ)
        reading = sources[0].read()
        assert reading is not None
        seen.append(reading.energy_j)
    assert seen == pytest.approx([65000.0, 65500.0, 66000.0, 131000.0, 131500.0])


def test_readings_are_stamped_within_the_call(root: Path, cpuinfo: Path) -> None:
    two_socket_xeon(root)
    sources, _ = RaplProvider(root, cpuinfo).discover()
    first, second = sources[0].read(), sources[0].read()
    assert first is not None
    assert second is not None
    assert 0 < first.half_width_ns < 1e9
    assert second.t_ns - second.half_width_ns >= first.t_ns


def test_zone_that_vanishes_is_gone_with_its_path(root: Path, cpuinfo: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    sources, _ = RaplProvider(root, cpuinfo).discover()
    shutil.rmtree(root)
    with pytest.raises(SourceGone, match="energy_uj: No such file"):
        sources[0].read()


def test_machine_without_powercap_says_what_to_do(root: Path, cpuinfo: Path) -> None:
    sources, findings = RaplProvider(root, cpuinfo).discover()
    assert sources == []
    assert str(root) in findings[0].detail
    assert "modprobe" in findings[0].fix


def test_root_comes_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_socket_xeon(root)
    monkeypatch.setenv("HARNESS_POWERCAP_ROOT", str(root))
    assert len(RaplProvider().discover()[0]) == 4


_AS_NOBODY = """
import os, sys
from pathlib import Path
from harness_backends.telemetry.rapl import RaplProvider
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
sources, findings = RaplProvider(Path(sys.argv[1])).discover()
print(len(sources), findings[0].detail, findings[0].fix, sep="|")
"""


def test_meter_that_only_root_may_read_is_refused_with_the_permission_to_set(root: Path) -> None:
    zone = add_zone(root, "intel-rapl:0", "package-0")
    for folder in (zone.path, *zone.path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/") and "pytest" in str(folder):
            folder.chmod(0o755)
    (zone.path / "energy_uj").chmod(0o400 if os.getuid() == 0 else 0o000)
    ran = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(root)], capture_output=True, text=True, check=True, timeout=30
    )
    count, detail, fix = ran.stdout.strip().split("|")
    assert count == "0"
    assert "root only" in detail
    assert "chmod a+r" in fix

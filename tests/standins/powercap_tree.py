"""Builds powercap trees as Linux shows them, in a folder of a test's choice, and plays their counters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

XEON_RANGE_UJ = 262143328850
"""max_energy_range_uj with a 61 uJ unit, as most Intel machines print it."""
AMD_RANGE_UJ = 65532610987
"""The same with the 15.3 uJ unit of AMD processors."""

INTEL_CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8480+\n"
AMD_CPUINFO = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9654 96-Core Processor\n"


@dataclass(frozen=True)
class FakeZone:
    """One zone directory; setting its energy is what the hardware would do."""

    path: Path

    def set_energy_j(self, energy_j: float, *, range_uj: int = XEON_RANGE_UJ) -> None:
        """Show a cumulative energy, wrapped at the zone's range."""
        # In place and of one length, as sysfs does: a reader never sees an empty file.
        with (self.path / "energy_uj").open("r+b") as file:
            file.write(b"%-20d\n" % (round(energy_j * 1e6) % range_uj))


def add_zone(
    root: Path,
    directory: str,
    name: str,
    *,
    energy_j: float = 0.0,
    range_uj: int = XEON_RANGE_UJ,
    limits_w: tuple[float, ...] = (),
) -> FakeZone:
    """Create one zone, for example `intel-rapl:0` named `package-0`."""
    path = root / directory
    path.mkdir(parents=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_bytes(b"%-20d\n" % (round(energy_j * 1e6) % range_uj))
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    for index, limit_w in enumerate(limits_w):
        (path / f"constraint_{index}_power_limit_uw").write_text(f"{round(limit_w * 1e6)}\n")
    return FakeZone(path)


def two_socket_xeon(root: Path) -> None:
    """A server: two packages with cores and DRAM, and the memory-mapped duplicate of package-0."""
    for socket in (0, 1):
        add_zone(root, f"intel-rapl:{socket}", f"package-{socket}", energy_j=1000.0, limits_w=(350.0, 420.0))
        add_zone(root, f"intel-rapl:{socket}:0", "core", energy_j=400.0)
        add_zone(root, f"intel-rapl:{socket}:1", "dram", energy_j=100.0, range_uj=AMD_RANGE_UJ)
    add_zone(root, "intel-rapl-mmio:0", "package-0", energy_j=1000.0)


def laptop_with_psys(root: Path) -> None:
    """A client machine: the platform zone beside its package, as newer Intel laptops show it."""
    add_zone(root, "intel-rapl:0", "package-0", energy_j=50.0)
    add_zone(root, "intel-rapl:0:0", "core", energy_j=20.0)
    add_zone(root, "intel-rapl:0:1", "uncore", energy_j=5.0)
    add_zone(root, "intel-rapl:1", "psys", energy_j=90.0)


def dies(root: Path) -> None:
    """A package of two dies, each metered by itself."""
    add_zone(root, "intel-rapl:0", "package-0-die-0", energy_j=10.0)
    add_zone(root, "intel-rapl:1", "package-0-die-1", energy_j=20.0)

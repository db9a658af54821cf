"""The commands of docs/without-hardware.md, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.standins.build import NoCompilerError, build_all

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "without-hardware.md").read_text()


def _commands(section: str, tmp_path: Path) -> str:
    body = re.split(r"^## ", TEXT.split(f"## {section}\n")[1], flags=re.MULTILINE)[0]
    lines = [line[4:] for line in body.splitlines() if line.startswith("    ")]
    # What `make` and the virtual environment have done for this test run already.
    lines = [line for line in lines if line != "make standins" and not line.startswith(". .venv")]
    return "\n".join(lines).replace("/tmp/", f"{tmp_path}/").replace("samples.csv", f"{tmp_path}/samples.csv")


def _run(script: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "-euc", script],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(autouse=True)
def libraries() -> None:
    try:
        build_all()
    except NoCompilerError as error:
        pytest.skip(str(error))


def test_the_commands_of_the_nvidia_and_amd_sections(tmp_path: Path) -> None:
    said = _run(_commands("NVIDIA", tmp_path).replace("--seconds 5", "--seconds 1"))
    assert "Stand-in H200" in said
    periods_ms = [float(found) for found in re.findall(r"counter changes every ([\d.]+) ms", said)]
    assert periods_ms, said
    assert all(abs(period - 100) <= 10 for period in periods_ms), (
        "a second of polls on a busy machine tells it so far"
    )
    assert (tmp_path / "samples.csv").read_text().startswith("t_ns,source,power_w,energy_j")
    said = _run(_commands("AMD", tmp_path).replace("--seconds 5", "--seconds 1"))
    assert "amd:" in said


def test_the_commands_of_the_apple_section(tmp_path: Path) -> None:
    said = _run(_commands("Apple", tmp_path).replace("--seconds 10", "--seconds 1"))
    assert "apple:soc" in said


def test_the_commands_of_the_rapl_section(tmp_path: Path) -> None:
    assert "package-1:dram" in _run(_commands("RAPL", tmp_path))

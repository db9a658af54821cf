"""The service that `harness agent install` writes: valid for its service manager, private, and gone after uninstall."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from harness_agent.installation import (
    InstallationError,
    Plan,
    Settings,
    install,
    look,
    plan_installation,
    uninstall,
)

from tests.end_to_end.harness_processes import HARNESS

SETTINGS = Settings(
    "lab:7411", "joule-harness", "box 1", ("site=lab a",), "lab:7412", join_token="jht1.secret"
)
EXAMPLES = Path(__file__).parents[2] / "examples"


def written(platform: str, root: Path) -> Plan:
    plan = plan_installation(SETTINGS, platform=platform, root=root)
    install(Plan(plan.files, ()))  # the files alone: this machine's service manager is left in peace
    return plan


def test_the_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    plan = written("linux", tmp_path)
    environment, unit = plan.files
    assert environment.path.stat().st_mode & 0o777 == 0o600
    assert "HARNESS_JOIN_TOKEN" in environment.text
    assert "jht1" not in unit.text
    assert "--name 'box 1'" in unit.text
    assert "@" not in unit.text.replace("@system-service", "")
    analyse = shutil.which("systemd-analyze")
    if analyse:
        done = subprocess.run(
            [analyse, "verify", "--recursive-errors=no", "--man=no", str(unit.path)],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        complaints = [line for line in done.stderr.splitlines() if unit.path.name in line]
        assert not complaints


def test_the_plist_is_what_launchd_takes(tmp_path: Path) -> None:
    (file,) = written("darwin", tmp_path).files
    assert file.path.stat().st_mode & 0o777 == 0o600
    read = plistlib.loads(file.path.read_bytes())
    assert read["ProgramArguments"][:3] == [sys.executable, "-m", "harness_cli.main"]
    assert "site=lab a" in read["ProgramArguments"]
    assert read["EnvironmentVariables"]["HARNESS_COORDINATOR"] == "lab:7411"
    assert read["KeepAlive"] == {"SuccessfulExit": False}


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_doctor_sees_what_is_wrong_and_uninstall_leaves_nothing(platform: str, tmp_path: Path) -> None:
    assert [ok for _, ok, _, _ in look(platform=platform, root=tmp_path)] == [False]
    plan = written(platform, tmp_path)
    assert [ok for _, ok, _, _ in look(platform=platform, root=tmp_path)] == [True] * 3
    secret = plan.files[0].path
    secret.chmod(0o644)
    (wrong,) = [found for found in look(platform=platform, root=tmp_path) if not found[1]]
    assert wrong[3] == f"sudo chmod 600 {secret}"
    assert sorted(uninstall(platform=platform, root=tmp_path)) == sorted(f.path for f in plan.files)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_line_break_does_not_get_into_a_unit() -> None:
    bad = Settings("lab:7411\nExecStartPre=/bin/sh", "joule-harness")
    with pytest.raises(InstallationError, match="line break"):
        plan_installation(bad, platform="linux")
    with pytest.raises(InstallationError, match="no service manager"):
        plan_installation(SETTINGS, platform="win32")


def test_a_dry_run_prints_everything_but_the_token_and_does_nothing() -> None:
    done = subprocess.run(
        [*HARNESS, "agent", "install", "--coordinator", "lab:7411", "--dry-run"],
        check=False, capture_output=True, text=True, timeout=60, env={"HARNESS_JOIN_TOKEN": "jht1.secret"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "jht1.secret" not in done.stdout
    assert "(mode 600)" in done.stdout


def test_the_ansible_example_is_whole() -> None:
    (play,) = yaml.safe_load((EXAMPLES / "ansible" / "agents.yml").read_text())
    told = {t["name"] for t in play["tasks"] + play["handlers"]}
    assert {t["notify"] for t in play["tasks"] if "notify" in t} <= told
    assert (
        "harness_coordinator"
        in yaml.safe_load((EXAMPLES / "ansible" / "inventory.yml").read_text())["all"]["vars"]
    )

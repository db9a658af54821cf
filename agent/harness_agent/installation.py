"""The agent as a service of this machine: what would be written where, writing it, and looking whether it is right."""

from __future__ import annotations

import importlib.resources
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from harness_agent.errors import AgentError

SERVICE = "joule-harness-agent"
UNIT = f"{SERVICE}.service"
PLIST = "io.joule-harness.agent.plist"
DEVICE_GROUPS = ("render", "video")


class InstallationError(AgentError):
    """The service cannot be installed or removed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the service is to run with."""

    coordinator: str
    user: str
    name: str = ""
    labels: Sequence[str] = ()
    enrolment: str = ""
    join_token: str = ""


@dataclass(frozen=True, slots=True)
class FileToWrite:
    """One file of the installation."""

    path: Path
    text: str
    mode: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What an installation does."""

    files: tuple[FileToWrite, ...]
    commands: tuple[tuple[str, ...], ...]


def plan_installation(settings: Settings, *, platform: str = sys.platform, root: Path = Path("/")) -> Plan:
    """Return what `install` would write and run on a system.

    Args:
        settings: what the service runs with.
        platform: `linux` or `darwin`, as `sys.platform` names them.
        root: the system's root folder.

    Raises:
        InstallationError: there is no service manager for this platform.
    """
    if platform.startswith("linux"):
        return _systemd(settings, root)
    if platform == "darwin":
        return _launchd(settings, root)
    raise InstallationError(
        f"there is no service manager for {platform} here; start `harness agent run` yourself"
    )


def install(plan: Plan) -> None:
    """Write the files and start the service.

    Raises:
        InstallationError: not allowed, or the service manager refused.
    """
    for file in plan.files:
        try:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            draft = file.path.with_name(file.path.name + ".new")
            draft.unlink(missing_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                opened.write(file.text)
            draft.replace(file.path)
        except OSError as error:
            raise InstallationError(
                f"{file.path}: cannot be written: {error.strerror}; run it with sudo, or look with --dry-run"
            ) from None
    for command in plan.commands:
        _run(command)


def uninstall(*, platform: str = sys.platform, root: Path = Path("/")) -> list[Path]:
    """Stop the service and remove its files; the state directory with its identity stays. Return what went."""
    unit, environment = _places(platform, root)
    stop = (
        ("systemctl", "disable", "--now", UNIT)
        if platform.startswith("linux")
        else ("launchctl", "bootout", f"system/{PLIST.removesuffix('.plist')}")
    )
    gone = [path for path in (unit, environment) if path is not None and path.exists()]
    if unit.exists() and root == Path("/"):
        _run(stop, must_work=False)
    for path in gone:
        try:
            path.unlink()
        except OSError as error:
            raise InstallationError(
                f"{path}: cannot be removed: {error.strerror}; run it with sudo"
            ) from None
    return gone


def look(*, platform: str = sys.platform, root: Path = Path("/")) -> list[tuple[str, bool, str, str]]:
    """Look at the installed service: (subject, is it right, what was found, what to do)."""
    unit, environment = _places(platform, root)
    if not unit.exists():
        return [("service", False, f"not installed ({unit} is absent)", "sudo harness agent install")]
    found = [("service", True, f"installed as {unit}", "")]
    text = unit.read_text(encoding="utf-8", errors="replace")
    program = _program_of(text)
    there = program is not None and (root != Path("/") or os.access(program, os.X_OK))
    found.append(
        ("program", there, f"{program}", "" if there else "install again: sudo harness agent install")
    )
    secret = environment or unit
    if not secret.exists():
        found.append(("environment", False, f"{secret} is absent", "sudo harness agent install"))
    else:
        mode = stat.S_IMODE(secret.stat().st_mode)
        private = not mode & 0o077
        found.append(
            (
                "environment",
                private,
                f"{secret}, mode {mode:o}",
                "" if private else f"sudo chmod 600 {secret}",
            )
        )
    return found


def _systemd(settings: Settings, root: Path) -> Plan:
    unit, environment = _places("linux", root)
    assert environment is not None  # noqa: S101 - systemd has one
    state = "/var/lib/joule-harness/agent"
    words = {
        "@USER@": settings.user,
        "@ENVIRONMENT@": str(Path("/") / environment.relative_to(root)),
        "@COMMAND@": shlex.join(_command(settings, state)),
        "@GROUPS@": " ".join(DEVICE_GROUPS),
    }
    plan = [
        FileToWrite(environment, _lines(_variables(settings)), 0o600),
        FileToWrite(unit, _template(UNIT, words), 0o644),
    ]
    commands = [("systemctl", "daemon-reload"), ("systemctl", "enable", "--now", UNIT)]
    if settings.user != "root":
        commands.insert(
            0, ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", settings.user)
        )
    return Plan(tuple(plan), tuple(commands))


def _launchd(settings: Settings, root: Path) -> Plan:
    unit, _ = _places("darwin", root)
    state = "/usr/local/var/joule-harness/agent"
    arguments = "\n".join(f"    <string>{escape(a)}</string>" for a in _command(settings, state))
    variables = "\n".join(
        f"    <key>{escape(k)}</key>\n    <string>{escape(v)}</string>"
        for k, v in _variables(settings).items()
    )
    words = {
        "@ARGUMENTS@": arguments,
        "@VARIABLES@": variables,
        "@LOG@": "/usr/local/var/log/joule-harness-agent.log",
    }
    # The plist holds the join token: launchd has no separate environment file.
    files = (FileToWrite(unit, _template(PLIST, words), 0o600),)
    return Plan(files, (("launchctl", "bootstrap", "system", str(Path("/") / unit.relative_to(root))),))


def _places(platform: str, root: Path) -> tuple[Path, Path | None]:
    if platform.startswith("linux"):
        return root / "etc/systemd/system" / UNIT, root / "etc/joule-harness/agent.env"
    return root / "Library/LaunchDaemons" / PLIST, None


def _command(settings: Settings, state_dir: str) -> list[str]:
    command = [sys.executable, "-m", "harness_cli.main", "agent", "run", "--state-dir", state_dir]
    command += ["--name", settings.name] if settings.name else []
    for label in settings.labels:
        command += ["--label", label]
    command += ["--enrolment", settings.enrolment] if settings.enrolment else []
    return command


def _variables(settings: Settings) -> dict[str, str]:
    variables = {"HARNESS_COORDINATOR": settings.coordinator, "PYTHONUNBUFFERED": "1"}
    if settings.join_token:
        variables["HARNESS_JOIN_TOKEN"] = settings.join_token
    return variables


def _lines(variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        if "\n" in value or '"' in value:
            raise InstallationError(f"{name} holds a line break or a quote, which an environment file cannot")
    return "".join(f'{name}="{value}"\n' for name, value in variables.items())


def _template(name: str, words: Mapping[str, str]) -> str:
    text = (importlib.resources.files("harness_agent.units") / name).read_text(encoding="utf-8")
    for word, value in words.items():
        if "\n" in value and name == UNIT:
            raise InstallationError("a setting holds a line break, which a unit file cannot")
        text = text.replace(word, value.replace("%", "%%") if name == UNIT else value)
    return text


def _program_of(text: str) -> str | None:
    for line in text.splitlines():
        if line.startswith("ExecStart="):
            return shlex.split(line.removeprefix("ExecStart=").replace("%%", "%"))[0]
    _, _, after = text.partition("<key>ProgramArguments</key>")
    return after.partition("<string>")[2].partition("</string>")[0] or None


def _run(command: Sequence[str], *, must_work: bool = True) -> None:
    try:
        done = subprocess.run(list(command), check=False, capture_output=True, text=True, timeout=120)
    except OSError as error:
        raise InstallationError(f"{command[0]}: {error.strerror}") from None
    exists = command[0] == "useradd" and done.returncode == 9
    if done.returncode and must_work and not exists:
        raise InstallationError(f"{shlex.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")

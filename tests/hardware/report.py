"""What the checks saw, as a Markdown section for docs/hardware-runs.md."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from harness_backends.telemetry.source import SourceInfo


class Report:
    """Figures by source, in the order they were seen."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def describe(self, info: SourceInfo) -> None:
        """Write down what a source is, once."""
        if info.source_id in self._lines:
            return
        facts = ", ".join(
            f"{key} {value}" for key, value in info.facts.items() if key not in {"uuid", "pci", "index"}
        )
        lines = [f"{info.device_name}, scope {info.scope}, {facts}"]
        for name in ("counter_period_s", "power_period_s", "averaging_s", "max_power_w", "poll_hz"):
            value = getattr(info, name)
            if value > 0:
                lines.append(f"{name} {value:.4g}")
        self._lines[info.source_id] = [*lines, *info.notes]

    def add(self, info: SourceInfo, line: str) -> None:
        """Add one figure of a source."""
        self.describe(info)
        self._lines[info.source_id].append(line)

    def text(self) -> str:
        """Return the section."""
        lines = [f"## {platform.node() or 'machine'}, {platform.system()} {platform.release()}", ""]
        for index, (source_id, seen) in enumerate(self._lines.items()):
            # The serial number in a source id is nobody's business.
            lines += [
                f"### source {index}: {source_id.partition(':')[0]}",
                "",
                *(f"- {line}" for line in seen),
                "",
            ]
        return "\n".join(lines)

    def write(self, path: str) -> None:
        """Print the section, and append it to a file where one is named."""
        if not self._lines:
            return
        if sys.__stdout__ is not None:
            sys.__stdout__.write("\n" + self.text())
        if path:
            with Path(path).open("a") as file:
                file.write(self.text() + "\n")

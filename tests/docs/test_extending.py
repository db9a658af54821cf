"""docs/extending.md builds a sensor and an engine from nothing; this runs its text as it stands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from harness_backends.engines.adapter import EngineRequest, Sampling
from harness_backends.engines.errors import EngineArgumentError
from harness_backends.engines.process import EngineProcess, free_port
from harness_backends.engines.registry import load_engine
from harness_backends.engines.stream_client import StreamClient

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


def block(kind: str, containing: str) -> str:
    found = [b for b in re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL) if containing in b]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Lay the page's package out as an installer would: modules, and entry points in a dist-info folder."""
    (tmp_path / "lab_plug.py").write_text(block("python", "PlugProvider"))
    (tmp_path / "lab_parrot.py").write_text(block("python", "ParrotAdapter"))
    project = tomllib.loads(block("toml", "[project]"))["project"]
    info = tmp_path / "lab_extras-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


def harness(plugin: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness_cli.main", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(plugin), **environment},
    )


def test_the_pages_sensor_is_found_sampled_and_explained_when_absent(plugin: Path) -> None:
    watts = plugin / "socket-3"
    watts.write_text("42.5\n")
    listed = json.loads(harness(plugin, "agent", "doctor", "--format", "json", LAB_PLUG=str(watts)).stdout)
    rows = {row["provider"]: row for row in listed}
    assert rows["plug"]["available"] is True
    assert rows["parrot"]["available"] is True
    sampled = harness(
        plugin,
        "agent",
        "sample",
        "--source",
        "plug",
        "--seconds",
        "1",
        "-o",
        str(plugin / "s.csv"),
        LAB_PLUG=str(watts),
    )
    assert sampled.returncode == 0, sampled.stderr
    table = (plugin / "s.csv").read_text().splitlines()
    assert len(table) > 5
    assert "42.5" in table[1]
    without = json.loads(harness(plugin, "agent", "doctor", "--format", "json").stdout)
    assert "LAB_PLUG" in next(row["fix"] for row in without if row["provider"] == "plug")


def test_the_pages_engine_is_started_asked_and_stopped(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(plugin))
    adapter = load_engine("parrot")

    def request(**engine_args: object) -> EngineRequest:
        return EngineRequest(
            model_id="polly",
            source="",
            engine_args=engine_args,
            sampling=Sampling(),
            concurrency=1,
            port=free_port(),
        )

    with pytest.raises(EngineArgumentError, match="times"):
        adapter.prepare(request(tmes=2))
    plan = adapter.prepare(request(times=2))

    (plugin / "run").mkdir()

    async def ask() -> tuple[str, int | None]:
        engine = await EngineProcess.start(plan, plugin / "run")
        try:
            await engine.wait_ready(20)
            async with StreamClient(
                plan.base_url, plan.body, plan.headers, keep_alive=plan.keep_alive
            ) as client:
                answer = await client.stream([{"role": "user", "content": "pretty bird"}], 20)
        finally:
            await engine.stop()
        assert answer.failure is None, answer.failure
        return answer.text, answer.output_tokens

    assert asyncio.run(ask()) == ("pretty bird pretty bird", 4)

"""The commands of docs/datasets.md that need no data of others, run as they stand there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from harness_analysis.datasets.mapping import load_mapping

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text()


def _block(heading: str) -> str:
    body = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(line[4:] for line in body.splitlines() if line.startswith("    "))


def test_the_commands_to_try(tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HARNESS_DB": f"sqlite:///{tmp_path / 'h.db'}",
    }
    ran = subprocess.run(
        ["bash", "-euc", _block("Try it")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "sums: 3 rows, 0 skipped" in ran.stdout
    assert "sums-clean keeps 2 of 3 rows of sums" in ran.stdout
    assert '"groups_with_conflicting_references": 1' in ran.stdout
    assert len([json.loads(line) for line in (tmp_path / "clean.jsonl").read_text().splitlines()]) == 2


def test_the_mapping_shown_is_one(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(_block("What is read"))
    assert load_mapping(str(tmp_path / "m.yaml")).answer == yaml.safe_load(_block("What is read"))["answer"]

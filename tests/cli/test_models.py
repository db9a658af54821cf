"""`harness models` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from harness_cli.models import models


def test_the_listing_says_which_models_are_here() -> None:
    done = CliRunner().invoke(models, ["--format", "json"], env={"HARNESS_MODEL_REGISTRY": None})
    assert done.exit_code == 0, done.output
    rows = {row["id"]: row for row in json.loads(done.stdout)}
    weights = rows["smollm2-135m-q4_1"]
    assert (weights["here"], weights["precision"], weights["params_b"]) == ("yes", "q4_1", 0.134515008)
    assert rows["gpt-oss-20b"]["input_per_mtok"] is None, "table 12 has no price for it"
    here = CliRunner().invoke(models, ["--here", "--format", "json"])
    assert {row["here"] for row in json.loads(here.stdout)} == {"yes"}


def test_an_entry_can_be_pasted_into_a_job_file() -> None:
    done = CliRunner().invoke(models, ["show", "qwen3-14b", "--engine", "mlx"])
    (entry,) = yaml.safe_load(done.stdout)
    assert (entry["engine"], entry["source"], entry["price"]["output_per_mtok"]) == (
        "mlx",
        "Qwen/Qwen3-14B",
        0.124,
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "qwen3-9b"], "did you mean `qwen3-8b`?"),
        (["convert", "/nowhere/m.gguf", "out"], "There is no model file /nowhere/m.gguf"),
        (["--registry", "/nowhere/models.yaml"], "there is no such registry file"),
    ],
)
def test_a_wrong_name_gets_one_sentence_and_exit_code_2(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(models, arguments)
    assert done.exit_code == 2
    assert told in done.output

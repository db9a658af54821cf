"""Job files: what is accepted, and the one sentence that a wrong one gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness_coordinator.dispatch import requirement_of, run_settings
from harness_coordinator.jobfile import JobFileError, load_job_file, parse_job

CONTRACT = """
name: arithmetic-small
dataset: {path: queries.jsonl, limit: 100}
models:
  - {id: smollm2-135m, engine: llamacpp, source: some.gguf, params_b: 0.135, engine_args: {n_threads: 2},
     price: {input_per_mtok: 0.0, output_per_mtok: 0.0}}
hardware: [{vendor: nvidia, name: "*H200*"}, {labels: {site: lab-a}}, any]
sampling: {temperature: 0.6, top_p: 0.95, top_k: 20, min_p: 0.0, max_output_tokens: 4096}
concurrency: 8
repetitions: 3
warmup: 5
energy: measured
evaluation: {method: exact_match}
priority: 0
"""


def job(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "j",
        "dataset": {"path": "q.jsonl"},
        "models": [{"id": "m", "engine": "llamacpp", "source": "m.gguf"}],
    }
    return {**base, **changes}


def test_the_documented_job_file_is_accepted_whole(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(CONTRACT)
    spec = load_job_file(path)
    assert spec.hardware[0].vendor == "nvidia"
    assert spec.hardware[1].labels == {"site": "lab-a"}
    assert spec.hardware[2].model_dump(exclude_none=True) == {"labels": {}}
    assert (spec.concurrency, spec.repetitions, spec.warmup) == (8, 3, 5)


def test_defaults_are_the_profiling_papers_decoding_settings() -> None:
    s = parse_job(job(), origin="x").sampling
    assert (s.temperature, s.top_p, s.top_k, s.min_p, s.max_output_tokens) == (0.6, 0.95, 20, 0.0, 4096)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"concurency": 8}, "unknown key `concurency`; did you mean `concurrency`?"),
        ({"sampling": {"temprature": 1}}, "unknown key `sampling.temprature`; did you mean `temperature`?"),
        (
            {"models": [{"id": "m", "engine": "llamacpp", "sorce": "x"}]},
            "unknown key `models[0].sorce`; did you mean `source`?",
        ),
        ({"concurrency": 0}, "`concurrency`: Input should be greater than or equal to 1, not 0"),
        ({"energy": "guess"}, "`energy`: Input should be 'measured', 'estimated-ok' or 'off', not 'guess'"),
        ({"models": []}, "`models`: List should have at least 1 item"),
        ({"dataset": {}}, "give either `path`"),
        ({"attribution": "exclusive", "concurrency": 2}, "`exclusive` needs concurrency 1, not 2"),
        ({"arrivals": {"kind": "poisson"}}, "`kind: poisson` needs `rate_per_s`"),
        ({"arrivals": {"rate_per_s": 3}}, "a rate or a trace needs its `kind`"),
        (
            {"arrivals": {"kind": "recorded", "trace": "t.csv"}, "repetitions": 2},
            "a recorded trace is played once",
        ),
        ({"dataset": {"synthetic": True}}, "`synthetic` needs a recorded trace"),
        ({"arrivals": {"knd": "closed"}}, "unknown key `arrivals.knd`; did you mean `kind`?"),
        (
            {"models": [{"id": "m", "engine": "openai", "stated_energy": {"joules_per_query": 3}}]},
            "`models[0].stated_energy.source` is missing",
        ),
        (
            {"models": [{"id": "m", "engine": "a"}, {"id": "m", "engine": "b"}]},
            "the id 'm' is given twice",
        ),
    ],
)
def test_a_wrong_field_is_named_with_the_way_out(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(JobFileError) as caught:
        parse_job(job(**changes), origin="job.yaml")
    assert str(caught.value).startswith("job.yaml: ")
    assert said in str(caught.value)


def test_a_model_may_differ_from_the_job_in_sampling_and_energy() -> None:
    spec = parse_job(
        job(
            models=[
                {
                    "id": "qwen",
                    "engine": "vllm",
                    "source": "x",
                    "sampling": {"repetition_penalty": 1.1, "thinking": True},
                },
                {
                    "id": "cloud",
                    "engine": "openai",
                    "source": "big",
                    "precision": "fp8",
                    "price": {"input_per_mtok": 1},
                },
            ],
            arrivals={"kind": "poisson", "rate_per_s": 2},
        ),
        origin="x",
    )
    qwen, cloud = spec.models
    settings = run_settings("j", spec, qwen, [], [])
    assert (settings.sampling.repetition_penalty, settings.sampling.thinking) == (1.1, True)
    assert (settings.sampling.temperature, settings.sampling.top_k) == (0.6, 20)
    assert (settings.energy, settings.baseline_s) == ("measured", 10.0)
    assert (settings.arrivals.kind, settings.arrivals.rate_per_s) == ("poisson", 2.0)
    # A model behind a URL uses somebody else's joules: none of this machine's are counted as its own.
    remote = run_settings("j", spec, cloud, [], [])
    assert (remote.energy, remote.baseline_s, remote.model.precision) == ("off", 0.0, "fp8")
    assert requirement_of(spec, cloud, 0).energy == "off"
    assert not remote.sampling.HasField("repetition_penalty")
    assert not remote.model.HasField("output_price_per_mtok"), (
        "half a price is no price of nought for the other half"
    )


def test_the_joules_of_a_model_behind_a_url_cannot_be_asked_for() -> None:
    def cloud(url: str) -> dict[str, Any]:
        entry = {"id": "c", "engine": "openai", "source": "big", "energy": "estimated-ok"}
        return job(models=[{**entry, "engine_args": {"base_url": url}}])

    with pytest.raises(JobFileError, match=r"joules of api\.example\.com cannot be read.*`stated_energy`"):
        parse_job(cloud("https://api.example.com/v1"), origin="x")
    # A server of one's own on the agent's machine uses that machine's joules.
    (own,) = parse_job(cloud("http://127.0.0.1:8000/v1"), origin="x").models
    assert own.energy_policy("measured") == "estimated-ok"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(JobFileError, match="`dataset` is missing"):
        parse_job({"name": "x", "models": [{"id": "m", "engine": "e"}]}, origin="job.yaml")


def test_a_missing_file_and_broken_yaml_name_the_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match=r"nowhere\.yaml: there is no such job file"):
        load_job_file(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: x\nmodels: [}\n")
    with pytest.raises(JobFileError, match=r"broken\.yaml: line 2:"):
        load_job_file(broken)
    listing = tmp_path / "list.yaml"
    listing.write_text("- a\n")
    with pytest.raises(JobFileError, match="a job file is a mapping"):
        load_job_file(listing)

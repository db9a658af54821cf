"""Outcomes that others have published, in the shapes they come in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness_analysis.errors import OutcomesError

_SIZE = re.compile(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)

# Sizes that the names do not tell, as their makers state them; in billions of parameters, all experts counted.
_PUBLISHED_B = {
    "mixtral-8x7b": 46.7,
    "mixtral-8x22b": 141.0,
    "phi-3-mini": 3.8,
    "phi-3.5-mini": 3.8,
    "command-r-plus": 104.0,
    "command-r": 35.0,
    "jamba-1.5-large": 398.0,
    "mistral-large-2": 123.0,
    "mistral-nemo": 12.0,
    "deepseek-coder-v2": 236.0,
    "deepseek-v2.5": 236.0,
}


def params_from_name(name: str) -> float | None:
    """Return billions of parameters from a model's name, None where it does not tell: `Llama-2-13b-hf` is 13."""
    lowered = name.lower().replace("_", "-")
    for prefix, size_b in sorted(_PUBLISHED_B.items(), key=lambda item: -len(item[0])):
        if prefix in lowered:
            return size_b
    found = _SIZE.search(lowered.replace("-", " ").replace("@", " ").replace("/", " "))
    if found is None:
        return None
    return float(found.group(2)) * float(found.group(1) or 1)


def read_public_set(folder: Path) -> pa.Table | None:
    """Return the long form of a folder that one of the known readers understands, else None."""
    for marker, read in _READERS.items():
        if (folder / marker).is_file():
            return read(folder)
    return None


def _wide(
    folder: Path,
    correct: str,
    characters: str,
    questions: str,
    key: str,
    text: Sequence[str],
    domain: str | None,
) -> pa.Table:
    """Turn one column per model into rows; four characters count as one token, which is said in the docs."""
    import pandas as pd

    verdicts: Any = pd.read_parquet(folder / correct).reset_index()
    index = key if key in verdicts.columns else verdicts.columns[0]
    lengths: Any = pd.read_parquet(folder / characters).reset_index()
    asked: Any = pd.read_parquet(folder / questions).reset_index()
    asked_key = key if key in asked.columns else asked.columns[0]
    models = [c for c in verdicts.columns if c not in {index, "index", "level_0"}]
    long = verdicts.melt(id_vars=[index], value_vars=models, var_name="model_id", value_name="correct")
    tokens = lengths.melt(id_vars=[index], value_vars=models, var_name="model_id", value_name="characters")
    long["output_tokens"] = tokens["characters"].where(tokens["characters"] >= 0) / 4
    joined = asked[list(text)].astype(str).agg("\n".join, axis=1)
    texts = pd.Series(joined.to_numpy(), index=asked[asked_key])
    long["query"] = long[index].map(texts)
    if domain is not None:
        long["domain"] = long[index].map(pd.Series(asked[domain].to_numpy(), index=asked[asked_key]))
    long["correct"] = long["correct"].where(long["correct"] >= 0).astype(float)
    long["params_b"] = long["model_id"].map({m: params_from_name(m) for m in models}).astype(float)
    long["query_id"] = long[index].astype(str)
    long["dataset_id"] = folder.name
    return pa.Table.from_pandas(
        long.drop(columns=[index] if index != "query_id" else []), preserve_index=False
    )


def _mmlu_pro(folder: Path) -> pa.Table:
    return _wide(
        folder,
        "correct.parquet",
        "output_chars.parquet",
        "questions.parquet",
        "question_id",
        ("question", "options"),
        "category",
    )


def _zeroeval(folder: Path) -> pa.Table:
    return _wide(
        folder,
        "gsm_correct.parquet",
        "gsm_output_chars.parquet",
        "gsm_questions.parquet",
        "index",
        ("question",),
        None,
    )


def _llmrouter(folder: Path) -> pa.Table:
    described = json.loads((folder / "default_llm.json").read_text(encoding="utf-8"))
    rows = []
    for part in ("train", "test"):
        for number, item in enumerate(json.loads((folder / f"dcrouter_{part}.json").read_text("utf-8"))):
            for model, score in item["scores"].items():
                about = described.get(model, {})
                rows.append(
                    {
                        "dataset_id": folder.name,
                        "query_id": f"{part}-{number}",
                        "query": item["question"],
                        "domain": part,
                        "model_id": model,
                        "correct": float(score),
                        "params_b": float(about["size"].rstrip("Bb")) if "size" in about else None,
                        "price_per_mtok": about.get("output_price"),
                    }
                )
    return pa.Table.from_pylist(rows)


def _routellm(folder: Path) -> pa.Table:
    import pandas as pd

    frame: Any = pd.read_csv(folder / "gsm8k_responses.csv")
    models = [c for c in frame.columns if f"{c}_response" in frame.columns]
    if not models:
        raise OutcomesError(
            f"{folder}/gsm8k_responses.csv: no model has a column of verdicts and one of responses"
        )
    parts = [
        pd.DataFrame(
            {
                "dataset_id": folder.name,
                "query_id": [f"gsm8k-{i}" for i in range(len(frame))],
                "query": frame["prompt"],
                "model_id": model,
                "correct": frame[model].astype(float),
                "output_tokens": frame[f"{model}_response"].fillna("").str.len() / 4,
                "params_b": params_from_name(model),
            }
        )
        for model in models
    ]
    return pa.Table.from_pandas(pd.concat(parts, ignore_index=True), preserve_index=False)


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    "gsm_correct.parquet": _zeroeval,
    "correct.parquet": _mmlu_pro,
    "dcrouter_train.json": _llmrouter,
    "gsm8k_responses.csv": _routellm,
}

"""The metrics of the paper's table 7, a column for each model, engine and hardware, and why some are absent."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
_FOUR = ("avg", "max", "median", "min")

PER_QUERY = {
    "flops_per_request": "flops",
    "macs_per_request": "macs",
    "per_query_joules": "joules",
    "per_token_ms": "ms_per_token",
    "throughput_tokens_per_sec": "tokens_per_s",
    "time_to_first_token_seconds": "time_to_first_token_s",
    "total_query_seconds": "total_s",
    **{f"cpu_mb_{s}": f"cpu_memory_mb_{s}" for s in _FOUR},
    **{f"gpu_mb_{s}": f"gpu_memory_mb_{s}" for s in _FOUR},
    **{f"per_query_watts_{s}": f"watts_{s}" for s in _FOUR},
    **{f"temperature_{s}": f"temperature_c_{s}" for s in _FOUR},
    "input": "prompt_tokens",
    "output": "output_tokens",
    "cost": "cost",
}
"""Metrics of a query, shown as the mean over the answered queries."""
PER_RUN = {
    "initialization_duration_seconds": "load_s",
    **{name: name for name in (
        "batch_size", "gpu_memory_utilization", "max_model_len", "max_num_batched_tokens", "max_output_tokens",
        "num_workers", "sampling_temperature", "top_k", "top_p", "warmup_steps",
        "total_watts_avg", "total_watts_max", "total_watts_median", "total_watts_min",
        "cpu_count", "cpu_brand", "host_name", "os_name", "os_version", "kernel_version",
        "energy_source", "precision", "parameters", "active_parameters", "engine_version", "kv_cache_use_max",
        "running_requests_max", "stated_joules",
    )},
}  # fmt: skip
"""What is the same for all queries of a run."""


def side_by_side(rows: Rows) -> tuple[list[dict[str, Any]], list[str]]:
    """Return one row for each metric with a column for each model, and one sentence for each that is absent.

    Args:
        rows: the result rows of a job.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(
            f"{row['model_id']} ({row['engine']}, {row['hardware'] or 'no device'})", []
        ).append(row)
    table: list[dict[str, Any]] = [_line("queries", groups, len), _line("errors", groups, _errors)]
    reasons: dict[str, dict[str, list[str]]] = {}
    for metric, column in (*PER_QUERY.items(), ("total_joules", "joules"), *PER_RUN.items()):
        entry: dict[str, Any] = {"metric": metric}
        for name, group in groups.items():
            answered = [row for row in group if not row["error"]]
            entry[name] = _value(metric, column, answered)
            if entry[name] is None and metric != "stated_joules":
                reasons.setdefault(why(metric, group), {}).setdefault(name, []).append(metric)
        table.append(entry)
    return table, [note for reason, by_name in reasons.items() for note in _notes(reason, by_name)]


def _notes(reason: str, by_name: Mapping[str, list[str]]) -> list[str]:
    """Return one sentence for each set of metrics that a reason keeps absent, with all models it is true of."""
    names: dict[str, list[str]] = {}
    for name, metrics in by_name.items():
        names.setdefault(", ".join(metrics), []).append(name)
    return [f"{metrics} of {'; '.join(of)}: {reason}" for metrics, of in names.items()]


def why(metric: str, rows: Rows) -> str:
    """Return why a metric of a group of rows has no value."""
    first = rows[0]
    if all(row["error"] for row in rows):
        return "no query was answered"
    if metric in ("per_query_joules", "total_joules", "energy_source") or "watts" in metric:
        if first["energy_state"] == "none":
            return "the run was not measured (energy: off)"
        if metric not in {"per_query_joules", "total_joules"} and first["joules"] is not None:
            return f"its source ({first['energy_source']}) has no power of this span"
        return first["energy_reason"] or "some of its queries have no joules (see `flags`)"
    if (first["engine"], metric) in _OF_ENGINE:
        return _OF_ENGINE[first["engine"], metric]
    return _REASONS.get(metric.rsplit("_", 1)[0], _REASONS.get(metric, "nothing reported it"))


_NO_SENSOR = "the source that accounts for it has no such sensor (an engine on the CPU has no GPU memory)"
_REASONS = {
    "gpu_mb": _NO_SENSOR,
    "temperature": _NO_SENSOR,
    "cpu_mb": "the host's memory was not sampled while its queries ran",
    "flops_per_request": "the number of parameters is not known; state params_b (and active_params_b) in the job file",
    "macs_per_request": "half of the FLOPs, which are not known",
    "gpu_memory_utilization": "a setting of vLLM on a GPU, which this run had not",
    "max_model_len": "this engine has no such limit of its own: it is the model's",
    "max_num_batched_tokens": "left to the engine, which does not tell what it chose",
    "num_workers": "the engine chooses its threads by itself and does not tell how many",
    "cost": "the job file gives no price for input and output tokens",
    "initialization_duration_seconds": "the engine was running already",
    "kv_cache_use_max": "this engine has no such gauge",
    "running_requests_max": "this engine has no such gauge, or its queries took less than a second",
    "parameters": "neither the model's files nor the job file tell it",
    "active_parameters": "neither the model's files nor the job file tell it",
    "precision": "neither the model's files nor the job file tell it",
    "engine_version": "it runs elsewhere and does not tell",
    "input": "the engine sent no usage record",
    "output": "the engine sent no usage record",
    "time_to_first_token_seconds": "no answer had any text",
    "per_token_ms": "the engine sent no count of output tokens",
    "throughput_tokens_per_sec": "the engine sent no count of output tokens",
}
_ELSEWHERE = "a setting of an engine that runs elsewhere and does not tell"
_OF_ENGINE = {
    (
        "mlx",
        "num_workers",
    ): "MLX has no such setting: its stream computes on one thread, and its BLAS may use more",
    ("llamacpp", "kv_cache_use_max"): "this llama.cpp no longer publishes it",
    **{("openai", name): _ELSEWHERE for name in ("max_model_len", "max_num_batched_tokens", "num_workers")},
}
"""Where an engine has a reason of its own."""


def _value(metric: str, column: str, answered: Rows) -> Any:
    values = [row[column] for row in answered if row.get(column) is not None and row[column] != ""]
    if not values:
        return None
    if metric == "total_joules":
        return sum(values) if len(values) == len(answered) else None
    if metric in PER_QUERY:
        return statistics.fmean(values)
    kinds = list(dict.fromkeys(values))
    return (
        kinds[0]
        if len(kinds) == 1
        else statistics.fmean(values)
        if _numbers(values)
        else " + ".join(map(str, kinds))
    )


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _errors(group: Rows) -> int:
    return sum(bool(row["error"]) for row in group)


def _line(metric: str, groups: Mapping[str, Rows], of: Callable[[Rows], Any]) -> dict[str, Any]:
    return {"metric": metric, **{name: of(group) for name, group in groups.items()}}

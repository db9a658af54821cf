"""The views of the first schema, as SQL for each database.

`result_rows` is the long form of the results, one row per finished task; `trafficbench_metrics` has the same
rows under the names of table 7 of the profiling paper.

Both are grouped by (job, task) first, so that a condition on the job reaches the tables instead of filtering
the rows of every job.
"""

from __future__ import annotations

RESULT_ROWS = """
CREATE VIEW result_rows AS
SELECT
  t.job_id AS job, t.task_id AS task, t.ordinal, t.state, t.attempt, t.repetition, t.dataset_id, t.query_id,
  q.domain, q.reference, t.model_id, t.hardware_index, t.run_id,
  coalesce(r.engine, mo.engine) AS engine, a.name AS agent,
  {hardware} AS hardware,
  {one_or_both_scope} AS device_scope,
  {one_or_both_energy_source} AS energy_source,
  {one_or_both_method} AS method,
  min({primary_attribution}) AS attribution,
  {sum_joules} AS joules,
  {sum_joules_low} AS joules_low,
  {sum_joules_high} AS joules_high,
  {sum_net_joules} AS net_joules,
  {sum_idle_joules} AS idle_joules,
  {sum_prefill_joules} AS prefill_joules,
  {sum_decode_joules} AS decode_joules,
  CASE WHEN sum({host_measured}) > 0 AND sum({host_known}) = coalesce({host_sources}, 0)
    THEN sum(CASE WHEN {host_known} = 1 THEN m.joules END) END AS host_joules,
  min({primary_coverage}) AS coverage,
  {flags} AS flags,
  CASE WHEN sum({is_primary}) > 0 THEN min(CASE WHEN m.role = 'primary' AND m.final THEN 1
    WHEN m.role = 'primary' THEN 0 END) END AS final,
  r.energy_state, r.energy_reason,
  {sum_watts_avg} AS watts_avg,
  {single_watts_max} AS watts_max, {single_watts_median} AS watts_median, {single_watts_min} AS watts_min,
  g.prompt_tokens, g.output_tokens, g.cached_tokens,
  CAST(g.first_token_ns - g.start_ns AS double precision) / 1e9 AS time_to_first_token_s,
  CAST(g.end_ns - g.start_ns AS double precision) / 1e9 AS total_s,
  CASE WHEN g.end_ns > g.start_ns
    THEN g.output_tokens / (CAST(g.end_ns - g.start_ns AS double precision) / 1e9) END AS tokens_per_s,
  CASE WHEN g.output_tokens > 0
    THEN CAST(g.end_ns - g.start_ns AS double precision) / 1e6 / g.output_tokens END AS ms_per_token,
  {flops} AS flops,
  {flops} / 2 AS macs,
  {sum_memory_mb_avg} AS gpu_memory_mb_avg, {single_memory_mb_max} AS gpu_memory_mb_max,
  {single_memory_mb_median} AS gpu_memory_mb_median, {single_memory_mb_min} AS gpu_memory_mb_min,
  h.cpu_memory_mb_avg, h.cpu_memory_mb_max, h.cpu_memory_mb_median, h.cpu_memory_mb_min,
  avg({primary_temperature_c_avg}) AS temperature_c_avg,
  max({primary_temperature_c_max}) AS temperature_c_max,
  {single_temperature_c_median} AS temperature_c_median,
  min({primary_temperature_c_min}) AS temperature_c_min,
  r.load_s,
  g.prompt_tokens * mo.input_price_per_mtok / 1e6 + g.output_tokens * mo.output_price_per_mtok / 1e6 AS cost,
  CASE WHEN e.correct THEN 1 WHEN NOT e.correct THEN 0 END AS correct,
  e.score, g.finish_reason,
  CASE WHEN t.state = 'failed' THEN coalesce(g.error, t.reason, 'failed') END AS error,
  g.response, g.reasoning, g.start_ns, g.end_ns, t.updated_realtime_ns
FROM tasks t
JOIN jobs j ON j.job_id = t.job_id
JOIN queries q ON q.dataset_id = t.dataset_id AND q.query_id = t.query_id
JOIN job_models jm ON jm.job_id = t.job_id AND jm.model_id = t.model_id
JOIN models mo ON mo.model_id = jm.model_id AND mo.spec_hash = jm.spec_hash
LEFT JOIN runs r ON r.run_id = t.run_id
LEFT JOIN agents a ON a.agent_id = r.agent_id
LEFT JOIN devices d ON d.agent_id = r.agent_id AND d.device_id = {first_device}
LEFT JOIN generations g ON g.task_id = t.task_id AND g.attempt = t.attempt
LEFT JOIN task_host h ON h.task_id = t.task_id AND h.attempt = t.attempt
LEFT JOIN evaluations e ON e.task_id = t.task_id AND e.attempt = t.attempt AND e.method = j.evaluation
LEFT JOIN measurements m ON m.task_id = t.task_id AND m.attempt = t.attempt
WHERE t.state IN ('done', 'failed')
GROUP BY t.job_id, t.task_id, j.job_id, q.dataset_id, q.query_id, mo.model_id, mo.spec_hash, r.run_id, a.agent_id,
  d.agent_id, d.device_id, g.task_id, g.attempt, h.task_id, h.attempt, e.task_id, e.attempt, e.method
"""

TRAFFICBENCH_METRICS = """
CREATE VIEW trafficbench_metrics AS
SELECT
  v.job, v.task, v.query_id, v.model_id, v.hardware, v.hardware_index, v.agent, v.engine, v.repetition,
  v.flops AS flops_per_request, v.macs AS macs_per_request,
  v.joules AS per_query_joules,
  CASE WHEN min(CASE WHEN v.joules IS NULL THEN NULL WHEN v.energy_source = 'estimated' THEN 0 ELSE 1 END)
      OVER (PARTITION BY v.job)
    = max(CASE WHEN v.joules IS NULL THEN NULL WHEN v.energy_source = 'estimated' THEN 0 ELSE 1 END)
      OVER (PARTITION BY v.job)
    THEN sum(v.joules) OVER (PARTITION BY v.job) END AS total_joules,
  v.ms_per_token AS per_token_ms,
  v.tokens_per_s AS throughput_tokens_per_sec,
  v.time_to_first_token_s AS time_to_first_token_seconds,
  v.total_s AS total_query_seconds,
  v.cpu_memory_mb_avg AS cpu_mb_avg, v.cpu_memory_mb_max AS cpu_mb_max,
  v.cpu_memory_mb_median AS cpu_mb_median, v.cpu_memory_mb_min AS cpu_mb_min,
  v.gpu_memory_mb_avg AS gpu_mb_avg, v.gpu_memory_mb_max AS gpu_mb_max,
  v.gpu_memory_mb_median AS gpu_mb_median, v.gpu_memory_mb_min AS gpu_mb_min,
  v.load_s AS initialization_duration_seconds,
  {batch_size} AS batch_size,
  {gpu_memory_utilization} AS gpu_memory_utilization,
  {max_model_len} AS max_model_len,
  {max_num_batched_tokens} AS max_num_batched_tokens,
  {max_output_tokens} AS max_output_tokens,
  {num_workers} AS num_workers,
  {temperature} AS temperature, {temperature} AS sampling_temperature, {top_k} AS top_k, {top_p} AS top_p,
  j.warmup AS warmup_steps,
  v.watts_avg AS per_query_watts_avg, v.watts_max AS per_query_watts_max,
  v.watts_median AS per_query_watts_median, v.watts_min AS per_query_watts_min,
  {total_watts_avg} AS total_watts_avg, {total_watts_max} AS total_watts_max,
  {total_watts_median} AS total_watts_median, {total_watts_min} AS total_watts_min,
  {cpu_count} AS cpu_count, {cpu_brand} AS cpu_brand, a.hostname AS host_name,
  {os_name} AS os_name, {os_version} AS os_version, {kernel_version} AS kernel_version,
  v.temperature_c_avg AS temperature_avg, v.temperature_c_max AS temperature_max,
  v.temperature_c_median AS temperature_median, v.temperature_c_min AS temperature_min,
  v.prompt_tokens AS input, v.output_tokens AS output,
  v.energy_source, v.device_scope, v.coverage, v.flags, v.correct, v.error
FROM result_rows v
JOIN jobs j ON j.job_id = v.job
LEFT JOIN runs r ON r.run_id = v.run_id
LEFT JOIN agents a ON a.agent_id = r.agent_id
"""


def create_statements(dialect: str) -> list[str]:
    """Return the statements that make these views on `sqlite` or `postgresql`."""
    parts = parts_of(json_of(dialect))
    return [RESULT_ROWS.format(**parts), TRAFFICBENCH_METRICS.format(**parts)]


def json_of(dialect: str) -> Json:
    """Return how a database reads JSON columns."""
    return PostgresJson() if dialect == "postgresql" else SqliteJson()


def parts_of(json: Json) -> dict[str, str]:
    """Return the expressions that fill the two templates."""
    return _result_parts(json) | _metric_parts(json)


class SqliteJson:
    """JSON as SQLite reads it."""

    flags = "group_concat(CASE WHEN m.role = 'primary' AND m.flags <> '' THEN m.flags END, ',')"

    def text(self, column: str, *path: str) -> str:
        """Return the text at a path."""
        return f"json_extract({column}, '$.{'.'.join(path)}')"

    def number(self, column: str, *path: str) -> str:
        """Return the number at a path, NULL for anything else."""
        value = self.text(column, *path)
        return f"CASE WHEN json_type({column}, '$.{'.'.join(path)}') IN ('integer', 'real') THEN {value} END"

    def numeral(self, column: str, key: str) -> str:
        """Return a number that is written as text."""
        return f"CAST({self.text(column, key)} AS REAL)"

    def first(self, column: str) -> str:
        """Return a list's first entry."""
        return f"json_extract({column}, '$[0]')"

    def length(self, column: str) -> str:
        """Return a list's length."""
        return f"json_array_length({column})"


class PostgresJson:
    """JSON as PostgreSQL reads it."""

    flags = "string_agg(CASE WHEN m.role = 'primary' AND m.flags <> '' THEN m.flags END, ',')"

    def text(self, column: str, *path: str) -> str:
        """Return the text at a path."""
        return f"({column}::json #>> '{{{{{','.join(path)}}}}}')".replace("{{", "{").replace("}}", "}")

    def number(self, column: str, *path: str) -> str:
        """Return the number at a path, NULL for anything else."""
        value = self.text(column, *path)
        number = "'^-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?$'"
        return f"CASE WHEN {value} ~ {number} THEN CAST({value} AS double precision) END"

    def numeral(self, column: str, key: str) -> str:
        """Return a number that is written as text."""
        return self.number(column, key)

    def first(self, column: str) -> str:
        """Return a list's first entry."""
        return f"({column}::json ->> 0)"

    def length(self, column: str) -> str:
        """Return a list's length."""
        return f"json_array_length({column}::json)"


Json = SqliteJson | PostgresJson
"""How a database reads JSON columns."""


def _result_parts(json: Json) -> dict[str, str]:
    is_primary = "CASE WHEN m.role = 'primary' THEN 1 ELSE 0 END"
    estimated = (
        "CASE WHEN m.role = 'primary' THEN CASE WHEN m.energy_source = 'estimated' THEN 1 ELSE 0 END END"
    )
    # A source that has no row (its samples could not be used) would make the sum too small without a word.
    not_all = f"sum(CASE WHEN m.role <> 'host' THEN 1 ELSE 0 END) < {json.length('r.source_ids_json')}"
    mixed = f"min({estimated}) <> max({estimated})"
    parts = {
        "is_primary": is_primary,
        "first_device": json.first("r.device_ids_json"),
        "host_sources": json.length("r.host_source_ids_json"),
        "host_measured": "CASE WHEN m.role = 'host' THEN 1 ELSE 0 END",
        "host_known": (
            "CASE WHEN m.role = 'host' AND m.energy_source <> 'estimated' AND m.joules IS NOT NULL"
            " THEN 1 ELSE 0 END"
        ),
        "hardware": _hardware(json),
        "flops": _flops(json),
        "flags": (
            f"coalesce({json.flags}, '')"
            f" || CASE WHEN sum({is_primary}) > 0 AND {not_all} THEN ',source_missing' ELSE '' END"
            f" || CASE WHEN {mixed} THEN ',mixed_sources' ELSE '' END"
        ),
    }
    for name in ("attribution", "coverage", "temperature_c_avg", "temperature_c_max", "temperature_c_min"):
        parts[f"primary_{name}"] = f"CASE WHEN m.role = 'primary' THEN m.{name} END"
    for name in ("scope", "energy_source", "method"):
        value = f"CASE WHEN m.role = 'primary' THEN m.{name} END"
        parts[f"one_or_both_{name}"] = (
            f"CASE WHEN min({value}) = max({value}) THEN min({value}) ELSE min({value}) || '+' || max({value}) END"
        )
    sums = (
        "joules",
        "joules_low",
        "joules_high",
        "net_joules",
        "idle_joules",
        "prefill_joules",
        "decode_joules",
    )
    for name in (*sums, "watts_avg", "memory_mb_avg"):
        value = f"CASE WHEN m.role = 'primary' THEN m.{name} END"
        parts[f"sum_{name}"] = (
            f"CASE WHEN count({value}) < sum({is_primary}) OR {not_all} OR {mixed} THEN NULL ELSE sum({value}) END"
        )
    # Of a sum of sources the average is the sum of averages; its extremes and median cannot be told from theirs.
    for name in ("watts_max", "watts_median", "watts_min", "memory_mb_max", "memory_mb_median", "memory_mb_min",
                 "temperature_c_median"):  # fmt: skip
        value = f"CASE WHEN m.role = 'primary' THEN m.{name} END"
        parts[f"single_{name}"] = f"CASE WHEN sum({is_primary}) = 1 THEN max({value}) END"
    return parts


def _hardware(json: Json) -> str:
    count = json.length("r.device_ids_json")
    name = f"CASE WHEN {json.first('r.device_ids_json')} = 'cpu' THEN {json.text('a.host_json', 'cpu_brand')} END"
    name = f"coalesce(nullif({name}, ''), d.name, {json.first('r.device_ids_json')})"
    return f"CASE WHEN {count} > 1 THEN {count} || ' x ' || {name} ELSE {name} END"


def _flops(json: Json) -> str:
    """Floating-point operations of one query on a decoder-only transformer.

    2 N T + 2 L d T (T + 1) with T = prompt tokens - cached + output tokens, N = active parameters, L = layers and
    d = embedding length: two operations per parameter and token, and for each token at position p and layer
    2 d p for the scores and 2 d p for the weighted sum (Kaplan et al. 2020, arXiv:2001.08361, section 2.1; Casson
    2023). The attention term is left out where L or d is not known; without N, or with experts and no number of
    active parameters, there is no value.
    """
    facts = "r.facts_json"
    counted = f"CASE WHEN {json.text(facts, 'experts')} IS NULL THEN {json.numeral(facts, 'parameters')} END"
    dense = f"CASE WHEN {json.text(facts, 'experts')} IS NULL THEN mo.params_b * 1e9 END"
    parameters = f"coalesce(mo.active_params_b * 1e9, {dense}, {counted})"
    tokens = "(g.prompt_tokens - coalesce(g.cached_tokens, 0) + g.output_tokens)"
    everything = "(1.0 * g.prompt_tokens + g.output_tokens)"
    cached = "coalesce(1.0 * g.cached_tokens, 0.0)"
    layers, width = json.numeral(facts, "layers"), json.numeral(facts, "embedding_length")
    pairs = f"({everything} * ({everything} + 1) - {cached} * ({cached} + 1))"
    return f"(2.0 * {parameters} * {tokens} + coalesce(2.0 * {layers} * {width} * {pairs}, 0.0))"


def _metric_parts(json: Json) -> dict[str, str]:
    settings, host = "r.settings_json", "a.host_json"
    engine = {
        "gpu_memory_utilization": ("gpu_memory_utilization",),
        "max_model_len": ("max_model_len", "context"),
        "max_num_batched_tokens": ("max_num_batched_tokens", "batch"),
        "num_workers": ("num_workers", "threads"),
    }
    parts = {
        name: f"coalesce({', '.join(json.number(settings, 'engine', key) for key in keys)}, NULL)"
        for name, keys in engine.items()
    }
    for name in ("temperature", "top_k", "top_p", "max_output_tokens"):
        parts[name] = json.number(settings, "sampling", name)
    parts["batch_size"] = json.number(settings, "concurrency")
    parts["cpu_count"] = json.number(host, "cpu_count")
    for name in ("cpu_brand", "os_name", "os_version", "kernel_version"):
        parts[name] = f"nullif({json.text(host, name)}, '')"
    source = "FROM run_energy x WHERE x.run_id = v.run_id AND x.role = 'primary'"
    parts["total_watts_avg"] = (
        f"(SELECT CASE WHEN count(*) = count(x.watts_avg) THEN sum(x.watts_avg) END {source})"
    )
    for name in ("max", "median", "min"):
        parts[f"total_watts_{name}"] = (
            f"(SELECT CASE WHEN count(*) = 1 THEN max(x.watts_{name}) END {source})"
        )
    return parts

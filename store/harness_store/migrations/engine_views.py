"""The views of revision 0004: what real engines tell of their model and settings, and published figures.

They are the first views with columns added, FLOPs counted from what the model's own files say, and settings that an
engine chose by itself taken from the run's facts.
"""

from __future__ import annotations

from harness_store.migrations import first_views

RESULT_COLUMNS = """
  r.engine_version,
  {precision} AS precision,
  {parameters} AS parameters, {active_parameters} AS active_parameters,
  {thinking} AS thinking, {repetition_penalty} AS repetition_penalty,
  {stated_joules} AS stated_joules, {stated_source} AS stated_energy_source,
  {batch_size} AS batch_size, {gpu_memory_utilization} AS gpu_memory_utilization, {max_model_len} AS max_model_len,
  {max_num_batched_tokens} AS max_num_batched_tokens, {max_output_tokens} AS max_output_tokens,
  {num_workers} AS num_workers, {temperature} AS sampling_temperature, {top_k} AS top_k, {top_p} AS top_p,
  j.warmup AS warmup_steps,
  {run_watts_avg} AS total_watts_avg, {run_watts_max} AS total_watts_max,
  {run_watts_median} AS total_watts_median, {run_watts_min} AS total_watts_min,
  {cpu_count} AS cpu_count, {cpu_brand} AS cpu_brand, a.hostname AS host_name,
  {os_name} AS os_name, {os_version} AS os_version, {kernel_version} AS kernel_version,
  {kv_cache_use_max} AS kv_cache_use_max, {running_requests_max} AS running_requests_max,
"""
METRIC_COLUMNS = """
  v.precision, v.engine_version, v.parameters, v.active_parameters, v.thinking, v.repetition_penalty, v.cost,
  v.stated_joules, v.stated_energy_source, v.kv_cache_use_max, v.running_requests_max,
"""
# The CREATE statements are the first views' with these columns after a column that both have.
_RESULT_ANCHOR = "\n  r.load_s,\n"
_METRIC_ANCHOR = "\n  v.prompt_tokens AS input, v.output_tokens AS output,\n"
_FROM_FACTS = ("gpu_memory_utilization", "max_model_len", "max_num_batched_tokens", "num_workers")


def create_statements(dialect: str) -> list[str]:
    """Return the statements that make the views on `sqlite` or `postgresql`."""
    json = first_views.json_of(dialect)
    parts = first_views.parts_of(json) | _new_parts(json)
    results = first_views.RESULT_ROWS.replace(
        _RESULT_ANCHOR, _RESULT_ANCHOR + RESULT_COLUMNS.strip("\n") + "\n"
    )
    metrics = first_views.TRAFFICBENCH_METRICS.replace(
        _METRIC_ANCHOR, _METRIC_ANCHOR + METRIC_COLUMNS.strip("\n") + "\n"
    )
    return [results.format(**parts), metrics.format(**parts)]


def _new_parts(json: first_views.Json) -> dict[str, str]:
    facts, settings, spec = "r.facts_json", "r.settings_json", "mo.spec_json"
    thinking = f"CAST({json.text(settings, 'sampling', 'thinking')} AS TEXT)"
    per_query = json.number(spec, "stated_energy", "joules_per_query")
    per_token = json.number(spec, "stated_energy", "joules_per_output_token")
    old = first_views.parts_of(json)
    parts = {
        # Older runs told a GGUF file's quantisation and no precision; a job may state what no file tells.
        "precision": (
            f"coalesce(nullif({json.text(facts, 'precision')}, ''),"
            f" lower(nullif({json.text(facts, 'quantisation')}, '')), nullif({json.text(spec, 'precision')}, ''))"
        ),
        "parameters": f"coalesce({json.numeral(facts, 'parameters')}, mo.params_b * 1e9)",
        "active_parameters": _active(json),
        "thinking": f"CASE WHEN {thinking} IN ('true', '1') THEN 1 WHEN {thinking} IN ('false', '0') THEN 0 END",
        "repetition_penalty": json.number(settings, "sampling", "repetition_penalty"),
        "stated_joules": f"coalesce({per_query}, {per_token} * g.output_tokens)",
        "stated_source": json.text(spec, "stated_energy", "source"),
        "flops": _flops(json),
        "kv_cache_use_max": json.numeral(facts, "kv_cache_use_max"),
        "running_requests_max": json.numeral(facts, "running_requests_max"),
    }
    for name in _FROM_FACTS:
        parts[name] = f"coalesce({old[name]}, {json.numeral(facts, name)})"
    for name in ("avg", "max", "median", "min"):
        parts[f"run_watts_{name}"] = old[f"total_watts_{name}"].replace("v.run_id", "r.run_id")
    # An engine that was left to choose its threads said 0 in older runs: that is no number of workers.
    parts["num_workers"] = f"nullif({parts['num_workers']}, 0)"
    return parts


def _active(json: first_views.Json) -> str:
    """Parameters that one token meets: as the job states, as counted in the model's files, all of a dense model."""
    facts = "r.facts_json"
    dense = f"{json.text(facts, 'experts')} IS NULL"
    return (
        f"coalesce(mo.active_params_b * 1e9, {json.numeral(facts, 'active_parameters')},"
        f" CASE WHEN {dense} THEN {json.numeral(facts, 'parameters')} END,"
        f" CASE WHEN {dense} THEN mo.params_b * 1e9 END)"
    )


def _flops(json: first_views.Json) -> str:
    """Floating-point operations of one query on a decoder-only transformer.

    2 N T + 2 L d T (T + 1), with T the tokens that were processed (prompt tokens that were not cached, and output
    tokens), N the active parameters without an input embedding that is looked up only (the head having a matrix of
    its own), L the layers and d = heads x head width: two operations per parameter and token, and for each token at
    position p and layer 2 d p for its scores and 2 d p for the weighted sum, summed over p = 1..T (Kaplan et al. 2020,
    arXiv:2001.08361, section 2.1, table 1). Cached tokens are looked at but not computed.
    The attention term is left out where L or d is not known; without N there is no value. MACs are half of it.
    """
    facts = "r.facts_json"
    tokens = "(g.prompt_tokens - coalesce(g.cached_tokens, 0) + g.output_tokens)"
    everything = "(1.0 * g.prompt_tokens + g.output_tokens)"
    cached = "coalesce(1.0 * g.cached_tokens, 0.0)"
    width = f"coalesce({json.numeral(facts, 'attention_width')}, {json.numeral(facts, 'embedding_length')})"
    pairs = f"({everything} * ({everything} + 1) - {cached} * ({cached} + 1))"
    attention = f"2.0 * {json.numeral(facts, 'layers')} * {width} * {pairs}"
    multiplied = f"({_active(json)} - coalesce({json.numeral(facts, 'looked_up_parameters')}, 0.0))"
    return f"(2.0 * {multiplied} * {tokens} + coalesce({attention}, 0.0))"

"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from harness_store.migrations.first_views import create_statements

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table, index and view."""
    op.create_table(
        "agents",
        *_text(
            "agent_id name state version boot_id clock_id hostname host_json labels_json engines_json "
            "features_json"
        ),
        *_text("loaded_model coordinator_id", null=True),
        *_bigint("registered_realtime_ns last_seen_realtime_ns"),
        *_double("clock_offset_ns clock_offset_error_ns", null=True),
        *_bigint("spool_bytes dropped_samples", null=True),
        sa.PrimaryKeyConstraint("agent_id", name="pk_agents"),
        sa.UniqueConstraint("name", name="uq_agents_name"),
    )
    op.create_table(
        "baselines",
        *_text("run_id"),
        *_bigint("start_ns end_ns"),
        sa.PrimaryKeyConstraint("run_id", "start_ns", name="pk_baselines"),
    )
    op.create_table(
        "clock_offsets",
        *_text("agent_id"),
        *_bigint("at_realtime_ns"),
        *_text("clock_id"),
        *_double("offset_ns error_ns"),
        sa.PrimaryKeyConstraint("agent_id", "at_realtime_ns", name="pk_clock_offsets"),
    )
    op.create_table(
        "datasets",
        *_text("dataset_id"),
        *_text("name", null=True),
        *_text("origin content_hash"),
        *_bigint("row_count created_realtime_ns"),
        sa.PrimaryKeyConstraint("dataset_id", name="pk_datasets"),
        sa.UniqueConstraint("name", name="uq_datasets_name"),
    )
    op.create_table(
        "evaluations",
        *_text("task_id"),
        *_bigint("attempt"),
        *_text("method"),
        *_boolean("correct", null=True),
        *_double("score", null=True),
        *_text("detail", null=True),
        *_bigint("evaluated_realtime_ns"),
        sa.PrimaryKeyConstraint("task_id", "attempt", "method", name="pk_evaluations"),
    )
    op.create_table(
        "events",
        sa.Column(
            "event_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        *_bigint("at_realtime_ns"),
        *_text("agent_id job_id run_id task_id", null=True),
        *_text("kind detail"),
        sa.PrimaryKeyConstraint("event_id", name="pk_events"),
    )
    op.create_index("ix_events_at_realtime_ns", "events", ["at_realtime_ns"])
    op.create_index("ix_events_job_id", "events", ["job_id"])
    op.create_table(
        "generations",
        *_text("task_id"),
        *_bigint("attempt"),
        *_text("run_id agent_id boot_id query_id"),
        *_boolean("warmup counted"),
        *_bigint("start_ns"),
        *_bigint("first_token_ns", null=True),
        *_bigint("end_ns"),
        *_binary("chunk_ns", null=True),
        *_bigint("prompt_tokens output_tokens cached_tokens", null=True),
        *_text("response reasoning finish_reason"),
        *_text("error", null=True),
        *_boolean("retryable"),
        *_double("engine_prefill_s engine_decode_s", null=True),
        *_bigint("received_realtime_ns"),
        sa.PrimaryKeyConstraint("task_id", "attempt", name="pk_generations"),
    )
    op.create_index("ix_generations_run_id_counted", "generations", ["run_id", "counted"])
    op.create_table(
        "measurements",
        *_text("task_id"),
        *_bigint("attempt"),
        *_text("source_id run_id role scope energy_source method attribution"),
        *_double(
            "joules joules_low joules_high net_joules idle_joules prefill_joules decode_joules coverage",
            null=True,
        ),
        *_text("flags"),
        *_boolean("final"),
        *_double(
            "temperature_c_avg temperature_c_max temperature_c_median temperature_c_min memory_mb_avg "
            "memory_mb_max memory_mb_median memory_mb_min",
            null=True,
        ),
        *_bigint("computed_realtime_ns"),
        *_double("watts_avg watts_max watts_median watts_min", null=True),
        sa.PrimaryKeyConstraint("task_id", "attempt", "source_id", name="pk_measurements"),
    )
    op.create_index("ix_measurements_run_id", "measurements", ["run_id"])
    op.create_table(
        "meta",
        *_text("key value"),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "models",
        *_text("model_id spec_hash spec_json"),
        *_double("params_b active_params_b input_price_per_mtok output_price_per_mtok", null=True),
        *_text("engine source"),
        sa.PrimaryKeyConstraint("model_id", "spec_hash", name="pk_models"),
    )
    op.create_table(
        "run_energy",
        *_text("run_id source_id role scope energy_source method attribution"),
        *_double(
            "device_joules device_joules_low device_joules_high attributed_joules unattributed_joules "
            "coverage baseline_before_w baseline_after_w alpha alpha_standard_error",
            null=True,
        ),
        *_text("flags"),
        *_boolean("final"),
        *_bigint("computed_realtime_ns"),
        *_double("watts_avg watts_max watts_median watts_min", null=True),
        sa.PrimaryKeyConstraint("run_id", "source_id", name="pk_run_energy"),
    )
    op.create_table(
        "sample_segments",
        *_text("agent_id boot_id source_id"),
        *_bigint("seq_first seq_last"),
        *_text("clock_id"),
        *_bigint("start_ns end_ns row_count stored_realtime_ns"),
        *_text("codec"),
        *_binary("payload"),
        sa.PrimaryKeyConstraint("agent_id", "boot_id", "source_id", "seq_first", name="pk_sample_segments"),
    )
    fresh = sa.text("codec = 'packed'")
    op.create_index(
        "ix_sample_segments_fresh",
        "sample_segments",
        ["agent_id", "boot_id", "source_id", "seq_first"],
        sqlite_where=fresh,
        postgresql_where=fresh,
    )
    op.create_index(
        "ix_sample_segments_time",
        "sample_segments",
        ["agent_id", "source_id", "clock_id", "start_ns", "end_ns"],
    )
    op.create_table(
        "samples_1hz",
        *_text("agent_id source_id clock_id"),
        *_bigint("second"),
        *_double("realtime_s", null=True),
        *_bigint("n power_n"),
        *_double(
            "power_w_avg power_w_min power_w_max energy_j_last memory_used_bytes_max temperature_c_max",
            null=True,
        ),
        sa.PrimaryKeyConstraint("agent_id", "source_id", "clock_id", "second", name="pk_samples_1hz"),
    )
    op.create_table(
        "task_host",
        *_text("task_id"),
        *_bigint("attempt"),
        *_text("run_id"),
        *_double("cpu_memory_mb_avg cpu_memory_mb_max cpu_memory_mb_median cpu_memory_mb_min", null=True),
        sa.PrimaryKeyConstraint("task_id", "attempt", name="pk_task_host"),
    )
    op.create_index("ix_task_host_run_id", "task_host", ["run_id"])
    op.create_table(
        "agent_boots",
        *_text("agent_id boot_id"),
        *_text("clock_id", null=True),
        *_bigint("control_seq first_realtime_ns"),
        *_bigint("first_monotonic_ns", null=True),
        sa.PrimaryKeyConstraint("agent_id", "boot_id", name="pk_agent_boots"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name="fk_agent_boots_agent_id_agents"),
    )
    op.create_table(
        "devices",
        *_text("agent_id device_id vendor name"),
        *_double("memory_total_bytes", null=True),
        sa.PrimaryKeyConstraint("agent_id", "device_id", name="pk_devices"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name="fk_devices_agent_id_agents"),
    )
    op.create_table(
        "jobs",
        *_text("job_id submission_id name state spec_json dataset_id"),
        *_bigint("query_count hardware_count repetitions priority"),
        *_text("energy evaluation"),
        *_bigint("warmup submitted_realtime_ns"),
        *_bigint("finished_realtime_ns", null=True),
        *_text("reason", null=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.dataset_id"], name="fk_jobs_dataset_id_datasets"),
        sa.UniqueConstraint("submission_id", name="uq_jobs_submission_id"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_table(
        "queries",
        *_text("dataset_id query_id"),
        *_bigint("ordinal"),
        *_text("text"),
        *_text("messages_json reference domain extra_json", null=True),
        sa.PrimaryKeyConstraint("dataset_id", "query_id", name="pk_queries"),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.dataset_id"], name="fk_queries_dataset_id_datasets"
        ),
    )
    op.create_index("ix_queries_dataset_id_ordinal", "queries", ["dataset_id", "ordinal"])
    op.create_table(
        "sources",
        *_text("agent_id source_id vendor device_id device_name scope energy_source"),
        *_boolean("has_energy has_power"),
        *_text("contained_in"),
        *_double(
            "counter_resolution_j counter_wrap_j max_power_w power_period_s counter_period_s "
            "averaging_s memory_total_bytes",
            null=True,
        ),
        *_text("facts_json notes_json"),
        *_text("gone_reason", null=True),
        *_bigint("gone_ns", null=True),
        *_bigint("updated_realtime_ns"),
        sa.PrimaryKeyConstraint("agent_id", "source_id", name="pk_sources"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name="fk_sources_agent_id_agents"),
    )
    op.create_table(
        "job_models",
        *_text("job_id model_id spec_hash"),
        *_bigint("ordinal"),
        sa.PrimaryKeyConstraint("job_id", "model_id", name="pk_job_models"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_job_models_job_id_jobs"),
    )
    op.create_table(
        "runs",
        *_text("run_id job_id model_id"),
        *_bigint("hardware_index"),
        *_text("agent_id boot_id"),
        *_text("clock_id", null=True),
        *_text("state device_ids_json"),
        *_text("source_ids_json host_source_ids_json", null=True),
        *_bigint("start_ns ready_ns end_ns last_ns", null=True),
        *_double("load_s", null=True),
        *_bigint("watermark_ns", null=True),
        *_text("settings_json facts_json engine engine_version reason", null=True),
        *_text("energy_state"),
        *_text("energy_reason", null=True),
        *_bigint("created_realtime_ns"),
        *_bigint("over_realtime_ns", null=True),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.agent_id"], name="fk_runs_agent_id_agents"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_runs_job_id_jobs"),
    )
    op.create_index("ix_runs_agent_id_state", "runs", ["agent_id", "state"])
    op.create_index("ix_runs_energy_state", "runs", ["energy_state"])
    op.create_index("ix_runs_job_id", "runs", ["job_id"])
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_table(
        "tasks",
        *_text("task_id job_id dataset_id query_id model_id"),
        *_bigint("hardware_index repetition ordinal"),
        *_text("state"),
        *_bigint("attempt failures max_attempts not_before_realtime_ns"),
        *_text("lease_agent_id run_id", null=True),
        *_bigint("lease_expires_realtime_ns started_realtime_ns", null=True),
        *_text("reason", null=True),
        *_bigint("updated_realtime_ns"),
        sa.PrimaryKeyConstraint("task_id", name="pk_tasks"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_tasks_job_id_jobs"),
    )
    op.create_index("ix_tasks_job_id_state", "tasks", ["job_id", "state"])
    op.create_index("ix_tasks_lease_agent_id_state", "tasks", ["lease_agent_id", "state"])
    op.create_index("ix_tasks_lease_expires_realtime_ns", "tasks", ["lease_expires_realtime_ns"])
    op.create_index(
        "ix_tasks_next",
        "tasks",
        ["job_id", "model_id", "hardware_index", "state", "not_before_realtime_ns", "ordinal"],
    )
    op.create_index("ix_tasks_run_id", "tasks", ["run_id"])
    for statement in create_statements(op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement)
    op.bulk_insert(
        sa.table("meta", sa.column("key", sa.Text), sa.column("value", sa.Text)),
        [{"key": "product", "value": "joule-harness"}],
    )


def downgrade() -> None:
    """Drop everything."""
    for view in ("trafficbench_metrics", "result_rows"):
        op.execute(f"DROP VIEW {view}")
    for table in TABLES_LAST_FIRST:
        op.drop_table(table)


TABLES_LAST_FIRST = (
    "tasks",
    "runs",
    "job_models",
    "sources",
    "queries",
    "jobs",
    "devices",
    "agent_boots",
    "task_host",
    "samples_1hz",
    "sample_segments",
    "run_energy",
    "models",
    "meta",
    "measurements",
    "generations",
    "events",
    "evaluations",
    "datasets",
    "clock_offsets",
    "baselines",
    "agents",
)


def _columns(type_: sa.types.TypeEngine[Any], names: str, null: bool) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_, nullable=null) for name in names.split()]


def _text(names: str, *, null: bool = False) -> list[sa.Column[Any]]:
    return _columns(sa.Text(), names, null)


def _bigint(names: str, *, null: bool = False) -> list[sa.Column[Any]]:
    return _columns(sa.BigInteger(), names, null)


def _double(names: str, *, null: bool = False) -> list[sa.Column[Any]]:
    return _columns(sa.Double(), names, null)


def _boolean(names: str, *, null: bool = False) -> list[sa.Column[Any]]:
    return _columns(sa.Boolean(), names, null)


def _binary(names: str, *, null: bool = False) -> list[sa.Column[Any]]:
    return _columns(sa.LargeBinary(), names, null)

"""`harness agents`: the fleet."""

from __future__ import annotations

import time
from typing import Any

import click
from harness_proto.v1 import jobs_pb2

from harness_cli.connection import CALL_TIMEOUT_S, coordinator_option, database_option, jobs_stub
from harness_cli.database import read_database
from harness_cli.output import format_option, print_rows

TABLE_COLUMNS = (
    "name",
    "state",
    "hardware",
    "loaded_model",
    "last_seen_s_ago",
    "clock_offset_error_ms",
    "version",
)


@click.command()
@format_option
@coordinator_option
@database_option
def agents(output_format: str, coordinator: str, database_url: str | None) -> None:
    """List the fleet: state, hardware, loaded model, last seen, clock offset."""
    if database_url:
        found = read_database(database_url, _agents)
    else:
        with jobs_stub(coordinator) as stub:
            found = list(stub.ListAgents(jobs_pb2.ListAgentsRequest(), timeout=CALL_TIMEOUT_S).agents)
    print_rows(
        [_row(agent) for agent in found],
        output_format,
        columns=TABLE_COLUMNS,
        labels={"last_seen_s_ago": "last seen (s ago)", "clock_offset_error_ms": "clock ± ms"},
        empty=f"No agent has joined {coordinator} yet; start one with: harness agent run --coordinator {coordinator}",
    )


def _agents(connection: Any) -> list[jobs_pb2.AgentSummary]:
    from harness_coordinator.answers import agent_message
    from harness_store.fleet import list_agents

    return [agent_message(row) for row in list_agents(connection)]


def _row(agent: jobs_pb2.AgentSummary) -> dict[str, Any]:
    error_ns = agent.clock_offset_error_ns if agent.HasField("clock_offset_error_ns") else None
    return {
        "agent_id": agent.agent_id,
        "name": agent.name,
        "state": agent.state,
        "hardware": list(agent.hardware),
        "sources": list(agent.sources),
        "loaded_model": agent.loaded_model,
        "labels": dict(agent.labels),
        "last_seen_s_ago": round(max(0.0, time.time() - agent.last_seen_realtime_ns / 1e9), 1),
        "clock_offset_ns": agent.clock_offset_ns if agent.HasField("clock_offset_ns") else None,
        "clock_offset_error_ms": None if error_ns is None else error_ns / 1e6,
        "version": agent.version,
    }

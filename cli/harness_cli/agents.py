"""`harness agents`: the fleet."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from harness_proto.v1 import jobs_pb2

from harness_cli.connection import (
    CALL_TIMEOUT_S,
    administrator_options,
    coordinator_option,
    database_option,
    jobs_stub,
)
from harness_cli.database import read_database
from harness_cli.failure import bad_input
from harness_cli.output import format_option, print_rows

TABLE_COLUMNS = (
    "name",
    "state",
    "hardware",
    "loaded_model",
    "last_seen_s_ago",
    "clock_offset_error_ms",
    "clock_drift_ppm",
    "clock_drift_error_ppm",
    "version",
)


@click.group(invoke_without_command=True)
@format_option
@coordinator_option
@database_option
@click.pass_context
def agents(context: click.Context, output_format: str, coordinator: str, database_url: str | None) -> None:
    """List the fleet: state, hardware, loaded model, last seen, clock offset; drain or remove an agent."""
    if context.invoked_subcommand is not None:
        return
    if database_url:
        found = read_database(database_url, _agents)
    else:
        with jobs_stub(coordinator) as stub:
            found = list(stub.ListAgents(jobs_pb2.ListAgentsRequest(), timeout=CALL_TIMEOUT_S).agents)
    print_rows(
        [_row(agent) for agent in found],
        output_format,
        columns=TABLE_COLUMNS,
        labels={
            "loaded_model": "model",
            "last_seen_s_ago": "last seen (s ago)",
            "clock_offset_error_ms": "clock ± ms",
            "clock_drift_ppm": "drift ppm",
            "clock_drift_error_ppm": "± ppm",
        },
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
        "clock_drift_ppm": agent.clock_drift_ppm if agent.HasField("clock_drift_ppm") else None,
        "clock_drift_error_ppm": (
            agent.clock_drift_error_ppm if agent.HasField("clock_drift_error_ppm") else None
        ),
        "version": agent.version,
    }


def _administer(database_url: str | None, state_dir: Path | None, change: Callable[[Any], str]) -> str:
    """Run a change of the fleet in one transaction and return the agent's id."""
    from harness_store.errors import UnknownAgentError

    from harness_cli.token import opened

    with opened(database_url, state_dir) as store:
        try:
            with store.begin() as connection:
                return change(connection)
        except UnknownAgentError as error:
            raise bad_input(str(error)) from None


@agents.command()
@click.argument("agent")
@click.option("--undo", is_flag=True, help="Give it work again.")
@administrator_options
def drain(agent: str, undo: bool, database_url: str | None, state_dir: Path | None) -> None:
    """Let AGENT (name or id) finish what it has and get nothing new, for example before a reboot."""
    from harness_store import fleet

    _administer(database_url, state_dir, lambda c: fleet.drain_agent(c, agent, drained=not undo))
    click.echo(f"{agent} gets work again" if undo else f"{agent} finishes what it has and gets nothing new")


@agents.command()
@click.argument("agent")
@administrator_options
def remove(agent: str, database_url: str | None, state_dir: Path | None) -> None:
    """Remove AGENT (name or id) for good: its certificate ends and its tasks go to others; its data stay."""
    from harness_store import credentials, fleet, leases

    def change(connection: Any) -> str:
        now_ns = time.time_ns()
        agent_id = fleet.remove_agent(connection, agent)
        leases.release_agent(connection, agent_id, now_ns=now_ns)
        credentials.revoke_certificates(connection, [agent_id], now_ns=now_ns)
        return agent_id

    agent_id = _administer(database_url, state_dir, change)
    click.echo(f"{agent} ({agent_id}) is no part of the fleet any more")

"""The table of commands: each is imported when it is called, so that `harness --help` needs no extra."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from harness_cli.failure import bad_input

_SECTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Start here": {
        "demo": ("harness_cli.demo:demo", "Run an example job on this machine, end to end."),
    },
    "Machines": {
        "coordinator": (
            "harness_cli.coordinator:coordinator",
            "Run the coordinator; make its certificates.",
        ),
        "agent": ("harness_cli.agent:agent", "Run an agent on this machine; see what it can measure."),
        "agents": ("harness_cli.agents:agents", "List the fleet; drain or remove an agent."),
    },
    "Access": {
        "token": ("harness_cli.token:token", "Make, list and revoke join tokens."),
        "login": ("harness_cli.login:login", "Get your certificate for a coordinator."),
        "db": ("harness_cli.db:db", "Migrate, check, prune and export the database."),
    },
    "Jobs": {
        "submit": ("harness_cli.submit:submit", "Submit a job file; prints the job id."),
        "jobs": ("harness_cli.jobs:jobs", "List jobs."),
        "job": ("harness_cli.jobs:job", "Show, watch, cancel or retry one job."),
        "dataset": (
            "harness_cli.dataset:dataset",
            "Import, clean, split, label and export sets of queries.",
        ),
        "models": ("harness_cli.models:models", "List known models, and which are here; convert weights."),
    },
    "Verdicts": {
        "evaluate": (
            "harness_cli.evaluate:evaluate",
            "Judge a job's answers: by a rule, by tests, by judges.",
        ),
        "judges": ("harness_cli.judges:judges", "How far judges agree; blind samples for people, and back."),
    },
    "Numbers": {
        "results": ("harness_cli.results:results", "Rows of a job: joules, seconds, tokens, verdicts."),
        "compare": (
            "harness_cli.results:compare",
            "Which differences between models are larger than the uncertainty.",
        ),
        "recompute": (
            "harness_cli.recompute:recompute",
            "Make a job's joules again from the stored samples.",
        ),
        "metrics": ("harness_cli.metrics:metrics", "A job's models side by side in the paper's metrics."),
        "samples": ("harness_cli.samples:samples", "Raw samples of a job or an agent."),
        "integrate": ("harness_cli.integrate:integrate", "Joules from recorded files; needs no server."),
        "export": ("harness_cli.bench:export", "Publish queries, verdicts and telemetry as a benchmark."),
        "import": ("harness_cli.bench:import_", "Check a published benchmark and take its datasets."),
    },
    "Which model should answer": {
        "analyze": (
            "harness_cli.analyze:analyze",
            "Solvability, coverage, efficiency, savings of any outcomes.",
        ),
        "route": ("harness_cli.route:route", "Evaluate, compare, fit and use routers."),
        "report": ("harness_cli.analyze:report", "One page about outcomes, to hand to a colleague."),
    },
}


class GroupedCommands(click.Group):
    """A group whose commands are listed by subject and loaded when they are used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has seen enough, as `head` has, is no failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is still buffered would fail once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command in the order of the help page."""
        return [name for section in _SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or say which extra it lacks."""
        for section in _SECTIONS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name][0].partition(":")
                try:
                    return getattr(importlib.import_module(module), attribute)
                except ModuleNotFoundError as error:
                    raise _missing(cmd_name, error) from None
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section."""
        for title, section in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command; an unknown one is answered with the nearest known."""
        from harness_coordinator.jobfile import suggestion

        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(f"there is no command `{name}`{suggestion(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


_EXTRA_OF = {
    "sqlalchemy": "coordinator",
    "alembic": "coordinator",
    "pyarrow": "coordinator",
    "polars": "analysis",
    "pandas": "analysis",
    "ibis": "analysis",
    "duckdb": "analysis",
    "sklearn": "analysis",
    "scipy": "analysis",
    "matplotlib": "analysis",
    "faiss": "analysis",
    "py3langid": "analysis",
}


def _missing(command: str, error: ModuleNotFoundError) -> click.ClickException:
    module = (error.name or "").partition(".")[0]
    if module.startswith("harness_"):
        raise error
    extra = _EXTRA_OF.get(module)
    fix = f"pip install 'joule-harness[{extra}]'" if extra else f"pip install {module}"
    return bad_input(f"`harness {command}` needs the package {module}, which is not installed: {fix}")

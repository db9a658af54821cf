"""`harness agent doctor` and `harness agent sample`: what can be measured here, and doing it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import numpy as np
from harness_agent.discovery import Discovery, discover, provider_names
from harness_agent.installation import look
from harness_agent.learning import discover_learned
from harness_agent.sample_blocks import SampleBlock
from harness_agent.sample_files import SUFFIXES, SampleFileError, merge, write_samples
from harness_agent.sampler import Sampler
from harness_backends.engines.adapter import EngineAvailability
from harness_backends.engines.registry import engine_availabilities
from harness_backends.telemetry.estimate import EstimateSource
from harness_backends.telemetry.source import Finding

from harness_cli.failure import bad_input, work_failed
from harness_cli.finite_range import FiniteRange
from harness_cli.output import format_option, print_rows
from harness_cli.output_file import OutputFile

MAX_PID = 2**31 - 1
"""The most that any system's process number can be."""

_FINDING_COLUMNS = ("provider", "subject", "available", "detail", "fix")


@click.command()
@format_option
def doctor(output_format: str) -> None:
    """Say what can be measured and run on this machine, source by source and engine by engine, and why not."""
    found = discover_learned(with_host=False)
    found.close()
    engines = [_engine_finding(engine) for engine in engine_availabilities()]
    service = [Finding("service", *looked) for looked in look()]
    if output_format != "table":
        findings = [*found.findings, *engines, *service]
        rows = [{name: getattr(finding, name) for name in _FINDING_COLUMNS} for finding in findings]
        print_rows(rows, output_format, columns=_FINDING_COLUMNS)
        return
    click.echo("Energy sources")
    for finding in found.findings:
        _print_finding(finding)
    usable = sum(source.info.has_energy or source.info.has_power for source in found.sources)
    measured = sum(source.info.energy_source != "estimated" for source in found.sources)
    click.echo(f"{usable} source(s) of energy can be read here, {measured} of them measured.\n")
    click.echo("Engines")
    for finding in engines:
        _print_finding(finding)
    click.echo("\nService")
    for finding in service:
        _print_finding(finding)


def _engine_finding(engine: EngineAvailability) -> Finding:
    detail = engine.version or "installed"
    if not engine.available:
        return Finding(engine.name, "engine", available=False, detail=engine.reason)
    return Finding(engine.name, "engine", available=True, detail=detail)


def _print_finding(finding: Finding) -> None:
    mark = click.style("yes", fg="green") if finding.available else click.style("no ", fg="yellow")
    click.echo(f"{mark} {finding.provider:9} {finding.subject}: {finding.detail}")
    if finding.fix:
        click.echo(f"              {'hint' if finding.available else 'fix'}: {finding.fix}")


@click.command()
@click.option("--seconds", type=FiniteRange(min=0.1), required=True, help="How long to sample.")
@click.option(
    "--hz", type=FiniteRange(min=0.1, max=2000), help="Polls a second; default: what each sensor needs."
)
@click.option(
    "--source", "providers", multiple=True, help="Provider to read (repeatable); default: all that answer."
)
@click.option(
    "--pid",
    "pids",
    type=click.IntRange(1, MAX_PID),
    multiple=True,
    help="Process tree that `estimate` follows; default: all.",
)
@click.option("-o", "--output", type=OutputFile(), help="FILE.parquet or FILE.csv.")
@format_option
def sample(
    seconds: float,
    hz: float | None,
    providers: tuple[str, ...],
    pids: tuple[int, ...],
    output: Path | None,
    output_format: str,
) -> None:
    """Sample the sensors of this machine, with no coordinator, and sum up what was seen."""
    if output is not None and output.suffix not in SUFFIXES:
        msg = f"-o {output}: the file name must end in .parquet or .csv"
        raise bad_input(msg)
    if output is not None and not output.parent.is_dir():
        msg = f"-o {output}: there is no folder {output.parent}"
        raise bad_input(msg)
    for name in providers:
        if name not in provider_names():
            msg = f"--source {name}: no such provider; known here: {', '.join(provider_names())}"
            raise bad_input(msg)
    find = discover_learned if hz is None else discover
    found = find(providers or None, with_host=not providers)
    if not found.sources:
        raise work_failed(_nothing(found))
    for source in found.sources:
        if isinstance(source, EstimateSource) and not pids:
            source.track_host()
    if pids:
        found.track(pids)
    blocks: list[SampleBlock] = []
    sampler = Sampler(found.sources, blocks.append, hz)
    sampler.start()
    try:
        _wait(seconds)
    except KeyboardInterrupt:
        click.echo("interrupted; what was sampled so far follows", err=True)
    finally:
        sampler.stop()
    columns = merge(blocks)
    if output is not None:
        try:
            write_samples(output, columns)
        except SampleFileError as error:
            raise bad_input(str(error)) from error
    rows = [_summarise(source.info.source_id, source.info.energy_source, columns) for source in found.sources]
    print_rows(rows, output_format)
    for source_id, counts in sampler.counts.items():
        if counts.gone or counts.errors:
            click.echo(f"{source_id}: {counts.gone or counts.last_error}", err=True)


def _wait(seconds: float) -> None:
    """Let the time pass, with a progress bar on a terminal."""
    end_s = time.monotonic() + seconds
    with click.progressbar(
        length=round(seconds * 10), label="Sampling", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.1))
            bar.update(1)


def _nothing(found: Discovery) -> str:
    reasons = [f"{finding.subject}: {finding.detail}" for finding in found.findings if not finding.available]
    return "nothing can be sampled here; " + "; ".join(reasons)


def _summarise(
    source_id: str, energy_source: str, columns: dict[str, np.ndarray]
) -> dict[str, str | float | int | None]:
    mine = columns["source"] == source_id if len(columns["t_ns"]) else np.zeros(0, bool)
    t_s = columns["t_ns"][mine] * 1e-9
    span_s = float(t_s[-1] - t_s[0]) if len(t_s) > 1 else 0.0
    joules = _joules(t_s, _values(columns, "energy_j", mine), _values(columns, "power_w", mine))
    return {
        "source": source_id,
        "energy_source": energy_source or None,
        "samples": len(t_s),
        "hz": round((len(t_s) - 1) / span_s, 2) if span_s else None,
        "seconds": round(span_s, 3),
        "joules": None if joules is None else round(joules, 3),
        "watts": round(joules / span_s, 3) if joules is not None and span_s else None,
    }


def _values(columns: dict[str, np.ndarray], name: str, mine: np.ndarray) -> np.ndarray:
    return columns[name][mine] if name in columns else np.full(int(mine.sum()), np.nan)


def _joules(t_s: np.ndarray, energy_j: np.ndarray, power_w: np.ndarray) -> float | None:
    """Return the joules from the first to the last sample: a first look, without bounds."""
    counted = energy_j[~np.isnan(energy_j)]
    if len(counted) > 1:
        return float(counted[-1] - counted[0])
    seen = ~np.isnan(power_w)
    if seen.sum() > 1:
        return float(np.trapezoid(power_w[seen], t_s[seen]))
    return None

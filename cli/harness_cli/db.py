"""`harness db`: migrate, check, prune and export a database."""

from __future__ import annotations

import time
from pathlib import Path

import click

from harness_cli.connection import administrator_options
from harness_cli.failure import bad_input, unreachable, work_failed
from harness_cli.output import format_option, print_rows
from harness_cli.state_directory import own_database
from harness_cli.token import opened, seconds


@click.group()
def db() -> None:
    """Migrate, check, prune and export the database."""


@db.command()
@administrator_options
def migrate(database_url: str | None, state_dir: Path | None) -> None:
    """Create the schema or bring it up to date; `coordinator run` does the same at its start."""
    from harness_store.database import open_store
    from harness_store.errors import OlderDatabaseError, StoreError

    url = own_database(database_url, state_dir)
    try:
        before_store = open_store(url, create=False)
        before = before_store.schema_version()
        before_store.close()
    except OlderDatabaseError as error:
        before = error.revision or "none"
    except StoreError:
        # Where there is something wrong, and not nothing, opening it below says what.
        before = "none"
    with opened(database_url, state_dir, create=True) as store:
        click.echo(f"schema revision {store.schema_version()} (before: {before})")


@db.command()
@format_option
@administrator_options
def check(output_format: str, database_url: str | None, state_dir: Path | None) -> None:
    """Check what must hold: results counted once, batches whole, joules conserved. Exit code 1 if not."""
    from harness_store import upkeep
    from harness_store.database import open_store
    from harness_store.errors import StoreError

    try:
        store = open_store(own_database(database_url, state_dir), create=False)
    except StoreError as error:
        raise unreachable(str(error)) from None
    with store.read() as connection:
        findings = upkeep.check(connection)
    store.close()
    print_rows([{"what": f.what, "ok": f.ok, "detail": f.detail} for f in findings], output_format)
    broken = [f.what for f in findings if not f.ok]
    if broken:
        raise work_failed(f"the database is not whole: {', '.join(broken)}")


@db.command()
@click.option("--older-than", required=True, metavar="TIME", help="For example 90d.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and keep it.")
@administrator_options
def prune(older_than: str, dry_run: bool, database_url: str | None, state_dir: Path | None) -> None:
    """Delete old raw samples, events and spent credentials; results and joules stay."""
    from harness_store import upkeep

    before_ns = time.time_ns() - int(seconds(older_than, "--older-than") * 1e9)
    with opened(database_url, state_dir) as store, store.begin() as connection:
        gone = upkeep.prune(connection, before_realtime_ns=before_ns, dry_run=dry_run)
    click.echo(
        f"{'would delete' if dry_run else 'deleted'} {gone.segments} sample segments ({gone.bytes / 1e6:.1f} MB),"
        f" {gone.events} events, {gone.tokens} tokens, {gone.certificates} certificates"
    )


@db.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A new or empty folder.")
@administrator_options
def export(output: Path, database_url: str | None, state_dir: Path | None) -> None:
    """Write every table as Parquet; tokens and certificates are left out."""
    from harness_store import upkeep

    try:
        with opened(database_url, state_dir) as store, store.read() as connection:
            output.mkdir(parents=True, exist_ok=True)
            if any(output.iterdir()):
                raise bad_input(f"-o {output}: the folder is not empty")
            for name, rows in upkeep.export_tables(connection, output):
                click.echo(f"{name}: {rows} rows")
    except OSError as error:
        raise bad_input(f"-o {output}: cannot be written: {error.strerror}") from None

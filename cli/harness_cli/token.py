"""`harness token`: who may join the fleet, on the machine of its coordinator."""

from __future__ import annotations

import contextlib
import datetime
import re
import time
from collections.abc import Iterator
from pathlib import Path

import click
from harness_coordinator.authority import Authority, AuthorityError
from harness_coordinator.tokens import new_token
from harness_store import credentials, events
from harness_store.database import Store, open_store
from harness_store.errors import StoreError, UnknownCredentialError

from harness_cli.connection import administrator_options
from harness_cli.failure import bad_input, unreachable
from harness_cli.output import format_option, print_rows
from harness_cli.state_directory import own_database, state_directory, tls_directory

DEFAULT_TTL = "24h"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group()
def token() -> None:
    """Make, list and revoke the tokens that machines and people join with."""


@token.command()
@click.option("--role", type=click.Choice(credentials.ROLES), required=True, help="What the holder may do.")
@click.option(
    "--ttl",
    default=DEFAULT_TTL,
    show_default=True,
    metavar="TIME",
    help="Until when it may be redeemed: 90m, 24h, 7d.",
)
@click.option("--note", default="", help="For whom it is; shown in the list.")
@administrator_options
def create(role: str, ttl: str, note: str, database_url: str | None, state_dir: Path | None) -> None:
    """Print a new join token; it is shown this once and only its hash is kept."""
    folder = tls_directory(state_dir or state_directory("coordinator"))
    if not Authority.exists(folder):
        raise bad_input(f"{folder} holds no certificate authority; run `harness coordinator init` first")
    try:
        authority = Authority.load(folder)
    except AuthorityError as error:
        raise bad_input(str(error)) from None
    made = new_token(authority.ca_der, role=role, ttl_s=seconds(ttl), note=note)
    with opened(database_url, state_dir, create=True) as store, store.begin() as connection:
        credentials.add_token(connection, made.row)
        events.add(connection, kind="token_created", detail=f"{role}, {made.row.token_id}")
    click.echo(made.text)
    uses = "one machine" if role == credentials.AGENT else "several people"
    click.echo(f"token {made.row.token_id}, role {role}, for {uses}, valid {ttl}", err=True)


@token.command("list")
@format_option
@administrator_options
def list_(output_format: str, database_url: str | None, state_dir: Path | None) -> None:
    """List tokens and the certificates made from them."""
    now_ns = time.time_ns()
    with opened(database_url, state_dir) as store, store.read() as connection:
        tokens = credentials.tokens(connection)
        certificates = credentials.certificates(connection, now_ns=now_ns)
    rows = [
        {
            "kind": "token",
            "id": t.token_id,
            "role": t.role,
            "subject": t.note,
            "state": t.state(now_ns),
            "expires": _day(t.expires_realtime_ns),
            "token": None,
        }
        for t in tokens
    ] + [
        {
            "kind": "certificate",
            "id": c.serial,
            "role": c.role,
            "subject": c.subject,
            "state": _certificate_state(c, now_ns),
            "expires": _day(c.expires_realtime_ns),
            "token": c.token_id,
        }
        for c in certificates
    ]
    print_rows(rows, output_format, empty="No token was made yet: harness token create --role agent")


@token.command()
@click.argument("name", metavar="ID")
@administrator_options
def revoke(name: str, database_url: str | None, state_dir: Path | None) -> None:
    """Revoke a token with its certificates, a certificate, or everything of an agent or person."""
    with opened(database_url, state_dir) as store:
        try:
            with store.begin() as connection:
                ended = credentials.revoke(connection, name, now_ns=time.time_ns())
                events.add(connection, kind="revoked", detail=name)
        except UnknownCredentialError as error:
            raise bad_input(str(error)) from None
    click.echo(f"revoked {ended.tokens} token(s) and {ended.certificates} certificate(s)")


@contextlib.contextmanager
def opened(database_url: str | None, state_dir: Path | None, *, create: bool = False) -> Iterator[Store]:
    """Open the coordinator's database for an administrator; make it, or bring it up to date, only if asked to."""
    try:
        store = open_store(own_database(database_url, state_dir), create=create)
    except StoreError as error:
        raise unreachable(str(error)) from None
    try:
        yield store
    finally:
        store.close()


def seconds(text: str, option: str = "--ttl") -> float:
    """Return a time given as 90m, 24h or 7d.

    Raises:
        Failure: it is no such time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise bad_input(f"{option} takes a time such as 90m, 24h or 7d, not {text!r}")
    return float(match[1]) * _UNITS_S[match[2]]


def _certificate_state(row: credentials.CertificateRow, now_ns: int) -> str:
    if row.revoked_realtime_ns is not None:
        return "revoked"
    return "expired" if row.expires_realtime_ns <= now_ns else "valid"


def _day(realtime_ns: int) -> str:
    at = datetime.datetime.fromtimestamp(realtime_ns / 1e9, tz=datetime.UTC)
    return at.strftime("%Y-%m-%d %H:%M UTC")

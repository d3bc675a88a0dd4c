"""`tamis keys`: the API keys of a service's callers."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.parameter_types import lifetime_option
from tamis.cli.terminal import echo
from tamis.clock import SystemClock
from tamis.service.security.api_keys import SCOPES

if TYPE_CHECKING:
    from tamis.service.security.api_keys import KeyFile

_DESCRIBED_SCOPES = "; ".join(f"{scope}: {opens}" for scope, opens in SCOPES.items())

_file_option = click.option(
    "--file", "path", type=click.Path(path_type=Path), help="Key file.  [env: TAMIS_KEYS_FILE]"
)


@click.group(epilog="Example: tamis keys create newsroom --expires 90d")
def command() -> None:
    """Create, list or revoke the API keys that TAMIS_REQUIRE_KEYS requires.

    Running workers see a change within a second.
    """


@command.command("create", epilog="Example: tamis keys create newsroom --scope predict --expires 90d")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=["predict"],
    show_default=True,
    type=click.Choice(list(SCOPES)),
    help=f"Permission of the key; may be repeated. {_DESCRIBED_SCOPES}.",
)
@click.option(
    "--expires",
    metavar="TIME",
    callback=lifetime_option,
    help="Expire after 12h, 90d, 26w, 1y.  [default: never]",
)
@click.option(
    "--another", is_flag=True, help="Add a key to those of this name, to rotate keys without downtime."
)
@_file_option
def create(
    name: str, *, scopes: tuple[str, ...], expires: timedelta | None, another: bool, path: Path | None
) -> None:
    """Create a key for the caller NAME and print it once.

    Only its hash is stored.
    """
    from tamis.service.security.api_keys import NAME, KeyRecord, hash_of, new_key

    if not NAME.fullmatch(name):
        raise click.BadParameter(
            "must be a letter and then letters, digits, '_', '.' or '-'; 64 characters at most",
            param_hint="'NAME'",
        )
    now, key = _now(), new_key()
    record = KeyRecord(name, hash_of(key), sorted(set(scopes)), now, now + expires if expires else None)
    _key_file(path).add(record, another=another)
    # on standard error, so that a script can capture the key alone
    echo("This key is shown once and cannot be shown again:", err=True)
    echo(key)


@command.command("list", epilog="Example: tamis keys list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_file_option
def list_(*, as_json: bool, path: Path | None) -> None:
    """List all keys: name, scopes, creation and expiry."""
    import msgspec

    now = _now()
    rows: list[dict[str, Any]] = [
        {
            "name": key.name,
            "scopes": key.scopes,
            "created_at": f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}",
            "expires_at": f"{key.expires_at:%Y-%m-%dT%H:%M:%SZ}" if key.expires_at else None,
            "is_expired": key.expires_at is not None and key.expires_at <= now,
        }
        for key in _key_file(path).read()
    ]
    if as_json:
        echo(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        verb = "expired" if row["is_expired"] else "expires"
        end = f"{verb} {row['expires_at']}" if row["expires_at"] else "never expires"
        echo(f"{row['name']}\t{' '.join(row['scopes'])}\tcreated {row['created_at']}\t{end}")


@command.command("revoke", epilog="Example: tamis keys revoke newsroom")
@click.argument("name")
@click.option("--older", is_flag=True, help="Keep the newest key; revoke the older ones.")
@_file_option
def revoke(name: str, *, older: bool, path: Path | None) -> None:
    """Revoke all keys of the caller NAME."""
    count = _key_file(path).remove(name, keep_newest=older)
    echo(f"revoked {count} {'key' if count == 1 else 'keys'} of {name}")


def _key_file(path: Path | None) -> KeyFile:
    from tamis.service.security.api_keys import KeyFile
    from tamis.settings import Settings

    return KeyFile(path or Settings.from_environment(os.environ, Path(".env")).keys_path)


def _now() -> datetime:
    return datetime.fromtimestamp(SystemClock().utc_ns() // 1_000_000_000, UTC)

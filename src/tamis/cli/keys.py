"""`tamis keys`: who may call, and what with."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.terminal import echo
from tamis.service.security.api_keys import SCOPES

if TYPE_CHECKING:
    from tamis.service.security.api_keys import KeyFile, KeyRecord

_DESCRIBED_SCOPES = "; ".join(f"{scope}: {opens}" for scope, opens in SCOPES.items())
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1), "y": timedelta(days=365)}
# a century: larger spans overflow dates
_MAX_AGE = timedelta(days=36_500)

_file_option = click.option(
    "--file", "path", type=click.Path(path_type=Path), help="Key file.  [env: TAMIS_KEYS_FILE]"
)


def _lifetime(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """Read a time to live such as 90d."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdwy])", value, re.ASCII)
    if found is None or (lifetime := int(found[1]) * _UNITS[found[2]]) > _MAX_AGE:
        raise click.BadParameter("must be a number and h, d, w or y, such as 90d; 100 years at most")
    return lifetime


@click.group(epilog="Example: tamis keys create newsroom --expires 90d")
def command() -> None:
    """Create, list or revoke the API keys that TAMIS_REQUIRE_KEYS asks for.

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
    help=f"May be given several times: {_DESCRIBED_SCOPES}.",
)
@click.option(
    "--expires",
    metavar="TIME",
    callback=_lifetime,
    help="Expire after 12h, 90d, 26w, 1y.  [default: never]",
)
@click.option(
    "--another", is_flag=True, help="Create a further key of this name, to rotate keys without downtime."
)
@_file_option
def create(
    name: str, *, scopes: tuple[str, ...], expires: timedelta | None, another: bool, path: Path | None
) -> None:
    """Create a key for the caller NAME and print it once; only its hash is stored."""
    from tamis.service.security.api_keys import NAME, KeyRecord, hash_of, new_key

    if not NAME.fullmatch(name):
        raise click.BadParameter(
            "must begin with a letter and go on with letters, digits, '_', '.' or '-', 64 at most",
            param_hint="'NAME'",
        )
    now, key = _now(), new_key()
    record = KeyRecord(name, hash_of(key), sorted(set(scopes)), now, now + expires if expires else None)
    _key_file(path).add(record, another=another)
    echo("This key is shown once and cannot be shown again:", err=True)
    echo(key)


@command.command("list", epilog="Example: tamis keys list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_file_option
def list_(*, as_json: bool, path: Path | None) -> None:
    """List all keys: name, scopes, creation and expiry."""
    import msgspec

    now = _now()
    rows = [_row(key, now) for key in _key_file(path).read()]
    if as_json:
        echo(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        verb = "expired" if row["is_expired"] else "expires"
        ends = f"{verb} {row['expires_at']}" if row["expires_at"] else "no end"
        echo("\t".join([row["name"], " ".join(row["scopes"]), f"made {row['created_at']}", ends]))


@command.command("revoke", epilog="Example: tamis keys revoke newsroom")
@click.argument("name")
@click.option("--older", is_flag=True, help="Keep the newest key of this name.")
@_file_option
def revoke(name: str, *, older: bool, path: Path | None) -> None:
    """Revoke all keys of the caller NAME."""
    count = _key_file(path).remove(name, keep_newest=older)
    echo(f"revoked {count} {'key' if count == 1 else 'keys'} of {name}")


def _key_file(path: Path | None) -> KeyFile:
    import os

    from tamis.service.security.api_keys import KeyFile
    from tamis.settings import Settings

    return KeyFile(path or Settings.from_environment(os.environ, Path(".env")).keys_path)


def _row(key: KeyRecord, now: datetime) -> dict[str, Any]:
    return {
        "name": key.name,
        "scopes": key.scopes,
        "created_at": _shown(key.created_at),
        "expires_at": _shown(key.expires_at) if key.expires_at else None,
        "is_expired": key.expires_at is not None and key.expires_at <= now,
    }


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _now() -> datetime:
    from tamis.clock import SystemClock

    return datetime.fromtimestamp(SystemClock().utc_ns() // 1_000_000_000, UTC)

"""`tamis log`: the call log in a terminal, in aligned columns, without control characters of a text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.settings import store_option
from tamis.cli.terminal import echo, escaped_bytes

if TYPE_CHECKING:
    from tamis.storage import LogQuery, Store

_LINES = 50
"""Calls that are shown where neither a limit nor a form for programs is asked for."""

_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
# a century: larger spans overflow dates
_MAX_AGE = timedelta(days=36_500)
_FILTERS = ("caller", "since", "until", "label", "contains", "model")


def _age(value: str) -> timedelta | None:
    found = re.fullmatch(r"([0-9]{1,7})([mhdw])", value, re.ASCII)
    age = int(found[1]) * _UNITS[found[2]] if found else None
    return age if age is not None and age <= _MAX_AGE else None


def moment_option_value(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Read a point of time: `2h` ago, a date, or RFC 3339 with its offset."""
    if value is None:
        return None
    if (age := _age(value)) is not None:
        return datetime.now(UTC) - age
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        value += "T00:00:00Z"
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.BadParameter("must be like 90m, 2h, 3d or 1w ago, 2026-11-21, or 2026-11-21T22:38:33Z")
    return moment


def _length(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    """Read a length of time such as 30d."""
    age = _age(value)
    if age is None:
        raise click.BadParameter("must be a number and m, h, d or w, such as 30d; 100 years at most")
    return age


_yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


@click.group(
    invoke_without_command=True,
    epilog="Example: tamis log --since 2h --label spam --contains free",
)
@store_option
@click.option("--caller", metavar="NAME", help="Calls of this caller only.")
@click.option(
    "--since",
    metavar="TIME",
    callback=moment_option_value,
    help="Calls since this time: 2h, 3d, 2026-11-21, RFC 3339.",
)
@click.option("--until", metavar="TIME", callback=moment_option_value, help="Calls before this time.")
@click.option("--label", help="Calls predicted as this label.")
@click.option("--contains", metavar="TEXT", help="Calls whose text contains this; case is ignored for ASCII.")
@click.option(
    "--model", metavar="DIGEST", help="Calls scored by this model; `tamis models show` prints its digest."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"Maximum number of calls.  [default: {_LINES} in lines, else all]",
)
@click.option("--order", type=click.Choice(["newest", "oldest"]), default="newest", show_default=True)
@click.option("--json", "form", flag_value="json", help="Print the JSON document of GET /log.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV that is safe to open in a spreadsheet.")
@click.option("--ndjson", "form", flag_value="ndjson", help="Print one JSON object per line.")
@click.option("--summary", is_flag=True, help="Count by hour and label instead.")
@click.pass_context
def command(context: click.Context, /, url: str | None, summary: bool, **options: Any) -> None:
    """Print logged calls, the newest first.

    A running service is not disturbed: nothing is locked.
    """
    import asyncio

    from tamis.storage import LogQuery

    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    if summary and options["form"] == "csv":
        raise click.UsageError("--summary prints lines or --json")
    filters = {name: options[name] for name in _FILTERS}
    query = LogQuery(**filters, newest_first=options["order"] == "newest")
    if summary:
        asyncio.run(_summarise(url, query, as_json=options["form"] is not None))
    else:
        asyncio.run(_print(url, query, form=options["form"], limit=options["limit"]))


@command.command("delete", epilog="Example: tamis log delete --caller 192.0.2.7 --yes")
@store_option
@click.option("--caller", required=True, metavar="NAME", help="As `tamis log` shows it.")
@_yes_option
def delete(url: str | None, caller: str, yes: bool) -> None:
    """Permanently delete all calls and feedback of one caller."""
    import asyncio

    from tamis.storage import LogQuery

    query = LogQuery(caller=caller)
    asyncio.run(_delete(url, query, whose=f"of {caller}", yes=yes))


@command.command("prune", epilog="Example: tamis log prune --older-than 30d --yes")
@store_option
@click.option("--older-than", required=True, metavar="TIME", callback=_length, help="Such as 12h, 30d or 8w.")
@_yes_option
def prune(url: str | None, older_than: timedelta, yes: bool) -> None:
    """Permanently delete all calls older than a time."""
    import asyncio

    from tamis.storage import LogQuery

    before = datetime.now(UTC) - older_than
    whose = f"from before {before:%Y-%m-%d %H:%M} UTC"
    asyncio.run(_delete(url, LogQuery(until=before), whose=whose, yes=yes))


def _refuse_options_before(context: click.Context) -> None:
    """Refuse what would be overlooked: `tamis log --store A prune` must not prune another store."""
    given = [
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"put the options after {context.invoked_subcommand}, not before it")


async def _print(url: str | None, query: LogQuery, *, form: str | None, limit: int | None) -> None:
    import sys

    from tamis.cli.log_lines import CallLines
    from tamis.cli.settings import existing_store, store_settings
    from tamis.service.call_log.formats import CALL_FORMATS

    chosen = CallLines() if form is None else CALL_FORMATS[form]()
    left = _LINES if form is None and limit is None else limit
    out = sys.stdout.buffer
    # JSON stays the same document; a CSV file keeps its bytes
    for_terminal = bytes if form == "csv" and not sys.stdout.isatty() else escaped_bytes
    async with existing_store(store_settings(url)) as store:
        out.write(chosen.head)
        cursor: str | None = None
        while left != 0:
            page = await store.log.read(query, after=cursor, limit=500 if left is None else min(500, left))
            out.write(for_terminal(chosen.rows(page.rows)))
            left = None if left is None else left - len(page.rows)
            cursor = page.cursor
            if cursor is None:
                break
        out.write(chosen.tail(cursor) + (b"\n" if form == "json" else b""))
    out.flush()


async def _summarise(url: str | None, query: LogQuery, *, as_json: bool) -> None:
    from tamis.cli.log_lines import summary_as_json, summary_as_lines
    from tamis.cli.settings import existing_store, store_settings

    async with existing_store(store_settings(url)) as store:
        counts = await store.log.summary(query)
    echo(summary_as_json(counts) if as_json else summary_as_lines(counts))


async def _delete(url: str | None, query: LogQuery, *, whose: str, yes: bool) -> None:
    from tamis.cli.settings import existing_store, store_settings

    settings = store_settings(url)
    async with existing_store(settings) as store:
        if not yes:
            found = sum(one.count for one in await store.log.summary(query))
            click.confirm(
                f"Delete {found:,} calls {whose} from {settings.shown_store_url}?", abort=True, err=True
            )
        calls, feedback = await _deleted(store, query)
    echo(f"{calls:,} calls {whose} deleted" + (f", {feedback:,} rows of feedback" if feedback else ""))


async def _deleted(store: Store, query: LogQuery) -> tuple[int, int]:
    """Delete a caller's calls and feedback, or all calls before a time; return how many of each."""
    if query.caller is not None:
        calls = await store.log.delete_caller(query.caller)
        return calls, await store.feedback.delete_caller(query.caller)
    assert query.until is not None, "what is deleted is a caller's or old"
    return await store.log.delete_before(query.until), 0

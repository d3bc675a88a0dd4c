"""`tamis log`: the call log in a terminal, in aligned columns, without control characters of a text."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.parameter_types import age_option, time_option
from tamis.cli.settings import existing_store, store_option, store_settings
from tamis.cli.terminal import echo, escaped_bytes

if TYPE_CHECKING:
    from tamis.storage import LogQuery

_LINES = 50
"""Maximum number of calls without `--limit` and without a format for programs."""

_FILTERS = ("caller", "since", "until", "label", "contains", "model")


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
    callback=time_option,
    help="Calls since this time: 2h, 3d, 2026-11-21, RFC 3339.",
)
@click.option("--until", metavar="TIME", callback=time_option, help="Calls before this time.")
@click.option("--label", metavar="LABEL", help="Calls with this predicted label.")
@click.option("--contains", metavar="TEXT", help="Calls whose text contains this; case is ignored for ASCII.")
@click.option(
    "--model", metavar="DIGEST", help="Calls scored by this model; `tamis models show` prints its digest."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Maximum number of calls.  [default: {_LINES} in lines, else all]",
)
@click.option(
    "--order",
    type=click.Choice(["newest", "oldest"]),
    default="newest",
    show_default=True,
    help="Which calls come first.",
)
@click.option("--json", "form", flag_value="json", help="Print the JSON document of GET /log.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV that is safe to open in a spreadsheet.")
@click.option("--ndjson", "form", flag_value="ndjson", help="Print one JSON object per line.")
@click.option("--summary", is_flag=True, help="Count by hour and label instead.")
@click.pass_context
def command(context: click.Context, /, url: str | None, summary: bool, **options: Any) -> None:
    """Print logged calls, the newest first.

    Safe beside a running service: nothing is locked.
    """
    from tamis.storage import LogQuery

    if context.invoked_subcommand is not None:
        # `tamis log --store A prune` must not prune another store
        source = click.core.ParameterSource.COMMANDLINE
        if any(context.get_parameter_source(name) is source for name in context.params):
            raise click.UsageError(f"put the options after {context.invoked_subcommand}, not before it")
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
@click.option("--caller", required=True, metavar="NAME", help="Caller, as printed by `tamis log`.")
@_yes_option
def delete(url: str | None, caller: str, yes: bool) -> None:
    """Permanently delete all calls and feedback of one caller."""
    from tamis.storage import LogQuery

    query = LogQuery(caller=caller)
    asyncio.run(_delete(url, query, selection=f"of {caller}", yes=yes))


@command.command("prune", epilog="Example: tamis log prune --older-than 30d --yes")
@store_option
@click.option(
    "--older-than",
    required=True,
    metavar="TIME",
    callback=age_option,
    help="Minimum age of the calls, such as 12h, 30d or 8w.",
)
@_yes_option
def prune(url: str | None, older_than: timedelta, yes: bool) -> None:
    """Permanently delete all calls older than a time."""
    from tamis.storage import LogQuery

    before = datetime.now(UTC) - older_than
    selection = f"from before {before:%Y-%m-%d %H:%M} UTC"
    asyncio.run(_delete(url, LogQuery(until=before), selection=selection, yes=yes))


async def _print(url: str | None, query: LogQuery, *, form: str | None, limit: int | None) -> None:
    from tamis.cli.log_lines import CallLines
    from tamis.service.call_log.formats import CALL_FORMATS

    chosen = CallLines() if form is None else CALL_FORMATS[form]()
    # a person wants the newest, a program all
    left = _LINES if form is None and limit is None else limit
    out = sys.stdout.buffer
    # JSON stays the same document; a CSV file keeps its bytes
    for_terminal = bytes if form == "csv" and not sys.stdout.isatty() else escaped_bytes
    async with existing_store(store_settings(url)) as store:
        out.write(chosen.head)
        cursor: str | None = None
        while left != 0:
            # pages of 500: constant memory, and no long read that keeps a store from its checkpoints
            page = await store.log.read(query, after=cursor, limit=500 if left is None else min(500, left))
            out.write(for_terminal(chosen.rows(page.rows)))
            left = None if left is None else left - len(page.rows)
            cursor = page.cursor
            if cursor is None:
                break
        out.write(chosen.tail(cursor) + (b"\n" if form == "json" else b""))
    # a full disk or a closed pipe must fail here, not at exit, where Python ignores it
    out.flush()


async def _summarise(url: str | None, query: LogQuery, *, as_json: bool) -> None:
    import msgspec

    from tamis.cli.log_lines import summary_as_lines
    from tamis.service.call_log.formats import summary_document

    async with existing_store(store_settings(url)) as store:
        counts = await store.log.summary(query)
    if as_json:
        echo(msgspec.json.encode(summary_document(counts)).decode())
    else:
        echo(summary_as_lines(counts))


async def _delete(url: str | None, query: LogQuery, *, selection: str, yes: bool) -> None:
    settings = store_settings(url)
    async with existing_store(settings) as store:
        if not yes:
            # counted by hour: far cheaper than reading the rows
            found = sum(one.count for one in await store.log.summary(query))
            question = f"Delete {found:,} calls {selection} from {settings.shown_store_url}?"
            try:
                click.confirm(question, abort=True, err=True)
            except click.Abort:
                raise click.ClickException("nothing was deleted") from None
        if query.caller is not None:
            calls = await store.log.delete_caller(query.caller)
            feedback = await store.feedback.delete_caller(query.caller)
        else:
            assert query.until is not None, "deleted by caller or by age"
            calls, feedback = await store.log.delete_before(query.until), 0
    echo(f"{calls:,} calls {selection} deleted" + (f", {feedback:,} rows of feedback" if feedback else ""))

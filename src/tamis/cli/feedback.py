"""`tamis feedback`: import, export and list the true labels in a store."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from tamis.cli.options import option_group
from tamis.cli.parameter_types import time_option
from tamis.cli.settings import existing_store, store_option, store_settings
from tamis.cli.terminal import echo, escaped_in_line
from tamis.clock import SystemClock
from tamis.errors import DataError

if TYPE_CHECKING:
    from tamis.storage import FeedbackRecord, LogQuery, Store

_DEFAULT_LIMIT = 50

_EXPORT_COLUMNS = (
    "label",
    "text",
    "predicted",
    "score",
    "decision",
    "caller",
    "model_name",
    "model_version",
    "model",
    "prediction_id",
    "created_at",
    "updated_at",
    "comment",
)
# printed with accuracies, because texts that callers select are a biased sample
_CAVEAT = "callers choose what they report: this is not the accuracy on all texts"

_filters = option_group(
    store_option,
    click.option("--caller", metavar="NAME", help="Feedback of this caller only."),
    click.option("--since", metavar="TIME", callback=time_option, help="Reported at this time or later."),
    click.option("--until", metavar="TIME", callback=time_option, help="Reported before this time."),
    click.option("--label", metavar="LABEL", help="Feedback with this true label."),
    click.option("--model-name", metavar="NAME", help="About predictions of this model."),
    click.option("--model-version", metavar="VERSION", help="About predictions of this version."),
)


@click.group(epilog="Example: tamis feedback list --since 7d --summary")
def command() -> None:
    """Import, export and list true labels that callers reported."""


@command.command("import", epilog="Example: tamis feedback import corrected.csv")
@click.argument("file", type=click.Path(path_type=Path))
@store_option
@click.option(
    "--caller",
    default="import",
    show_default=True,
    metavar="NAME",
    help="Caller to store the feedback under.",
)
def import_(file: Path, url: str | None, caller: str) -> None:
    """Import true labels from a CSV file.

    FILE has a column `label`, a column `prediction_id` or `text`, and may have a column `comment`. Importing
    it twice changes nothing.
    """
    stored, unknown = asyncio.run(_import(file, url, caller))
    if unknown:
        rows = ", ".join(map(str, unknown[:10])) + (" …" if len(unknown) > 10 else "")
        echo(f"{len(unknown):,} rows skipped, prediction not found: {rows}", err=True)
    echo(f"{stored:,} rows of feedback stored")


@command.command("export", epilog="Example: tamis feedback export -o corrections.csv")
@_filters
@click.option(
    "-o",
    "--output",
    type=click.File("w", "utf-8", lazy=True),
    default="-",
    metavar="FILE",
    help="Output file.  [default: standard output]",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per line.")
@click.option("--safe", is_flag=True, help="Escape CSV cells that a spreadsheet would run as formulas.")
def export(url: str | None, output: IO[str], as_json: bool, safe: bool, **filters: Any) -> None:
    """Write feedback with the predictions it is about, as CSV for `tamis train`."""
    asyncio.run(_export(url, _query(filters), output, as_json=as_json, safe=safe))


@command.command("list", epilog="Example: tamis feedback list --since 7d --summary")
@_filters
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=_DEFAULT_LIMIT,
    show_default=True,
    metavar="N",
    help="Maximum number of rows.",
)
@click.option("--summary", is_flag=True, help="Print the accuracy of each model version instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def list_(url: str | None, limit: int, summary: bool, as_json: bool, **filters: Any) -> None:
    """Print feedback, the newest first."""
    query = _query(filters, newest_first=True)
    if summary:
        asyncio.run(_print_accuracies(url, query, as_json=as_json))
    else:
        asyncio.run(_list(url, query, limit, as_json=as_json))


def _query(filters: dict[str, Any], *, newest_first: bool = False) -> LogQuery:
    from tamis.storage import LogQuery

    return LogQuery(**filters, newest_first=newest_first)


async def _import(file: Path, url: str | None, caller: str) -> tuple[int, list[int]]:
    """Return the number of rows stored, and the row numbers whose prediction was not found."""
    from tamis.storage import TimeIds

    ids, stored, unknown = TimeIds(SystemClock()), 0, []
    # the whole file is checked before the first row is stored
    rows = [*_read_rows(file)]
    async with existing_store(store_settings(url)) as store:
        for number, row in rows:
            feedback = await _feedback_record(store, row, caller, revision=ids.next())
            if feedback is None:
                unknown.append(number)
                continue
            await store.feedback.put(feedback)
            stored += 1
    return stored, unknown


def _read_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a CSV file with its number, counted from 1 without the header; raise DataError."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            # strict: otherwise a stray quote silently merges rows
            reader = csv.DictReader(lines, strict=True)
            columns = set(reader.fieldnames or ())
            if "label" not in columns or not columns & {"prediction_id", "text"}:
                problem = "expected a column `label` and a column `prediction_id` or `text`"
                raise DataError(problem, file=file)
            for number, row in enumerate(reader, 1):
                # an empty text is valid, because it can be classified
                if not row["label"] or not (row.get("prediction_id") or row.get("text") is not None):
                    raise DataError("the label or what it is about is empty", file=file, row=number)
                yield number, row
    except (csv.Error, UnicodeDecodeError) as failed:
        raise DataError(f"invalid CSV in UTF-8 ({type(failed).__name__})", file=file) from failed


async def _feedback_record(
    store: Store, row: dict[str, str], caller: str, *, revision: bytes
) -> FeedbackRecord | None:
    """Return the record to store for a row, None if its prediction was not found."""
    from tamis.storage import FeedbackRecord
    from tamis.storage.ids import id_of_text, text_digest

    parts = {"caller": caller, "label": row["label"], "comment": row.get("comment") or ""}
    if not row.get("prediction_id"):
        # the text is kept whatever TAMIS_LOG_TEXTS is, because the operator imports it to train on; its
        # digest identifies it, so that a second import replaces the record of the first
        subject = text_digest(store.cache.secret, row["text"])
        return FeedbackRecord(id=revision, subject=subject, text=row["text"], revision=revision, **parts)
    id = id_of_text(row["prediction_id"])
    call = None if id is None else await store.log.find(id)
    if call is None:
        return None
    # with the logged text and prediction: `list --summary` and `retrain` need them after the call expires
    return FeedbackRecord(
        id=revision,
        subject=call.id,
        text=call.text,
        predicted=call.label,
        model=call.model,
        model_name=call.model_name,
        model_version=call.model_version,
        revision=revision,
        **parts,
    )


async def _rows(store: Store, query: LogQuery) -> AsyncIterator[FeedbackRecord]:
    from tamis.storage import pages

    async for page in pages(store.feedback, query):
        for row in page:
            yield row


async def _export(url: str | None, query: LogQuery, output: IO[str], *, as_json: bool, safe: bool) -> None:
    from tamis.service.call_log.formats import guarded
    from tamis.storage.rows import is_text_kept

    without_text = 0
    async with existing_store(store_settings(url)) as store:
        writer = csv.DictWriter(output, _EXPORT_COLUMNS, lineterminator="\n")
        if not as_json:
            writer.writeheader()
        async for document in joined_rows(store, query):
            without_text += not is_text_kept(str(document["text"]))
            if as_json:
                output.write(json.dumps(document, ensure_ascii=False) + "\n")
            elif safe:
                cells = document.items()
                writer.writerow(
                    {name: guarded(cell) if isinstance(cell, str) else cell for name, cell in cells}
                )
            else:
                writer.writerow(document)
    if without_text:
        echo(f"{without_text:,} rows have no text to train on: it is not kept (TAMIS_LOG_TEXTS)", err=True)


async def joined_rows(store: Store, query: LogQuery) -> AsyncIterator[dict[str, object]]:
    """Yield each row of feedback with the score and the decision of the prediction it is about."""
    from tamis.service.call_log.formats import feedback_document

    async for row in _rows(store, query):
        # None also if the call has been deleted since
        call = None if row.prediction_id is None else await store.log.find(row.prediction_id)
        document = feedback_document(row)
        document["text"] = document.pop("input")
        document["score"] = None if call is None else call.score
        document["decision"] = None if call is None else call.decision
        yield {name: document[name] for name in _EXPORT_COLUMNS}


async def _list(url: str | None, query: LogQuery, limit: int, *, as_json: bool) -> None:
    import msgspec

    from tamis.service.call_log.formats import feedback_document
    from tamis.storage import called_at

    async with existing_store(store_settings(url)) as store:
        async for row in _rows(store, query):
            if as_json:
                echo(msgspec.json.encode(feedback_document(row)).decode())
            else:
                echo(_line(called_at(row.revision), row))
            limit -= 1
            if limit == 0:
                return


def _line(updated_at: datetime, row: FeedbackRecord) -> str:
    """Return time, caller, labels and text on one line of at most 80 columns."""
    labels = f"{row.predicted or '?'} → {row.label}"
    cells = [(row.caller, 14), (labels, 18), (row.text, 26)]
    shown = (f"{escaped_in_line(cell)[:width]:{width}}" for cell, width in cells)
    return "  ".join([f"{updated_at:%Y-%m-%d %H:%M}", *shown]).rstrip()


async def _print_accuracies(url: str | None, query: LogQuery, *, as_json: bool) -> None:
    from tamis.service.feedback import accuracies

    async with existing_store(store_settings(url)) as store:
        measured = accuracies(await store.feedback.pair_counts(query))
    if as_json:
        for version in measured:
            echo(json.dumps(version.as_dict()))
        return
    for version in measured:
        name = f"{version.model_name or 'unknown model'} {version.model_version or ''}".rstrip()
        share = f"{version.correct:,} of {version.total:,} correct, {version.accuracy:.1%}"
        echo(f"{name}: {share} (95 % interval {version.low:.1%} to {version.high:.1%})")
    echo(_CAVEAT, err=True)

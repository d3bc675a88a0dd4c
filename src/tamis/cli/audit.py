"""`tamis audit`: findings and tables about labelled data, as text or JSON, and a repaired copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import msgspec
from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from tamis.cli.options import (
    data_argument,
    describe_reading,
    print_reading,
    read_options,
    reading_options,
    title_of,
)
from tamis.cli.terminal import echo, make_console, print_json, progress_bar, shortened, shortened_name
from tamis.data.audit import AuditReport, ClassShare, audit
from tamis.data.dataset_builder import clean
from tamis.data.findings import Finding, findings
from tamis.data.labels import counted
from tamis.data.reader import ReadResult, read_dataset
from tamis.data.tables import write_dataset
from tamis.errors import DataError, TrainingError

WIDTH = 80
"""Columns of the report: fixed, so that a saved report is the same whatever the terminal."""

_STYLES = {"problem": "bold red", "warning": "yellow", "note": "cyan"}
_CLUSTERS_SHOWN = 5
_CONTRADICTIONS_SHOWN = 10
_SOURCES_SHOWN = 20
_SHORTCUTS_SHOWN = 10
_ROW_NUMBERS_SHOWN = 4
_MAX_LABEL_COLUMNS = 3  # more do not fit the width
_LARGEST_LABELS_SHOWN = 10
_SMALLEST_LABELS_SHOWN = 5
_LABEL_WIDTH = 20
_WIDE_LABEL_WIDTH = 48
_FEATURE_WIDTH = 30
_LEFT_ALIGNED = frozenset(
    ["label", "labels", "source", "text", "given", "suggested", "feature", "points to", "rows of each label"]
)


@click.command(epilog="Example: tamis audit data/sms-spam.csv --fix data/fixed.csv")
@data_argument()
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
@click.option("--fix", metavar="FIXED.csv", help="Write a repaired copy.")
@reading_options
def command(data: tuple[str, ...], as_json: bool, fix: str | None, **options: Any) -> None:
    """Report problems in labelled texts; DATA is not changed.

    Checks for rows hidden by an unescaped quote, labels in several spellings, HTML, duplicates and near
    duplicates, texts with two labels, label issues, features that give the label away, and differences
    between sources.
    """
    # resolved first, because a link may lead to the same file
    if fix is not None and Path(fix).resolve() in [Path(file).resolve() for file in data]:
        raise click.BadParameter("the input file is never overwritten; name another", param_hint="--fix")
    with progress_bar(f"reading {title_of(data)}") as progress:
        reading = read_dataset(data, read_options(options), progress=progress)
    print_reading(reading)
    report, why_unchecked = _audit(reading)
    if as_json:
        found = {"findings": findings(report), "labels_not_checked": why_unchecked}
        print_json({"reading": describe_reading(reading)} | found | msgspec.to_builtins(report))
    else:
        show_audit(report, f"Audit of {title_of(data)}", why_unchecked=why_unchecked)
    if fix is not None:
        _fix(reading, fix)


def _audit(reading: ReadResult) -> tuple[AuditReport, str | None]:
    """Return the report, and why labels were not checked with a model, None if they were."""
    if find_spec("sklearn") is None:
        why_unchecked = "that needs scikit-learn: pip install 'tamis[train]'"
    else:
        from tamis.training.out_of_fold import out_of_fold

        try:
            with progress_bar("5-fold cross-validation") as bar:
                return audit(reading, confidence=lambda *rows: out_of_fold(*rows, progress=bar)[0]), None
        # too few rows or labels for five folds: the other checks need no model
        except (TrainingError, DataError) as error:
            why_unchecked = str(error)
    with progress_bar("looking for near duplicates") as progress:
        return audit(reading, progress=progress), why_unchecked


def _fix(reading: ReadResult, path: str) -> None:
    """Write the repaired copy; the reader has recovered swallowed rows already."""
    cleaned = clean(reading.dataset)
    write_dataset(cleaned.dataset, path)
    recovered = sum(field.recovered for field in reading.swallowed)
    changes = [
        counted(recovered, "swallowed row") + " recovered",
        counted(cleaned.duplicates, "exact duplicate") + " dropped",
        counted(cleaned.empty, "empty text") + " dropped",
    ]
    echo(f"{path}: {len(cleaned.dataset):,} rows written; {', '.join(changes)}", err=True)


def show_audit(report: AuditReport, title: str, *, why_unchecked: str | None) -> None:
    """Print the report; `why_unchecked` is the reason if labels were not checked with a model."""
    console = make_console(width=WIDTH)
    console.print(Text(title, "bold"), Text(_summary(report)), "", sep="\n", soft_wrap=True)
    for finding in findings(report):
        console.print(_finding(finding))
    if why_unchecked:
        console.print(_finding(Finding("note", "labels were not checked with a model", why_unchecked)))
    for section in _sections(report):
        console.print("", section, sep="\n")


def _summary(report: AuditReport) -> str:
    problems = sum(finding.severity == "problem" for finding in findings(report))
    before = f" ({report.rows_as_read:,} before repair)" if report.rows != report.rows_as_read else ""
    rows = f"{report.rows:,} rows{before} · {len(report.classes)} labels"
    return f"{rows} · {report.duplicates.distinct:,} distinct texts · {counted(problems, 'problem')}"


def _finding(finding: Finding) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=8, no_wrap=True)
    grid.add_column(ratio=1)
    lines: list[RenderableType] = [Text(finding.what)]
    if finding.advice:
        lines.append(Text(f"→ {finding.advice}", "dim"))
    grid.add_row(Text(finding.severity, _STYLES[finding.severity]), Group(*lines))
    return grid


def _sections(report: AuditReport) -> Iterator[RenderableType]:
    yield _labels(report)
    if report.sources:
        yield _sources(report)
    if report.contradictions:
        yield _contradictions(report)
    if report.label_issues:
        yield _label_issues(report)
    if report.shortcuts:
        yield _shortcuts(report)
    if report.duplicates.clusters:
        yield _clusters(report)


def _table(title: str, *columns: str) -> Table:
    """Return an empty table: words left-aligned, numbers right-aligned; `text` takes the remaining width."""
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.title_justify, table.title_style, table.expand = "left", "bold", "text" in columns
    for column in columns:
        justify: JustifyMethod = "left" if column in _LEFT_ALIGNED else "right"
        table.add_column(column, justify=justify, no_wrap=True, ratio=1 if column == "text" else None)
    return table


def _label(label: str) -> Text:
    return Text(shortened_name(label, _LABEL_WIDTH))


def _labels(report: AuditReport) -> Table:
    """Return the labels, the largest first; of many, those in the middle are one row."""
    table = _table("Labels", "label", "rows", "share")
    largest, smallest = report.classes, report.classes[:0]
    omitted = report.classes[_LARGEST_LABELS_SHOWN:-_SMALLEST_LABELS_SHOWN]
    if len(omitted) > 1:
        largest, smallest = largest[:_LARGEST_LABELS_SHOWN], largest[-_SMALLEST_LABELS_SHOWN:]

    def add(labels: Sequence[ClassShare]) -> None:
        for label in labels:
            name = Text(shortened_name(label.label, _WIDE_LABEL_WIDTH))
            table.add_row(name, f"{label.rows:,}", f"{label.share:.1%}")

    add(largest)
    if smallest:
        rows = sum(label.rows for label in omitted)
        table.add_row(Text(f"… {len(omitted)} more labels", "dim"), f"{rows:,}", f"{rows / report.rows:.1%}")
        add(smallest)
    return table


def _sources(report: AuditReport) -> Table:
    labels = [share.label for share in report.classes][:_MAX_LABEL_COLUMNS]
    shown = sorted(report.sources, key=lambda source: -source.rows)[:_SOURCES_SHOWN]
    title = _title("Sources, and the share of the largest labels", len(shown), len(report.sources))
    table = _table(title, "source", "rows", "median length", *(shortened_name(label, 12) for label in labels))
    for source in shown:
        shares = [f"{source.label_shares.get(label, 0):.1%}" for label in labels]
        table.add_row(_label(source.source), f"{source.rows:,}", f"{source.median_characters:,.0f}", *shares)
    return table


def _contradictions(report: AuditReport) -> Table:
    shown = report.contradictions[:_CONTRADICTIONS_SHOWN]
    title = _title("One text, several labels", len(shown), len(report.contradictions))
    table = _table(title, "rows of each label", "text")
    for contradiction in shown:
        rows = "; ".join(f"{label}: {_row_numbers(rows)}" for label, rows in contradiction.rows.items())
        labels = Text(shortened_name(rows, 2 * _LABEL_WIDTH))
        table.add_row(labels, Text(shortened(contradiction.text, WIDTH)))
    return table


def _label_issues(report: AuditReport) -> Table:
    shown = report.label_issues or ()
    title = _title("Possible label issues", len(shown), report.label_issue_count)
    table = _table(title, "row", "given", "suggested", "by", "text")
    for issue in shown:
        labels = (Text(shortened_name(label, _LABEL_WIDTH - 4)) for label in (issue.label, issue.suggested))
        table.add_row(str(issue.row), *labels, f"{issue.probability:.0%}", Text(shortened(issue.text, WIDTH)))
    return table


def _shortcuts(report: AuditReport) -> Table:
    # by both shares: a precise feature of few texts does little harm
    ranked = sorted(report.shortcuts, key=lambda shortcut: -shortcut.coverage * shortcut.precision)
    shown = ranked[:_SHORTCUTS_SHOWN]
    title = _title("Features that give the label away", len(shown), len(report.shortcuts))
    table = _table(title, "feature", "points to", "precision", "coverage", "texts")
    for shortcut in shown:
        metrics = [f"{shortcut.precision:.0%}", f"{shortcut.coverage:.0%}", f"{shortcut.texts:,}"]
        label = Text(shortened_name(shortcut.label, _LABEL_WIDTH + 4))
        table.add_row(Text(shortened(shortcut.feature, _FEATURE_WIDTH)), label, *metrics)
    return table


def _clusters(report: AuditReport) -> Table:
    shown = report.duplicates.clusters[:_CLUSTERS_SHOWN]
    title = f"Largest clusters of near duplicates ({report.duplicates.rows_in_clusters:,} rows are in one)"
    table = _table(title, "rows", "labels", "first row", "text")
    for cluster in shown:
        labels = _label(", ".join(cluster.labels))
        table.add_row(
            f"{cluster.rows:,}", labels, str(cluster.first_row), Text(shortened(cluster.text, WIDTH))
        )
    return table


def _title(title: str, shown: int, total: int) -> str:
    return title if shown == total else f"{title} ({shown} of {total:,})"


def _row_numbers(rows: Sequence[int]) -> str:
    more = ", …" if len(rows) > _ROW_NUMBERS_SHOWN else ""
    return ", ".join(map(str, rows[:_ROW_NUMBERS_SHOWN])) + more

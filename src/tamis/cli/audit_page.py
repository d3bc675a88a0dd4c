"""An audit as a page in the terminal: what to know first, then the places in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from tamis.cli.lines import shortened
from tamis.data.audit import AuditReport
from tamis.data.findings import Finding, findings

WIDTH = 100
"""Columns of the page, so that it reads the same in a wide window and in a pipe."""

_STYLES = {"problem": "bold red", "warning": "yellow", "note": "cyan"}
_FAMILIES_SHOWN = 5
_CONTRADICTIONS_SHOWN = 10
_ROWS_SHOWN = 4
_CLASSES_SHOWN = 5  # as columns
_LABEL_WIDTH = 24
_WORDS = frozenset(
    ["label", "labels", "source", "text", "given", "probably", "feature", "points to", "rows of each label"]
)


def show_audit(report: AuditReport, title: str, *, skipped: str | None) -> None:
    """Print `report`; `skipped` says why nothing is said about doubtful labels, if that is so."""
    console = Console(width=WIDTH, highlight=False)
    console.print(Text(title, "bold"), Text(_summary(report)), "", sep="\n", soft_wrap=True)
    for finding in findings(report):
        console.print(_finding(finding))
    if skipped:
        console.print(_finding(Finding("note", "labels were not checked with a model", skipped)))
    for section in _sections(report):
        console.print("", section, sep="\n")


def _summary(report: AuditReport) -> str:
    found = len([f for f in findings(report) if f.severity == "problem"])
    parts = [f"{report.rows:,} rows"]
    if report.rows != report.rows_as_read:
        parts[0] += f" ({report.rows_as_read:,} before repair)"
    parts.append(f"{len(report.classes)} classes")
    parts.append(f"{report.duplicates.groups:,} truly different texts")
    parts.append(f"{found} problem{'' if found == 1 else 's'}")
    return " · ".join(parts)


def _finding(finding: Finding) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=8, no_wrap=True)
    grid.add_column(ratio=1)
    said: list[RenderableType] = [Text(finding.what)]
    if finding.advice:
        said.append(Text(f"→ {finding.advice}", "dim"))
    grid.add_row(Text(finding.severity, _STYLES[finding.severity]), Group(*said))
    return grid


def _sections(report: AuditReport) -> Iterator[RenderableType]:
    yield _classes(report)
    if report.sources:
        yield _sources(report)
    if report.contradictions:
        yield _contradictions(report)
    if report.doubtful_labels:
        yield _doubtful_labels(report)
    if report.shortcuts:
        yield _shortcuts(report)
    if report.duplicates.families:
        yield _families(report)


def _table(title: str, *columns: str) -> Table:
    """Return an empty table; words stand left and figures right, and `text` takes the room that is left."""
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.title_justify, table.title_style, table.expand = "left", "bold", "text" in columns
    for column in columns:
        justify: JustifyMethod = "left" if column in _WORDS else "right"
        table.add_column(column, justify=justify, no_wrap=True, ratio=1 if column == "text" else None)
    return table


def _label(label: str) -> Text:
    return Text(shortened(label, _LABEL_WIDTH))


def _classes(report: AuditReport) -> Table:
    table = _table("Classes", "label", "rows", "share")
    for one in report.classes:
        table.add_row(_label(one.label), f"{one.rows:,}", f"{one.share:.1%}")
    return table


def _sources(report: AuditReport) -> Table:
    labels = [one.label for one in report.classes][:_CLASSES_SHOWN]
    table = _table("Sources", "source", "rows", "median length", *labels)
    for source in report.sources:
        shares = [f"{source.label_shares.get(label, 0):.1%}" for label in labels]
        table.add_row(_label(source.source), f"{source.rows:,}", f"{source.median_characters:,.0f}", *shares)
    return table


def _contradictions(report: AuditReport) -> Table:
    shown = report.contradictions[:_CONTRADICTIONS_SHOWN]
    table = _table(
        _title("One text, several labels", len(shown), len(report.contradictions)),
        "rows of each label",
        "text",
    )
    for one in shown:
        rows = "; ".join(f"{label}: {_some(places)}" for label, places in one.rows.items())
        table.add_row(_label(rows), Text(shortened(one.text, WIDTH)))
    return table


def _doubtful_labels(report: AuditReport) -> Table:
    shown = report.doubtful_labels or ()
    title = _title("Labels to look at again", len(shown), report.doubtful_count)
    table = _table(title, "row", "given", "probably", "by", "text")
    for one in shown:
        cells = [
            _label(one.label),
            _label(one.suggested),
            Text(f"{one.probability:.1%}"),
            Text(shortened(one.text, WIDTH)),
        ]
        table.add_row(str(one.row), *cells)
    return table


def _shortcuts(report: AuditReport) -> Table:
    table = _table("Features that give the label away", "feature", "points to", "right in", "covers", "texts")
    for one in report.shortcuts:
        figures = [f"{one.precision:.1%}", f"{one.coverage:.1%}", f"{one.texts:,}"]
        table.add_row(Text(shortened(one.feature, 40)), _label(one.label), *figures)
    return table


def _families(report: AuditReport) -> Table:
    shown = report.duplicates.families[:_FAMILIES_SHOWN]
    title = f"Largest families of near duplicates ({report.duplicates.rows_in_families:,} rows have a twin)"
    table = _table(title, "rows", "labels", "first row", "text")
    for one in shown:
        labels = _label(", ".join(one.labels))
        table.add_row(f"{one.rows:,}", labels, str(one.first_row), Text(shortened(one.text, WIDTH)))
    return table


def _title(title: str, shown: int, total: int) -> str:
    return title if shown == total else f"{title} ({shown} of {total:,})"


def _some(rows: Sequence[int]) -> str:
    more = ", …" if len(rows) > _ROWS_SHOWN else ""
    return ", ".join(map(str, rows[:_ROWS_SHOWN])) + more

"""What an audit's figures mean, in sentences, the gravest first.

Knows the report; does not know how it was made or where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tamis.data.audit import AuditReport

Severity = Literal["problem", "warning", "note"]

_ORDER: tuple[Severity, ...] = ("problem", "warning", "note")
_KNOWN_TEST = 0.05  # from here on twins flatter a random split noticeably
_STRONG_SHORTCUT = 0.3  # a third of a class hangs on one feature
_STRONG_IMBALANCE = 10
_SOURCE_GAP = 0.2
_ROWS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: how grave it is, what it is, and what to do about it."""

    severity: Severity
    what: str
    advice: str


def findings(report: AuditReport) -> list[Finding]:
    """Return what a user should know about the data, the gravest first."""
    checks = (
        _classes,
        _swallowed,
        _contradictions,
        _twins,
        _doubtful_labels,
        _shortcuts,
        _sources,
        _empty_texts,
        _exact_duplicates,
        _long_texts,
        _reading,
    )
    found = [finding for check in checks for finding in check(report)]
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))


def _classes(report: AuditReport) -> Iterator[Finding]:
    for what in report.constant:
        yield Finding(
            "problem", what, "nothing can be learned from that: check the file and the column names"
        )
    if report.imbalance >= _STRONG_IMBALANCE:
        largest, smallest = report.classes[0], report.classes[-1]
        yield Finding(
            "warning",
            f"{report.imbalance:.0f} rows of {largest.label!r} for each of {smallest.label!r}",
            "accuracy says little here: look at precision and recall of each class",
        )


def _swallowed(report: AuditReport) -> Iterator[Finding]:
    split = [field for field in report.swallowed if field.recovered]
    if split:
        yield Finding(
            "problem",
            f"{_count(sum(field.recovered for field in split), 'row')} were hidden inside the text of "
            f"{_rows([field.row for field in split])}, by an unescaped quote",
            "counted below as rows of their own; tamis train does so too, and --fix FIXED.csv writes them",
        )
    whole = [field.row for field in report.swallowed if not field.recovered]
    if whole:
        yield Finding(
            "warning",
            f"{_rows(whole)} may hold several rows in one text, of an unknown layout",
            "left as it is: look at the file there",
        )


def _contradictions(report: AuditReport) -> Iterator[Finding]:
    if report.contradictions:
        yield Finding(
            "problem",
            f"{_count(len(report.contradictions), 'text')} with more than one label",
            "decide on one label each: no model can get both right",
        )


def _twins(report: AuditReport) -> Iterator[Finding]:
    known = report.known_test
    if known is None or max(known.overall, *known.by_label.values()) < _KNOWN_TEST:
        return
    each = ", ".join(f"{share:.0%} of {label!r}" for label, share in known.by_label.items())
    yield Finding(
        "warning",
        f"a random third for testing would hold {known.overall:.0%} twins of training texts: {each}",
        "such a test flatters; tamis prepare and tamis train keep near duplicates together",
    )


def _doubtful_labels(report: AuditReport) -> Iterator[Finding]:
    if report.doubtful_count:
        yield Finding(
            "warning",
            f"{_count(report.doubtful_count, 'label')} that a model trained on the other rows disagrees with",
            "read the list below: some are wrong labels, some are just hard",
        )


def _shortcuts(report: AuditReport) -> Iterator[Finding]:
    """Name what a rarer label hangs on; that the usual one has its usual words is no news."""
    usual = report.classes[0].label
    for shortcut in report.shortcuts:
        if shortcut.coverage >= _STRONG_SHORTCUT and shortcut.label != usual:
            yield Finding(
                "warning",
                f"{shortcut.feature}: in {shortcut.coverage:.0%} of {shortcut.label!r}, and "
                f"{shortcut.precision:.0%} of the texts with it are {shortcut.label!r}",
                "a model will lean on it: make sure that it is also true where the model will be used",
            )


def _sources(report: AuditReport) -> Iterator[Finding]:
    for label in sorted({label for source in report.sources for label in source.label_shares}):
        shares = {source.source: source.label_shares.get(label, 0.0) for source in report.sources}
        if max(shares.values()) - min(shares.values()) >= _SOURCE_GAP:
            each = ", ".join(f"{share:.0%} in {source}" for source, share in shares.items())
            yield Finding(
                "warning",
                f"the share of {label!r} depends on the source: {each}",
                "a model can guess by the source: look at the figures of each source",
            )
            return  # the other labels' shares differ because this one's do


def _empty_texts(report: AuditReport) -> Iterator[Finding]:
    if report.empty_rows:
        texts = _count(len(report.empty_rows), "text")
        what = f"{texts} without a visible character: {_rows(report.empty_rows)}"
        yield Finding("warning", what, "left out of training; --fix FIXED.csv drops them")


def _exact_duplicates(report: AuditReport) -> Iterator[Finding]:
    if report.duplicates.exact:
        yield Finding(
            "note",
            f"{_count(report.duplicates.exact, 'row')} repeat the text of an earlier row exactly",
            "--fix FIXED.csv drops those with the same label",
        )


def _long_texts(report: AuditReport) -> Iterator[Finding]:
    if report.long_texts:
        longest = max(report.long_texts, key=lambda text: text.characters)
        yield Finding(
            "note",
            f"{_count(len(report.long_texts), 'text')} of more than {report.long_limit:,.0f} characters, "
            f"three times the 99th percentile and up to {longest.characters:,}: "
            f"{_rows([text.row for text in report.long_texts])}",
            "",
        )


def _reading(report: AuditReport) -> Iterator[Finding]:
    told_already = tuple(f"row {field.row}," for field in report.swallowed)
    for note in report.notes:
        if not note.startswith(told_already):
            yield Finding("note", note, "")


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_ROWS_SHOWN]))
    more = f" and {len(rows) - _ROWS_SHOWN:,} more" if len(rows) > _ROWS_SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"

"""What an audit's counts mean, in sentences, the most severe first.

Handles the report; independent of how it was made or where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tamis.data.audit import AuditReport

Severity = Literal["problem", "warning", "note"]

_ORDER: tuple[Severity, ...] = ("problem", "warning", "note")
_KNOWN_TEST = 0.05  # from here on near duplicates make a random split noticeably too easy
_STRONG_SHORTCUT = 0.3  # a third of a class hangs on one feature
# from here on accuracy says little: always naming the frequent label is right nine times in ten
_STRONG_IMBALANCE = 10
_SOURCE_GAP = 0.2
_MIN_HTML_ROWS = 3
# single messages that quote a tag are no reason to strip all texts
_HTML_SHARE = 0.01
_ROWS_SHOWN = 8
_LABELS_NAMED = 4
_SHORTCUTS_NAMED = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: how severe it is, what it is, and what to do about it."""

    severity: Severity
    what: str
    advice: str


def findings(report: AuditReport) -> list[Finding]:
    """Return what a user should know about the data, the most severe first."""
    checks = (
        _classes,
        _labels,
        _swallowed,
        _contradictions,
        _near_duplicates,
        _html,
        _label_issues,
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
            "problem", what, "nothing can be learned from this: check the file and the column names"
        )
    if report.imbalance >= _STRONG_IMBALANCE:
        largest, smallest = report.classes[0], report.classes[-1]
        yield Finding(
            "warning",
            f"{report.imbalance:.0f} rows of {largest.label!r} for each of {smallest.label!r}",
            "accuracy is misleading here: compare precision and recall of each label",
        )


def _labels(report: AuditReport) -> Iterator[Finding]:
    for problem in report.label_problems:
        if problem.kind == "variants":
            advice = "rename them in the file: each spelling is learned as a label of its own"
        else:
            advice = "give these rows a label, or empty the cells and use --skip-unlabelled"
        yield Finding("problem", str(problem), advice)


def _swallowed(report: AuditReport) -> Iterator[Finding]:
    split = [field for field in report.swallowed if field.recovered]
    if split:
        yield Finding(
            "problem",
            f"{_count(sum(field.recovered for field in split), 'row')} were hidden inside the text of "
            f"{_rows([field.row for field in split])}, by an unescaped quote",
            "read as rows of their own, also by tamis train; --fix FIXED.csv writes them",
        )
    whole = [field.row for field in report.swallowed if not field.recovered]
    if whole:
        yield Finding(
            "warning",
            f"{_rows(whole)} may hold several rows in one text, of an unknown layout",
            "left as it is: check these rows in the file",
        )


def _contradictions(report: AuditReport) -> Iterator[Finding]:
    if report.contradictions:
        yield Finding(
            "problem",
            f"{_count(len(report.contradictions), 'text')} with more than one label",
            "choose one label for each: no model can get both right",
        )


def _html(report: AuditReport) -> Iterator[Finding]:
    if report.html_rows >= max(_MIN_HTML_ROWS, _HTML_SHARE * report.rows):
        yield Finding(
            "warning",
            f"{_count(report.html_rows, 'text')} with HTML tags or character references",
            "--strip-html removes them, when training and when serving",
        )


def _near_duplicates(report: AuditReport) -> Iterator[Finding]:
    known = report.known_test
    if known is None or max(known.overall, *known.by_label.values()) < _KNOWN_TEST:
        return
    highest = sorted(known.by_label.items(), key=lambda item: -item[1])
    each = ", ".join(f"{share:.0%} of {label!r}" for label, share in highest[:_LABELS_NAMED])
    each += ", …" if len(highest) > _LABELS_NAMED else ""
    yield Finding(
        "warning",
        f"{known.overall:.0%} of a random 33 % test part have a near duplicate in the training part: {each}",
        "a random split is too optimistic; tamis prepare and tamis train keep near duplicates together",
    )


def _label_issues(report: AuditReport) -> Iterator[Finding]:
    if report.label_issue_count:
        yield Finding(
            "warning",
            f"{_count(report.label_issue_count, 'possible label issue')}, by a model of the other rows",
            "review the list below: some labels are wrong, some texts are just hard",
        )


def _shortcuts(report: AuditReport) -> Iterator[Finding]:
    """Name the single features that give a rarer label away."""
    usual = report.classes[0].label
    strong = [one for one in report.shortcuts if one.coverage >= _STRONG_SHORTCUT and one.label != usual]
    advice = "a model relies on such features: make sure that they also hold in production"
    if len(strong) > _SHORTCUTS_NAMED:
        labels = sorted({one.label for one in strong})
        of = f"one of {len(labels)} labels" if len(labels) > 1 else f"the label {labels[0]!r}"
        what = f"{len(strong)} single words or shapes each give {of} away: see the table"
        yield Finding("warning", what, advice)
        return
    for shortcut in strong:
        yield Finding(
            "warning",
            f"{shortcut.feature}: in {shortcut.coverage:.0%} of {shortcut.label!r}, and "
            f"{shortcut.precision:.0%} of the texts with it are {shortcut.label!r}",
            advice,
        )


def _sources(report: AuditReport) -> Iterator[Finding]:
    for label in sorted({label for source in report.sources for label in source.label_shares}):
        shares = {source.source: source.label_shares.get(label, 0.0) for source in report.sources}
        if max(shares.values()) - min(shares.values()) >= _SOURCE_GAP:
            each = ", ".join(f"{share:.0%} in {source}" for source, share in shares.items())
            yield Finding(
                "warning",
                f"the share of {label!r} depends on the source: {each}",
                "a model can guess by the source: compare the metrics of each source",
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
    for assumption in report.assumed:
        yield Finding("note", f"assumed: {assumption}", "")


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_ROWS_SHOWN]))
    more = f" and {len(rows) - _ROWS_SHOWN:,} more" if len(rows) > _ROWS_SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"

"""What an audit's counts mean, in sentences, the most severe first.

Handles the report; independent of how it was made or where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tamis.data.audit import AuditReport
from tamis.data.labels import counted

Severity = Literal["problem", "warning", "note"]

_KNOWN_TEST = 0.05  # from here on near duplicates make a random split noticeably too easy
_STRONG_SHORTCUT = 0.3  # a third of a class hangs on one feature
# from here on accuracy says little: always naming the frequent label is right nine times in ten
_STRONG_IMBALANCE = 10
# difference of a label's share between sources from which a model gains by recognising the source
_SOURCE_GAP = 0.2
_MIN_HTML_ROWS = 3
# single messages that quote a tag are no reason to strip all texts
_HTML_SHARE = 0.01
_ROWS_SHOWN = 8
_LABELS_NAMED = 4
_SHORTCUTS_NAMED = 3


_Texts = Iterator[tuple[str, str]]
"""What was found, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: how severe it is, what it is, and what to do about it."""

    severity: Severity
    what: str
    advice: str


def findings(report: AuditReport) -> list[Finding]:
    """Return what a user should know about the data, the most severe first."""
    return [
        *(Finding("problem", what, advice) for what, advice in _problems(report)),
        *(Finding("warning", what, advice) for what, advice in _warnings(report)),
        *(Finding("note", what, advice) for what, advice in _notes(report)),
    ]


def _problems(report: AuditReport) -> _Texts:
    for what in report.constant:
        yield what, "nothing can be learned from this: check the file and the column names"
    for problem in report.label_problems:
        if problem.kind == "variants":
            yield str(problem), "rename them in the file: each spelling is learned as a label of its own"
        else:
            yield str(problem), "give these rows a label, or empty the cells and use --skip-unlabelled"
    split = [field for field in report.swallowed if field.recovered]
    if split:
        hidden = counted(sum(field.recovered for field in split), "row")
        where = _rows([field.row for field in split])
        yield (
            f"{hidden} were hidden inside the text of {where}, by an unescaped quote",
            "read as rows of their own, also by tamis train; --fix FIXED.csv writes them",
        )
    if report.contradictions:
        texts = counted(len(report.contradictions), "text")
        yield f"{texts} with more than one label", "choose one label for each: no model can get both right"


def _warnings(report: AuditReport) -> _Texts:
    if report.imbalance >= _STRONG_IMBALANCE:
        largest, smallest = report.classes[0], report.classes[-1]
        yield (
            f"{report.imbalance:.0f} rows of {largest.label!r} for each of {smallest.label!r}",
            "accuracy is misleading here: compare precision and recall of each label",
        )
    whole = [field.row for field in report.swallowed if not field.recovered]
    if whole:
        yield (
            f"{_rows(whole)} may hold several rows in one text, of an unknown layout",
            "left as it is: check these rows in the file",
        )
    yield from _near_duplicates(report)
    if report.html_rows >= max(_MIN_HTML_ROWS, _HTML_SHARE * report.rows):
        yield (
            f"{counted(report.html_rows, 'text')} with HTML tags or character references",
            "--strip-html removes them, when training and when serving",
        )
    if report.label_issue_count:
        yield (
            f"{counted(report.label_issue_count, 'possible label issue')}, by a model of the other rows",
            "review the list below: some labels are wrong, some texts are just hard",
        )
    yield from _shortcuts(report)
    yield from _sources(report)
    if report.empty_rows:
        texts = counted(len(report.empty_rows), "text")
        what = f"{texts} without a visible character: {_rows(report.empty_rows)}"
        yield what, "left out of training; --fix FIXED.csv drops them"


def _near_duplicates(report: AuditReport) -> _Texts:
    known = report.known_test
    # the highest share of a label counts: a rare one does not show in the overall share
    if known is None or max(known.overall, *known.by_label.values()) < _KNOWN_TEST:
        return
    highest = sorted(known.by_label.items(), key=lambda item: -item[1])
    each = ", ".join(f"{share:.0%} of {label!r}" for label, share in highest[:_LABELS_NAMED])
    each += ", …" if len(highest) > _LABELS_NAMED else ""
    yield (
        f"{known.overall:.0%} of a random 33 % test part have a near duplicate in the training part: {each}",
        "a random split is too optimistic; tamis prepare and tamis train keep near duplicates together",
    )


def _shortcuts(report: AuditReport) -> _Texts:
    """Name the single features that give a rarer label away."""
    # features of the largest class are features of the language
    usual = report.classes[0].label
    strong = [one for one in report.shortcuts if one.coverage >= _STRONG_SHORTCUT and one.label != usual]
    advice = "a model relies on such features: make sure that they also hold in production"
    # a table follows: many findings of one kind would hide the others
    if len(strong) > _SHORTCUTS_NAMED:
        labels = sorted({one.label for one in strong})
        of = f"one of {len(labels)} labels" if len(labels) > 1 else f"the label {labels[0]!r}"
        yield f"{len(strong)} single words or shapes each give {of} away: see the table", advice
        return
    for one in strong:
        share = f"{one.precision:.0%} of the texts with it are {one.label!r}"
        yield f"{one.feature}: in {one.coverage:.0%} of {one.label!r}, and {share}", advice


def _sources(report: AuditReport) -> _Texts:
    for label in sorted({label for source in report.sources for label in source.label_shares}):
        shares = {source.source: source.label_shares.get(label, 0.0) for source in report.sources}
        if max(shares.values()) - min(shares.values()) >= _SOURCE_GAP:
            each = ", ".join(f"{share:.0%} in {source}" for source, share in shares.items())
            yield (
                f"the share of {label!r} depends on the source: {each}",
                "a model can guess by the source: compare the metrics of each source",
            )
            return  # the other labels' shares differ because this one's do


def _notes(report: AuditReport) -> _Texts:
    if report.duplicates.exact:
        rows = counted(report.duplicates.exact, "row")
        what = f"{rows} repeat the text of an earlier row exactly"
        yield what, "--fix FIXED.csv drops those with the same label"
    if report.long_texts:
        longest = max(text.characters for text in report.long_texts)
        yield (
            f"{counted(len(report.long_texts), 'text')} of more than {report.long_limit:,.0f} characters, "
            f"three times the 99th percentile and up to {longest:,}: "
            f"{_rows([text.row for text in report.long_texts])}",
            "",
        )
    for assumption in report.assumed:
        yield f"assumed: {assumption}", ""


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_ROWS_SHOWN]))
    more = f" and {len(rows) - _ROWS_SHOWN:,} more" if len(rows) > _ROWS_SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"

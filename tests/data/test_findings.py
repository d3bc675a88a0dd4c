from __future__ import annotations

from dataclasses import replace

import pytest

from tamis.data.audit import AuditReport, ClassShare, Contradiction, Duplicates, LongText, SourceShare
from tamis.data.findings import findings
from tamis.data.labels import LabelProblem, Shortcut
from tamis.data.near_duplicates import KnownShare
from tamis.data.quote_repair import SwallowedField

CLEAN = AuditReport(
    rows_as_read=10,
    rows=10,
    classes=(ClassShare("ham", 6, 0.6), ClassShare("spam", 4, 0.4)),
    imbalance=1.5,
    assumed=(),
    label_problems=(),
    html_rows=0,
    swallowed=(),
    empty_rows=(),
    constant=(),
    long_limit=300.0,
    long_texts=(),
    duplicates=Duplicates(exact=0, distinct=10, rows_in_clusters=0, clusters=()),
    contradictions=(),
    shortcuts=(),
    sources=(),
    known_test=KnownShare(0.0, {"ham": 0.0, "spam": 0.04}),
    label_issues=None,
    label_issue_count=0,
)


def test_nothing_is_said_when_nothing_is_wrong():
    assert findings(CLEAN) == []


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        ({"constant": ("every row has the label 'ham'",)}, "problem", "every row has the label"),
        ({"imbalance": 20.0}, "warning", "20 rows of 'ham' for each of 'spam'"),
        (
            {"swallowed": (SwallowedField(3, 2), SwallowedField(5, 7))},
            "problem",
            "9 rows were hidden inside the text of rows 3, 5",
        ),
        ({"swallowed": (SwallowedField(3, 0),)}, "warning", "row 3 may hold several rows"),
        (
            {"contradictions": (Contradiction("x", {"ham": (1,), "spam": (2,)}),)},
            "problem",
            "1 text with more than one label",
        ),
        ({"known_test": KnownShare(0.02, {"ham": 0.01, "spam": 0.3})}, "warning", "30% of 'spam'"),
        ({"label_issue_count": 12}, "warning", "12 possible label issues"),
        (
            {"shortcuts": (Shortcut("a web address", "spam", 30, 0.97, 0.6),)},
            "warning",
            "in 60% of 'spam', and 97%",
        ),
        (
            {
                "sources": (
                    SourceShare("a", 5, {"ham": 1.0}, 9.0),
                    SourceShare("b", 5, {"ham": 0.5, "spam": 0.5}, 9.0),
                )
            },
            "warning",
            "the share of 'ham' depends on the source: 100% in a, 50% in b",
        ),
        ({"empty_rows": tuple(range(1, 12))}, "warning", "rows 1, 2, 3, 4, 5, 6, 7, 8 and 3 more"),
        ({"duplicates": replace(CLEAN.duplicates, exact=1234)}, "note", "1,234 rows repeat"),
        ({"long_texts": (LongText(7, 4000),)}, "note", "up to 4,000: row 7"),
        ({"assumed": ("delimiter ';'",)}, "note", "assumed: delimiter ';'"),
        (
            {"label_problems": (LabelProblem("variants", {"ham": 9, "Ham": 1}),)},
            "problem",
            "'ham' (9), 'Ham' (1) may be one label",
        ),
        ({"html_rows": 4}, "warning", "4 texts with HTML"),
    ],
)
def test_one_thing_is_said_when_one_thing_is_wrong(change, severity, words):
    (finding,) = findings(replace(CLEAN, **change))
    assert finding.severity == severity
    assert words in finding.what


@pytest.mark.parametrize(
    "change",
    [
        {"shortcuts": (Shortcut("a web address", "spam", 30, 0.97, 0.2),)},
        {"shortcuts": (Shortcut("the word 'i'", "ham", 30, 0.97, 0.6),)},
        {"known_test": None},
        {
            "sources": (
                SourceShare("a", 5, {"ham": 0.6, "spam": 0.4}, 9.0),
                SourceShare("b", 5, {"ham": 0.5, "spam": 0.5}, 9.0),
            )
        },
    ],
)
def test_nothing_is_said_when_a_figure_is_as_usual(change):
    assert findings(replace(CLEAN, **change)) == []


def test_the_gravest_comes_first_when_several_things_are_wrong():
    report = replace(
        CLEAN, duplicates=replace(CLEAN.duplicates, exact=3), empty_rows=(1,), constant=("all the same",)
    )
    assert [finding.severity for finding in findings(report)] == ["problem", "warning", "note"]


def test_shortcuts_are_one_finding_when_there_are_many():
    shortcuts = tuple(Shortcut(f"the word {n}", "spam", 30, 0.97, 0.6) for n in range(9))
    (finding,) = findings(replace(CLEAN, shortcuts=shortcuts))
    assert "9 single words or shapes each give the label 'spam' away" in finding.what


def test_near_duplicates_name_the_worst_labels_only():
    shares = {f"label {n}": n / 100 for n in range(50)}
    (finding,) = findings(replace(CLEAN, known_test=KnownShare(0.2, shares)))
    assert finding.what.endswith("47% of 'label 47', 46% of 'label 46', …")

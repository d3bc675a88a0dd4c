from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamis.data.audit import AuditReport, audit
from tamis.data.reader import ReadResult, read_dataset


def read(folder: Path, *lines: str) -> ReadResult:
    file = folder / "data.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return read_dataset(file)


@pytest.fixture
def report(tmp_path: Path) -> AuditReport:
    """Everything that can be wrong, once each."""
    return audit(
        read(
            tmp_path,
            "label,text,source",
            "ham,see you at noon by the river,sms",
            "ham,see you at noon by the river,sms",
            "spam,See you  at noon by the river,web",
            "spam,see you at noon by the river,web",
            "ham,  ,sms",
            f"ham,{'long ' * 200},sms",
            *(f"ham,short {word} text,sms" for word in ["one", "two", "six", "ten", "cat", "dog"] * 40),
        )
    )


def test_figures_are_those_of_file_when_everything_is_wrong_once(report):
    assert (report.rows_as_read, report.rows) == (246, 246)
    assert [(one.label, one.rows) for one in report.classes] == [("ham", 244), ("spam", 2)]
    assert report.imbalance == 122
    assert report.empty_rows == (5,)
    assert [(text.row, text.characters) for text in report.long_texts] == [(6, 1000)]


def test_contradictions_name_rows_each_label_when_blanks_differ(report):
    (one,) = report.contradictions
    assert one.text == "see you at noon by the river"
    assert one.rows == {"ham": (1, 2), "spam": (4,)}


def test_duplicates_are_exact_or_near_when_texts_repeat(report):
    repeated = 2 + 6 * 39  # the river twice more, and each short text 39 times
    assert report.duplicates.exact == repeated
    largest, *_ = report.duplicates.clusters
    assert (largest.rows, largest.labels) == (40, {"ham": 40})
    river = next(family for family in report.duplicates.clusters if "river" in family.text)
    assert (river.rows, river.labels, river.first_row) == (4, {"ham": 2, "spam": 2}, 1)


def test_sources_are_compared_when_there_is_a_source_column(report):
    sms, web = report.sources
    assert (sms.source, sms.rows, sms.label_shares) == ("sms", 244, {"ham": 1.0})
    assert (web.source, web.rows, web.label_shares) == ("web", 2, {"spam": 1.0})


def test_twins_in_test_part_are_counted_when_it_split_at_random(report):
    assert report.known_test is not None
    assert report.known_test.overall > 0.9


def test_no_label_is_doubted_when_no_model_is_asked(report):
    assert (report.label_issues, report.label_issue_count) == (None, 0)


WORDS = ["apple", "birch", "cedar", "daisy", "elder", "fennel", "grape", "hazel", "ivy", "jade"]


def test_doubtful_labels_named_row_and_text_when_model_asked(tmp_path):
    reading = read(tmp_path, "label,text", *(f"{label},{n}" for label in ("ham", "spam") for n in WORDS))
    asked = []

    def confidence(*columns):
        asked.append(columns)
        return np.array([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 9 + [[0.95, 0.05]])

    report = audit(reading, confidence=confidence)
    assert asked == [(WORDS * 2, ["ham"] * 10 + ["spam"] * 10, [str(n) for n in range(10)] * 2)]
    assert report.label_issues is not None
    (one,) = report.label_issues
    assert (one.row, one.label, one.suggested, one.text) == (20, "spam", "ham", "jade")


def test_a_constant_column_is_named_when_everything_is_the_same(tmp_path):
    rows = read(tmp_path, "label,text,source", *["ham,hello there,sms"] * 3)
    assert set(audit(rows).constant) == {
        "every row has the label 'ham'",
        "all 3 texts of 'ham' are the same",
        "every row has the source 'sms'",
    }


def test_figures_those_measured_before_when_shared_data_there(shared_data):
    report = audit(read_dataset(shared_data / "spam-dataset.csv"))
    assert (report.rows_as_read, report.rows) == (7528, 7530)
    assert report.duplicates.exact == 599
    assert report.known_test is not None
    assert report.known_test.by_label["spam"] == pytest.approx(0.30, abs=0.015)
    digits = next(one for one in report.shortcuts if one.feature.startswith("four or more digits"))
    assert digits.label == "spam"
    assert digits.precision > 0.9

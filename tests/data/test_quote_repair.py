from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.data.quote_repair import RowLayout, SwallowedField, find_swallowed

LABELS = frozenset({"ham", "spam"})
LABEL_FIRST = RowLayout("label", label=0, text=1, delimiter=",")
TEXT_FIRST = RowLayout("label", label=1, text=0, delimiter=",")


def held(cells: list[str], layout: RowLayout = LABEL_FIRST) -> list[list[str]]:
    return find_swallowed({1: cells}, layout, LABELS).rows.get(1, [])


def as_csv_reads(raw: str) -> list[str]:
    return next(csv.reader(io.StringIO(raw, newline="")))


def test_rows_are_split_when_lines_start_with_label_and_tab() -> None:
    rows = held(["ham", "Hello, you\nspam\tWIN now, call\r\nham\tok"])
    assert rows == [["ham", "Hello, you"], ["spam", "WIN now, call"], ["ham", "ok"]]


def test_other_lines_stay_with_their_row_when_rows_split_at_tabs() -> None:
    assert held(["ham", "a\nb\nspam\tc\n\nd\n"]) == [["ham", "a\nb"], ["spam", "c\n\nd\n"]]


def test_quotes_stay_when_rows_are_split() -> None:
    # A reader ate one quote of a pair; which one it was cannot be told from what is left.
    assert held(["ham", 'Hi" there\nham\t"Bye']) == [["ham", 'Hi" there'], ["ham", '"Bye']]


def test_rows_are_split_when_lines_are_as_in_the_file() -> None:
    cells = as_csv_reads('ham,"Hello there\nspam,WIN now\nham,ok"\n')
    assert held(cells) == [["ham", "Hello there"], ["spam", "WIN now"], ["ham", "ok"]]


def test_line_end_before_closing_quote_dropped_when_rows_in_file() -> None:
    assert held(as_csv_reads('ham,"Hello\nspam,WIN\n"\n')) == [["ham", "Hello"], ["spam", "WIN"]]


def test_first_text_may_hold_delimiter_when_nothing_follows_it() -> None:
    cells = as_csv_reads('ham,"Hello, there\nham,ok"\n')
    assert held(cells) == [["ham", "Hello, there"], ["ham", "ok"]]


def test_label_of_row_belongs_to_last_line_when_text_comes_first() -> None:
    cells = as_csv_reads('"Hello there,ham\nWIN now,spam\nok",ham\n')
    assert held(cells, TEXT_FIRST) == [["Hello there", "ham"], ["WIN now", "spam"], ["ok", "ham"]]


def test_other_cells_go_with_their_rows_when_text_stands_between() -> None:
    cells = as_csv_reads('ham,"Hello there,A\nspam,WIN now,B\nham,ok",C\n')
    assert held(cells) == [
        ["ham", "Hello there", "A"],
        ["spam", "WIN now", "B"],
        ["ham", "ok", "C"],
    ]


def test_cells_delimiters_quotes_survive_rows_put_together_again() -> None:
    rows = held(["ham", 'Hello,A\nspam,"WIN, now",B\nham,"ok" he said', 'C, "D"'])
    assert rows == []  # the last text cannot be told from its neighbour
    rows = held(["ham", 'Hello,A\nspam,"WIN, now",B\nham,ok', 'C, "D"'])
    assert rows == [["ham", "Hello", "A"], ["spam", "WIN, now", "B"], ["ham", "ok", 'C, "D"']]


@pytest.mark.parametrize(
    "text",
    [
        "Dear all,\nbest wishes\nyours",
        "ham\nspam\nham",
        "a poem,\nof two, lines",
        "Shopping:\nhamburgers,4\nspammy\tx",
        "one\nspamham,more",
        "Long\n1, 2, 3\n4, 5, 6\nbut then\nmostly\nwords\n",
    ],
)
def test_text_stays_when_its_lines_are_no_rows(text: str) -> None:
    repair = find_swallowed({1: ["ham", text]}, LABEL_FIRST, LABELS)
    assert repair.rows == {}
    assert repair.found == ()


@pytest.mark.parametrize(
    "text",
    [
        "Look\nx1,Ann,2013,nice,0\nx2,Bob,2013,bad,0\nx3,Cy,2013,so, so,0",
        "Look\n1;2;3\n4;5;6",
        "Look\neggs\tone\nmilk\ttwo",
        "Hello\nspam,WIN now\nand more",
    ],
)
def test_field_is_reported_and_left_when_its_rows_cannot_be_read(text: str) -> None:
    repair = find_swallowed({7: ["ham", text]}, LABEL_FIRST, LABELS)
    assert repair.found == (SwallowedField(7, 0),)
    assert repair.rows == {}


def test_found_fields_say_how_many_rows_came_out_when_split() -> None:
    suspects = {3: ["ham", "a\nspam\tb\nham\tc"], 5: ["ham", "a\nb"], 9: ["spam", "a\nham\tb"]}
    repair = find_swallowed(suspects, LABEL_FIRST, LABELS)
    assert repair.found == (SwallowedField(3, 2), SwallowedField(9, 1))
    assert sorted(repair.rows) == [3, 9]
    assert repair.label_words == {}


@pytest.mark.parametrize(
    ("negative", "positive"), [("0", "1"), ("-1", "1"), ("False", "True"), ("no", "yes")]
)
def test_labels_get_words_when_the_column_is_named_after_one(negative: str, positive: str) -> None:
    layout = RowLayout("Spam", label=0, text=1, delimiter=",")
    repair = find_swallowed({1: [negative, "a\nspam\tb\nham\tc"]}, layout, {negative, positive})
    assert repair.label_words == {negative: "ham", positive: "spam"}
    assert repair.rows[1] == [[negative, "a"], ["spam", "b"], ["ham", "c"]]


@pytest.mark.parametrize(
    ("column", "labels", "text"),
    [
        ("label", {"0", "1"}, "a\nspam\tb\nham\tc"),  # nothing says which is which
        ("spam", {"0", "1"}, "a\nspam\tb\nspam\tc"),  # the other class has no word
        ("spam", {"0", "1"}, "a\nspam\tb\nham\tc\neggs\td"),  # three words for two labels
        ("spam", {"0", "1", "2"}, "a\nspam\tb\nham\tc"),
        ("spam", {"3", "4"}, "a\nspam\tb\nham\tc"),
    ],
)
def test_field_is_left_when_its_words_cannot_be_matched(column: str, labels: set[str], text: str) -> None:
    layout = RowLayout(column, label=0, text=1, delimiter=",")
    repair = find_swallowed({1: [min(labels), text]}, layout, labels)
    assert repair.label_words == {}
    assert repair.rows == {}
    assert repair.found == (SwallowedField(1, 0),)


LINES = st.text(alphabet=st.sampled_from(list('ab ,;\t"hamsp')), max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, min_size=2, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_text_stays_unless_line_starts_with_label_and_delimiter(lines: list[str], line_end: str) -> None:
    rows = held(["ham", line_end.join(lines)])
    like_rows = [line for line in lines[1:] if line.startswith(("ham,", "spam,", "ham\t", "spam\t", '"'))]
    assert not rows or like_rows


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ham", "spam"]), LINES), min_size=2, max_size=6))
def test_every_row_comes_back_when_rows_were_swallowed_with_tabs(rows: list[tuple[str, str]]) -> None:
    (first_label, first_text), *others = rows
    field = "\n".join([first_text] + [f"{label}\t{text}" for label, text in others])
    assert held([first_label, field]) == [list(row) for row in rows]

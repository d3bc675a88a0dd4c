from __future__ import annotations

from pathlib import Path

import pytest

from tamis.data.columns import choose_columns
from tamis.data.tables import Columns, ReadOptions
from tamis.errors import DataError

WORDS = [
    "see you at six",
    "call me later",
    "win a prize now",
    "keys on the table",
    "buy now",
    "good night all",
]


def rows(*columns: str) -> list[list[str]]:
    values = {
        "label": ["ham", "spam"] * 15,
        "other": ["web", "phone", "web"] * 10,
        "text": [f"{WORDS[n % 6]} {n}" for n in range(30)],
        "title": [f"title of {n}" for n in range(30)],
        "id": [str(n) for n in range(30)],
        "empty": [""] * 30,
    }
    return [list(cells) for cells in zip(*(values[column] for column in columns), strict=True)]


def chosen(
    header: str, *columns: str, options: ReadOptions | None = None
) -> tuple[str, str, tuple[str, ...]]:
    found = choose_columns(header.split(","), rows(*columns), options or ReadOptions(), Path("data.csv"))
    return found.names.label or "", found.names.text or "", found.guessed


@pytest.mark.parametrize(
    ("header", "columns", "expected"),
    [
        ("label,text", ("label", "text"), ("label", "text", ())),
        ("Sentiment,Review", ("label", "text"), ("Sentiment", "Review", ("label", "text"))),
        ("v1,v2,", ("label", "text", "empty"), ("v1", "v2", ("label", "text"))),
        ("a,b,c", ("id", "text", "label"), ("c", "b", ("label", "text"))),
        ("text,kind", ("text", "label"), ("kind", "text", ("label",))),
        ("id,text,label", ("id", "text", "label"), ("label", "text", ())),
    ],
)
def test_columns_are_found_when_there_is_one_choice(header, columns, expected):
    assert chosen(header, *columns) == expected


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        (
            "a,b,c",
            ("label", "other", "text"),
            "has no column 'label'; it has 'a', 'b', 'c'; name the right one",
        ),
        ("label,b,c", ("label", "title", "text"), "has no column 'text'; it has 'label', 'b', 'c'"),
        ("ham,see you at six 0", ("label", "text"), "the first line is a row, not column names"),
        ("everything", ("text",), "has only one column, 'everything'"),
    ],
)
def test_columns_are_listed_when_there_is_a_doubt(header, columns, message):
    with pytest.raises(DataError) as refused:
        chosen(header, *columns)
    assert message in str(refused.value)


def test_wrong_name_lists_what_there_is_when_it_was_given():
    with pytest.raises(DataError) as refused:
        chosen("label,text", "label", "text", options=ReadOptions(Columns(text="txt")))
    assert str(refused.value) == (
        "data.csv: has no column 'txt'; it has 'label', 'text'; did you mean --text-column 'text'?"
    )


def test_remembered_columns_are_taken_when_the_file_has_them():
    options = ReadOptions(remembered=Columns(label="b", text="a"))
    assert chosen("a,b,c", "title", "other", "label", options=options) == ("b", "a", ())
    assert chosen("label,text", "label", "text", options=options) == ("label", "text", ())

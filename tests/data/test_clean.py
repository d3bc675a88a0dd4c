from __future__ import annotations

from tamis.data.dataset_builder import clean, drop_empty
from tamis.types import Dataset

DATA = Dataset(
    texts=["hi", "hi", " \u200b ", "hi", "Hi", ""],
    labels=["ham", "ham", "ham", "spam", "ham", "spam"],
    rows=[1, 2, 3, 4, 5, 6],
)


def test_cleaning_keeps_contradictions_when_same_text_two_labels():
    cleaned = clean(DATA)
    assert list(cleaned.dataset.rows) == [1, 4, 5]
    assert (cleaned.empty, cleaned.duplicates) == (2, 1)


def test_dropping_empty_texts_keeps_duplicates_when_there_some():
    assert list(drop_empty(DATA).rows) == [1, 2, 4, 5]

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tamis.data.dataset_sources import Source
from tamis.data.datasets import SMS_SPAM, Fetched, KnownContents, PublicDataset, digest_of, fetch
from tamis.data.reader import read_dataset
from tamis.errors import DataError, FetchError
from tamis.types import Dataset, Progress

RIGHT = Dataset(["Hello you", "WIN", "Bye"], ["ham", "spam", "ham"], [1, 2, 3])
OTHER_TEXTS = Dataset(["Hello you", "LOSE", "Bye"], ["ham", "spam", "ham"], [1, 2, 3])
TOO_FEW = Dataset(["Hello you", "WIN"], ["ham", "spam"], [1, 2])


class Having(Source):
    """A source that has what it was given, or raises it."""

    def __init__(self, name: str, contents: Dataset | Exception) -> None:
        self.name, self.contents, self.asked = name, contents, 0

    def read(self, progress: Progress) -> Dataset:
        self.asked += 1
        progress(1, 1)
        if isinstance(self.contents, Exception):
            raise self.contents
        return self.contents


def wanting(*sources: Source) -> PublicDataset:
    return PublicDataset("greetings", KnownContents({"ham": 2, "spam": 1}, digest_of(RIGHT)), sources)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "greetings.csv"


def test_first_good_source_is_written_when_others_fail(path: Path) -> None:
    sources = [
        Having("closed", FetchError("connection refused")),
        Having("broken", DataError("the label is empty", row=3)),
        Having("short", TOO_FEW),
        Having("forged", OTHER_TEXTS),
        Having("good", RIGHT),
        Having("spare", RIGHT),
    ]
    said: list[str] = []
    assert fetch(wanting(*sources), path, log=said.append) == Fetched(path, "good")
    assert path.read_text() == "label,text\nham,Hello you\nspam,WIN\nham,Bye\n"
    assert said == [
        "trying closed",
        "closed: connection refused",
        "trying broken",
        "broken: row 3: the label is empty",
        "trying short",
        "short: has 2 rows (1 ham, 1 spam) instead of 3 rows (2 ham, 1 spam)",
        "trying forged",
        "forged: has the right number of rows, but other texts",
        "trying good",
    ]
    assert sources[-1].asked == 0


def test_every_reason_named_nothing_left_when_all_sources_fail(path: Path) -> None:
    sources = [Having("closed", FetchError("connection refused")), Having("short", TOO_FEW)]
    with pytest.raises(FetchError) as caught:
        fetch(wanting(*sources), path)
    assert str(caught.value) == (
        "greetings could not be fetched from any source; closed: connection refused; "
        "short: has 2 rows (1 ham, 1 spam) instead of 3 rows (2 ham, 1 spam)"
    )
    assert not path.exists()


def test_file_is_left_alone_when_it_has_the_known_contents(path: Path) -> None:
    source = Having("good", RIGHT)
    fetch(wanting(source), path)
    before = path.stat()
    assert fetch(wanting(source), path) == Fetched(path, None)
    assert source.asked == 1
    assert path.stat() == before


@pytest.mark.parametrize("content", ["label,text\nham,mine\n", "my diary", ""])
def test_file_is_replaced_by_force_when_it_holds_something_else(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    source = Having("good", RIGHT)
    with pytest.raises(
        FetchError, match=r"greetings\.csv exists and is not greetings; replace it with --force$"
    ):
        fetch(wanting(source), path)
    assert path.read_text() == content
    assert source.asked == 0
    assert fetch(wanting(source), path, force=True).source == "good"
    assert read_dataset(path).dataset == Dataset(RIGHT.texts, RIGHT.labels, range(1, 4))


def test_old_file_stays_when_force_finds_no_source(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(FetchError):
        fetch(wanting(Having("closed", FetchError("refused"))), path, force=True)
    assert path.read_text() == "mine"
    assert os.listdir(path.parent) == ["greetings.csv"]


def test_digest_is_same_when_only_order_blanks_and_quotes_differ() -> None:
    same = Dataset([" Bye", 'Hello  "you', '"WIN"'], ["ham", "ham", "spam"], [1, 2, 3])
    assert digest_of(same) == digest_of(RIGHT)


@pytest.mark.parametrize(
    "other", [OTHER_TEXTS, TOO_FEW, Dataset(RIGHT.texts, ["ham", "ham", "spam"], [1, 2, 3])]
)
def test_digest_differs_when_texts_or_labels_do(other: Dataset) -> None:
    assert digest_of(other) != digest_of(RIGHT)


def test_sms_messages_of_mixed_csv_are_known_ones_when_repaired(shared_data: Path) -> None:
    """A third copy, made by somebody else, has the same digest."""
    mixed = read_dataset(shared_data / "spam-dataset.csv").dataset
    sources = mixed.sources or ()
    SMS_SPAM.contents.check(mixed.select([i for i, source in enumerate(sources) if source == "sms-spam"]))

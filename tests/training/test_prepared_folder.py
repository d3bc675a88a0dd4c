from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tamis.data.audit import audit
from tamis.data.reader import read_dataset
from tamis.errors import DataError
from tamis.training.prepare import Prepared, PrepareSettings
from tamis.training.prepared_folder import check_replaceable, read_prepared, write_prepared
from tamis.types import Dataset

TRAIN = Dataset(
    texts=["plain", 'with "quotes", commas', "two\nlines", "a\rreturn", "", "ünïcode 😀"],
    labels=["ham", "spam", "ham", "spam", "ham", "spam"],
    rows=[5, 3, 9, 9, 1, 2],
    sources=["a", "b", "a", "b", "a", "b"],
    groups=["0", "1", "2", "3", "4", "5"],
)
TEST = Dataset(texts=["new"], labels=["ham"], rows=[7], sources=["a"], groups=["6"])
PREPARED = Prepared(TRAIN, TEST, PrepareSettings(seed=3), "ab" * 32)


@pytest.fixture
def report(tmp_path: Path):
    file = tmp_path / "data.csv"
    file.write_text("label,text\nham,one\nspam,two\n")
    return audit(read_dataset(file))


@pytest.fixture
def folder(tmp_path: Path, report) -> Path:
    write_prepared(PREPARED, report, tmp_path / "prepared")
    return tmp_path / "prepared"


def test_parts_come_back_as_they_were_when_the_folder_is_whole(folder):
    assert read_prepared(folder) == PREPARED


def test_parts_come_back_without_sources_when_there_were_none(tmp_path, report):
    bare = replace(PREPARED, train=replace(TRAIN, sources=None), test=replace(TEST, sources=None))
    write_prepared(bare, report, tmp_path / "bare")
    assert read_prepared(tmp_path / "bare") == bare


def test_folder_is_same_to_byte_when_it_written_again_elsewhere(folder, report, tmp_path):
    write_prepared(PREPARED, report, tmp_path / "deeper" / "again")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "deeper" / "again").iterdir()}
    assert sorted(first) == ["audit.json", "prepared.json", "test.csv", "train.csv"]


def test_no_path_is_told_when_the_folder_is_written(folder, tmp_path):
    assert all(str(tmp_path).encode() not in path.read_bytes() for path in folder.iterdir())


def test_earlier_preparation_replaced_when_folder_made_prepare(folder, report):
    write_prepared(replace(PREPARED, data_sha256="cd" * 32), report, folder)
    assert read_prepared(folder).data_sha256 == "cd" * 32
    assert sorted(path.name for path in folder.parent.iterdir()) == ["data.csv", "prepared"]


def test_folder_refused_and_untouched_when_holds_something_else(folder, report, tmp_path):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt.*did not write"):
        write_prepared(PREPARED, report, folder)
    assert (folder / "notes.txt").read_text() == "mine"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "train.csv").write_text("not ours")
    with pytest.raises(DataError, match="did not write"):
        check_replaceable(tmp_path / "photos")
    with pytest.raises(DataError, match="is a file"):
        check_replaceable(tmp_path / "data.csv")


@pytest.mark.parametrize("name", ["README.md", "readme", "README.txt"])
def test_prepared_folder_with_a_readme_keeps_it(tmp_path, report, name):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("where this data is from")
    for _ in range(2):
        write_prepared(PREPARED, report, folder)
        assert (folder / name).read_text() == "where this data is from"
        assert read_prepared(folder) == PREPARED


def test_an_empty_folder_is_filled_when_it_is_named(tmp_path, report):
    (tmp_path / "empty").mkdir()
    write_prepared(PREPARED, report, tmp_path / "empty")
    assert read_prepared(tmp_path / "empty") == PREPARED


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_a_part_is_refused_when_one_letter_was_changed(folder, name):
    contents = (folder / name).read_text(encoding="utf-8")
    (folder / name).write_text(contents.replace("ham", "Ham", 1), encoding="utf-8")
    with pytest.raises(DataError, match="was changed since it was made"):
        read_prepared(folder)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"format": 2}', "cannot be read"),
        (b'{"format": 1}', "has format 1"),
    ],
)
def test_a_description_is_refused_when_it_is_broken(folder, contents, message):
    (folder / "prepared.json").write_bytes(contents)
    with pytest.raises(DataError, match=message):
        read_prepared(folder)


@pytest.mark.parametrize("name", ["prepared.json", "train.csv"])
def test_a_folder_is_refused_when_a_file_is_missing(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        read_prepared(folder)


def test_a_description_without_a_part_is_refused_when_read(folder):
    description = folder / "prepared.json"
    description.write_text(description.read_text().replace('"test": {', '"tset": {'))
    with pytest.raises(DataError, match="was changed"):
        read_prepared(folder)

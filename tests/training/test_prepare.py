from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tamis.artifact import DataFacts
from tamis.data.near_duplicates import near_duplicate_groups
from tamis.data.tables import Columns, ReadOptions
from tamis.errors import DataError
from tamis.training.prepare import PrepareSettings, prepare_file

GROUPED = PrepareSettings()
RANDOM = PrepareSettings(split="random")
NAMES = ["anna", "boris", "clara", "dora", "emil", "frida", "gustav", "hanna", "igor", "jana"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ten families of three near twins, twenty texts by themselves, an empty text and a swallowed row."""
    path = tmp_path / "data.csv"
    twins = [
        ("spam", f"Dear {name}, {name} has won a voucher of {n}00 pounds for {name}")
        for name in NAMES
        for n in (1, 2, 3)
    ]
    lone = [
        ("ham", f"{a} meets {b} " + " and ".join([a, b, a]))
        for a, b in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)
    ]
    lone += [
        ("ham", f"where were you {a}, {a}? {b}") for a, b in zip(NAMES, NAMES[2:] + NAMES[:2], strict=True)
    ]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows(
            [("label", "text"), *twins, *lone, ("ham", "  "), ("ham", "a quote ate\nspam,this row")]
        )
    return path


def test_groups_stay_whole_when_the_split_is_grouped(file):
    prepared = prepare_file(file, GROUPED)
    assert set(prepared.train.groups).isdisjoint(prepared.test.groups)
    groups = near_duplicate_groups([*prepared.train.texts, *prepared.test.texts])
    known = np.isin(groups[len(prepared.train) :], groups[: len(prepared.train)])
    assert not known.any()


def test_rows_repaired_empty_texts_dropped_when_split_grouped(file):
    prepared = prepare_file(file, GROUPED)
    assert len(prepared.train) + len(prepared.test) == 30 + 20 + 2
    assert "this row" in [*prepared.train.texts, *prepared.test.texts]
    assert len(prepared.test) == pytest.approx(0.33 * 52, abs=2)


def test_rows_are_those_of_scikit_learn_when_the_split_is_random(file):
    model_selection = pytest.importorskip("sklearn.model_selection")
    with file.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    train, test = model_selection.train_test_split(texts, test_size=0.33, random_state=42)
    prepared = prepare_file(file, RANDOM)
    assert (list(prepared.train.texts), list(prepared.test.texts)) == (train, test)
    assert prepared.train.groups is not None, "cross-validation keeps near duplicates together all the same"


def test_rows_keep_the_number_they_have_in_the_file(file):
    with file.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    prepared = prepare_file(file, RANDOM)
    assert all(
        texts[row - 1] == text for row, text in zip(prepared.test.rows, prepared.test.texts, strict=True)
    )


def test_groups_are_the_files_own_when_a_column_is_named(tmp_path):
    file = tmp_path / "data.csv"
    rows = [f"{label},text number {n} {label},video {n % 5}" for n in range(20) for label in ("ham", "spam")]
    file.write_text("\n".join(["label,text,video", *rows]) + "\n")
    prepared = prepare_file(file, PrepareSettings(reading=ReadOptions(Columns(group="video"))))
    assert {*prepared.train.groups, *prepared.test.groups} == {f"video {n}" for n in range(5)}
    assert set(prepared.train.groups).isdisjoint(prepared.test.groups)


def test_class_reported_absent_when_all_texts_near_duplicates(tmp_path):
    file = tmp_path / "data.csv"
    lone = [f"{label},{name} {name} {label}" for name in NAMES for label in ("ham", "spam")]
    twins = [f"rare,this one text again and again {n}" for n in range(4)]
    file.write_text("\n".join(["label,text", *lone, *twins]) + "\n")
    prepared = prepare_file(file, GROUPED)
    assert prepared.unmeasured.keys() == {"rare"}
    assert list(prepared.train.labels).count("rare") == 4


@pytest.mark.parametrize("test_size", [0.0, 1.0, -0.5, float("nan")])
def test_a_test_size_is_refused_when_it_is_no_share(file, test_size):
    with pytest.raises(DataError, match="between 0 and 1"):
        prepare_file(file, PrepareSettings(test_size=test_size))


def test_a_file_is_refused_when_it_has_one_class(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("label,text\nham,one\nham,two\n")
    with pytest.raises(DataError, match="only the class 'ham'"):
        prepare_file(file, GROUPED)


def test_settings_come_back_when_a_model_remembers_them():
    facts = DataFacts(
        "0" * 64, "random", 0.2, 7, {"label": "v1", "text": "v2", "source": "source", "group": None}, 8, 2, {}
    )
    expected = PrepareSettings("random", 0.2, 7, ReadOptions(Columns("v1", "v2")))
    assert PrepareSettings.from_manifest(facts) == expected


def test_parts_mixed_file_known_sizes_when_shared_data_there(shared_data):
    prepared = prepare_file(shared_data / "spam-dataset.csv", RANDOM)
    assert (len(prepared.train), len(prepared.test)) == (5043, 2485)
    prepared = prepare_file(shared_data / "spam-dataset.csv", GROUPED)
    assert (len(prepared.train), len(prepared.test)) == (5045, 2485)

"""`Classifier.score_table`, and classifiers that are pickled by reference."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow
import pytest

from tamis import Classifier
from tamis.errors import ArtifactError, InputError
from tamis.training.train import train
from tests.support.samples import messages, write_csv

TEXTS: list[str | None] = [*messages(1_500, seed=4).texts, "", "  ", "Ünïcødé 中文\u200b", None, "last"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    train(write_csv(messages(200), folder / "mail.csv"), folder / "m")
    return folder


@pytest.fixture
def classifier(folder: Path) -> Classifier:
    return Classifier.load(folder / "m")


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()])
def test_score_table_equals_predict_many(kind: pyarrow.DataType, classifier: Classifier) -> None:
    column = pyarrow.chunked_array([pyarrow.array(TEXTS[:700], kind), pyarrow.array(TEXTS[700:], kind)])
    table = classifier.score_table(pyarrow.table({"text": column}), scores=True)
    expected = classifier.predict_many([text or "" for text in TEXTS])
    for row, one in zip(table.to_pylist(), expected, strict=True):
        if row["text"] is None:
            assert {row[name] for name in ("label", "decision", "score", "score_ham")} == {None}
            continue
        assert (row["label"], row["decision"], row["score"]) == (one.label, one.decision, one.score)
        assert {label: row[f"score_{label}"] for label in ("ham", "spam")} == one.scores


def test_score_table_of_a_slice_is_that_of_its_rows(classifier: Classifier) -> None:
    table = pyarrow.table({"text": pyarrow.array(TEXTS)}).slice(37, 11)
    expected = classifier.predict_many(TEXTS[37:48])
    assert classifier.score_table(table)["score"].to_pylist() == [one.score for one in expected]


def test_score_table_keeps_the_other_columns(classifier: Classifier) -> None:
    table = pyarrow.table({"label": ["x"], "body": ["WIN a phone"], "n": [1]})
    found = classifier.score_table(table, "body", explain=True)
    assert found.column_names == [
        "label", "body", "n", "predicted_label", "decision", "score", "explanation"
    ]  # fmt: skip
    assert {token for token, _ in json.loads(found["explanation"][0].as_py())} <= {"WIN", "a", "phone"}


def test_score_table_without_the_column_is_refused(classifier: Classifier) -> None:
    with pytest.raises(InputError, match="no column 'text'; it has body"):
        classifier.score_table(pyarrow.table({"body": ["a"]}))


def test_pickle_is_a_reference_that_opens_the_model(classifier: Classifier) -> None:
    data = pickle.dumps(classifier)
    assert len(data) < 1_000
    assert pickle.loads(data).predict("WIN") == classifier.predict("WIN")


def test_pickle_of_a_changed_version_is_refused(folder: Path, classifier: Classifier) -> None:
    shutil.copytree(folder / "m", folder / "copy")
    data = pickle.dumps(Classifier.load(folder / "copy"))
    manifest = folder / "copy" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("{", "{ ", 1))
    with pytest.raises(ArtifactError, match="version 1 was changed"):
        pickle.loads(data)


def test_pickle_without_a_folder_is_refused() -> None:
    with pytest.raises(TypeError, match="loaded from a folder"):
        pickle.dumps(Classifier.mock())


def test_classifier_crosses_to_another_process(classifier: Classifier) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(classifier.predict, "WIN").result() == classifier.predict("WIN")

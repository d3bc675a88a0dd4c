"""`tamis evaluate` and `compare` on data that a model may have learned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result

from tamis import train
from tamis.artifact.profile import LEARNED_FILE, PROFILE_FILE, LearnedTexts
from tamis.cli import cli
from tamis.errors import ArtifactError
from tamis.models.self_test import PROBES_FILE
from tamis.training.compare import LEARNED_UNKNOWN
from tamis.training.fit import TrainSettings
from tamis.training.prepare import PrepareSettings, prepare_file
from tests.support.samples import messages, write_csv

NEW = ["this", "that", "such", "every", "one", "first", "second", "third", "fourth", "fifth", "last"]
LABELS = ("ham", "spam", "question")
_QUICK = TrainSettings(folds=2, overrides={"bits": "14"})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training file, its models `spam` and `older` (without digests), and a copy with new rows."""
    folder = tmp_path_factory.mktemp("home")
    data = write_csv(messages(200), folder / "messages.csv")
    train(data, folder / "spam", settings=_QUICK)
    without_digests(shutil.copytree(folder / "spam", folder / "older"))
    new = "".join(f"ham,nobody has ever seen {word} row before,sms\n" for word in NEW)
    (folder / "more.csv").write_text(data.read_text() + new)
    return folder


def without_digests(model: Path) -> None:
    """Make the model as earlier versions of Tamis wrote it."""
    manifest = json.loads((model / "1" / "manifest.json").read_text())
    for name in (LEARNED_FILE, PROFILE_FILE, PROBES_FILE):
        (model / "1" / name).unlink()
        del manifest["files"][name]
    (model / "1" / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def elsewhere(home: Path, tmp_path: Path) -> Path:
    """The changed copy in a folder of its own, without the training file."""
    return Path(shutil.copy(home / "more.csv", tmp_path / "more.csv"))


def tamis(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def learned_texts(home: Path) -> set[str]:
    return {*prepare_file(home / "messages.csv", PrepareSettings()).joined.texts}


def test_evaluate_changed_copy_leaves_learned_rows_out(home: Path):
    ran = tamis("evaluate", home / "older", home / "more.csv", "--json")
    told = json.loads(ran.stdout)
    assert told["rows_dropped"] == sum(text in learned_texts(home) for text in messages(200).texts)
    assert told["evaluation"]["rows"] == 200 + len(NEW) - told["rows_dropped"]
    assert told["rows_known_unseen"] is True
    assert "among the rows it has learned, from messages.csv" in ran.stderr


def test_evaluate_training_file_not_found_says_cannot_know(home: Path, elsewhere: Path):
    ran = tamis("evaluate", home / "older", elsewhere)
    assert f"all rows ({LEARNED_UNKNOWN})" in ran.stdout
    assert "name the file with --training-data" in ran.stderr
    told = json.loads(tamis("evaluate", home / "older", elsewhere, "--json").stdout)
    assert (told["rows_dropped"], told["rows_known_unseen"]) == (0, False)


def test_evaluate_named_training_file_leaves_its_rows_out(home: Path, elsewhere: Path):
    ran = tamis("evaluate", home / "older", elsewhere, "--json", "--training-data", home / "messages.csv")
    assert json.loads(ran.stdout)["rows_dropped"] > 100


def test_evaluate_report_of_unknown_rows_says_so(home: Path, elsewhere: Path, tmp_path: Path):
    tamis("evaluate", home / "older", elsewhere, "--report", tmp_path / "report.html")
    assert LEARNED_UNKNOWN in (tmp_path / "report.html").read_text()


def test_evaluate_training_file_itself_uses_its_test_part(home: Path):
    told = json.loads(tamis("evaluate", home / "older", home / "messages.csv", "--json").stdout)
    assert (told["part"], told["rows_known_unseen"]) == ("the test part", True)


def test_evaluate_rows_all_learned_is_refused(home: Path, tmp_path: Path):
    train_part = prepare_file(home / "messages.csv", PrepareSettings()).train
    learned = write_csv(train_part, tmp_path / "learned.csv")
    ran = tamis("evaluate", home / "older", learned, "--training-data", home / "messages.csv")
    assert "every row was learned" in str(ran.exception)


def test_compare_unknown_rows_stands_beside_the_p_value(home: Path, elsewhere: Path):
    page = tamis("compare", home / "older", home / "older", elsewhere).stdout
    (line,) = [line for line in page.splitlines() if "p = " in line]
    assert line.endswith(LEARNED_UNKNOWN)


def test_compare_one_model_trained_elsewhere_says_cannot_know(home: Path, tmp_path: Path):
    other = write_csv(messages(150, seed=3), tmp_path / "other.csv")
    train(other, tmp_path / "second", settings=_QUICK)
    without_digests(tmp_path / "second")
    ran = tamis("compare", home / "older", tmp_path / "second", home / "messages.csv", "--json")
    assert json.loads(ran.stdout)["rows_known_unseen"] is False
    ran = tamis(
        *("compare", home / "older", tmp_path / "second", home / "messages.csv", "--json"),
        *("--training-data", other),
    )
    assert json.loads(ran.stdout)["rows_known_unseen"] is True


def test_prepared_folder_of_another_split_says_cannot_know(home: Path, tmp_path: Path):
    tamis("prepare", home / "messages.csv", "-o", tmp_path / "same")
    tamis("prepare", home / "messages.csv", "-o", tmp_path / "other", "--seed", 7)
    same, other = (
        json.loads(tamis("evaluate", home / "older", tmp_path / name, "--json").stdout)
        for name in ("same", "other")
    )
    assert same["rows_known_unseen"] is True
    assert other["rows_known_unseen"] is False


def test_evaluate_digests_leave_learned_rows_out_without_file(home: Path, elsewhere: Path):
    ran = tamis("evaluate", home / "spam", elsewhere, "--json")
    told = json.loads(ran.stdout)
    assert told["rows_dropped"] == sum(text in learned_texts(home) for text in messages(200).texts)
    assert told["evaluation"]["rows"] == 200 + len(NEW) - told["rows_dropped"]
    assert told["rows_known_unseen"] is True
    assert "spam@1 has learned their texts" in ran.stderr


def test_evaluate_counts_near_duplicates_of_learned_rows(home: Path, tmp_path: Path):
    rows = messages(200)
    shouted = replace(rows, texts=[f"{text.upper()}!!" for text in rows.texts])
    ran = tamis("evaluate", home / "spam", write_csv(shouted, tmp_path / "shouted.csv"))
    assert "0 rows were left out" in ran.stderr
    assert "200 more differ from a learned text in case, numbers or punctuation only" in ran.stderr


def test_evaluate_too_few_unseen_rows_is_refused(home: Path, tmp_path: Path):
    rows = (home / "messages.csv").read_text() + "ham,one new row,sms\nspam,and a second,sms\n"
    (tmp_path / "data.csv").write_text(rows)
    ran = tamis("evaluate", home / "spam", tmp_path / "data.csv")
    assert "only 2 rows have not been learned by a model, at least 10 are needed" in str(ran.exception)


def test_compare_leaves_out_what_either_model_has_learned(home: Path, tmp_path: Path):
    other = write_csv(messages(150, seed=3), tmp_path / "other.csv")
    train(other, tmp_path / "second", settings=_QUICK)
    both = tmp_path / "both" / "both.csv"
    both.parent.mkdir()
    both.write_text((home / "more.csv").read_text() + other.read_text().partition("\n")[2])
    ran = tamis("compare", home / "spam", tmp_path / "second", both, "--json")
    told = json.loads(ran.stdout)
    assert (told["rows_known_unseen"], told["comparison"]["rows"]) == (True, len(NEW))


def test_learned_texts_file_is_bound_to_the_data(home: Path):
    first, second = (LearnedTexts.of(["a text", "another text"], key=key) for key in ("a" * 64, "b" * 64))
    assert first.contains(["another text", "a third"]).tolist() == [True, False]
    assert not np.isin(first.texts, second.texts).any()
    assert LearnedTexts.from_bytes(first.to_bytes(), key=first.key).contains(["a text"]).all()
    for broken in (b"", b"\xff" * 99, safetensors.numpy.save({"texts": np.zeros(3)})):
        with pytest.raises(ArtifactError, match=LEARNED_FILE):
            LearnedTexts.from_bytes(broken, key="a")


@pytest.fixture
def three_labels(home: Path, tmp_path: Path) -> Path:
    """A model of other labels, two of them those of `spam`."""
    train(write_csv(messages(150, labels=LABELS, seed=3), tmp_path / "three.csv"), tmp_path / "three")
    return tmp_path / "three"


def test_compare_other_labels_uses_the_common_ones(home: Path, three_labels: Path, tmp_path: Path):
    data = write_csv(messages(120, labels=LABELS, seed=11), tmp_path / "new.csv")
    told = json.loads(tamis("compare", home / "spam", three_labels, data, "--json").stdout)
    assert told["labels"] == {"common": ["ham", "spam"], "only_first": [], "only_second": ["question"]}
    learned = {*messages(200).texts, *messages(150, labels=LABELS, seed=3).texts}
    rows = messages(120, labels=LABELS, seed=11)
    unseen = [label for text, label in zip(rows.texts, rows.labels, strict=True) if text not in learned]
    assert told["comparison"]["rows"] == len(unseen) - unseen.count("question")
    page = tamis("compare", home / "spam", three_labels, data)
    assert "compared on their 2 common labels" in page.stderr and "question" in page.stderr


def test_compare_without_two_common_labels_is_refused(home: Path, tmp_path: Path):
    data = write_csv(messages(90, labels=("ham", "question"), seed=3), tmp_path / "other.csv")
    train(data, tmp_path / "other", settings=_QUICK)
    ran = tamis("compare", home / "spam", tmp_path / "other", home / "more.csv")
    assert "share fewer than two labels" in str(ran.exception)

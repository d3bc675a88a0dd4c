"""`tamis evaluate` and `compare` on data that a model may have learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tamis import train
from tamis.cli import cli
from tamis.training.compare import LEARNED_UNKNOWN
from tamis.training.fit import TrainSettings
from tamis.training.prepare import PrepareSettings, prepare_file
from tests.support.samples import messages, write_csv

_QUICK = TrainSettings(folds=2, overrides={"bits": "14"})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training file with the model `spam`, and a copy of the file with one more row."""
    folder = tmp_path_factory.mktemp("home")
    data = write_csv(messages(200), folder / "messages.csv")
    train(data, folder / "spam", settings=_QUICK)
    (folder / "more.csv").write_text(data.read_text() + "ham,nobody has ever seen this row before,sms\n")
    return folder


@pytest.fixture
def elsewhere(home: Path, tmp_path: Path) -> Path:
    """The changed copy in a folder of its own, without the training file."""
    return Path(shutil.copy(home / "more.csv", tmp_path / "more.csv"))


def tamis(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def learned_texts(home: Path) -> set[str]:
    return {*prepare_file(home / "messages.csv", PrepareSettings()).joined.texts}


def test_evaluate_changed_copy_leaves_learned_rows_out(home: Path):
    ran = tamis("evaluate", home / "spam", home / "more.csv", "--json")
    told = json.loads(ran.stdout)
    assert told["rows_dropped"] == sum(text in learned_texts(home) for text in messages(200).texts)
    assert told["evaluation"]["rows"] == 201 - told["rows_dropped"]
    assert told["rows_known_unseen"] is True
    assert "among the rows it has learned, from messages.csv" in ran.stderr


def test_evaluate_training_file_not_found_says_cannot_know(home: Path, elsewhere: Path):
    ran = tamis("evaluate", home / "spam", elsewhere)
    assert f"all rows ({LEARNED_UNKNOWN})" in ran.stdout
    assert "name the file with --training-data" in ran.stderr
    told = json.loads(tamis("evaluate", home / "spam", elsewhere, "--json").stdout)
    assert (told["rows_dropped"], told["rows_known_unseen"]) == (0, False)


def test_evaluate_named_training_file_leaves_its_rows_out(home: Path, elsewhere: Path):
    ran = tamis("evaluate", home / "spam", elsewhere, "--json", "--training-data", home / "messages.csv")
    assert json.loads(ran.stdout)["rows_dropped"] > 100


def test_evaluate_report_of_unknown_rows_says_so(home: Path, elsewhere: Path, tmp_path: Path):
    tamis("evaluate", home / "spam", elsewhere, "--report", tmp_path / "report.html")
    assert LEARNED_UNKNOWN in (tmp_path / "report.html").read_text()


def test_evaluate_training_file_itself_uses_its_test_part(home: Path):
    told = json.loads(tamis("evaluate", home / "spam", home / "messages.csv", "--json").stdout)
    assert (told["part"], told["rows_known_unseen"]) == ("the test part", True)


def test_evaluate_rows_all_learned_is_refused(home: Path, tmp_path: Path):
    train_part = prepare_file(home / "messages.csv", PrepareSettings()).train
    learned = write_csv(train_part, tmp_path / "learned.csv")
    ran = tamis("evaluate", home / "spam", learned, "--training-data", home / "messages.csv")
    assert "every row was learned" in str(ran.exception)


def test_compare_unknown_rows_stands_beside_the_p_value(home: Path, elsewhere: Path):
    page = tamis("compare", home / "spam", home / "spam", elsewhere).stdout
    (line,) = [line for line in page.splitlines() if "p = " in line]
    assert line.endswith(LEARNED_UNKNOWN)


def test_compare_one_model_trained_elsewhere_says_cannot_know(home: Path, tmp_path: Path):
    other = write_csv(messages(150, seed=3), tmp_path / "other.csv")
    train(other, tmp_path / "second", settings=_QUICK)
    ran = tamis("compare", home / "spam", tmp_path / "second", home / "messages.csv", "--json")
    assert json.loads(ran.stdout)["rows_known_unseen"] is False
    ran = tamis(
        *("compare", home / "spam", tmp_path / "second", home / "messages.csv", "--json"),
        *("--training-data", other),
    )
    assert json.loads(ran.stdout)["rows_known_unseen"] is True


def test_prepared_folder_of_another_split_says_cannot_know(home: Path, tmp_path: Path):
    tamis("prepare", home / "messages.csv", "-o", tmp_path / "same")
    tamis("prepare", home / "messages.csv", "-o", tmp_path / "other", "--seed", 7)
    same, other = (
        json.loads(tamis("evaluate", home / "spam", tmp_path / name, "--json").stdout)
        for name in ("same", "other")
    )
    assert same["rows_known_unseen"] is True
    assert other["rows_known_unseen"] is False

"""`tamis feedback`: into the store, out of it, and what it says about accuracy."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest

from tamis.clock import SystemClock
from tamis.storage import TimeIds, make_store
from tamis.storage.ids import uuid_text
from tests.cli.test_log import result, tamis
from tests.support.store_samples import call

URL = "sqlite:///calls.db"
MODEL_OF_CALL = {"model_name": "sms", "model_version": "2"}


@pytest.fixture
def prediction_id(tmp_path: Path) -> str:
    """Log one call in the store and return its id."""

    async def append() -> str:
        store = make_store(f"sqlite:///{tmp_path / 'calls.db'}", SystemClock())
        await store.open()
        one = call(
            TimeIds(SystemClock()), "WIN a phone", decision="spam", model_name="sms", model_version="2"
        )
        await store.log.append([one])
        await store.close()
        return uuid_text(one.id)

    return asyncio.run(append())


def test_feedback_file_is_imported_once_and_exported_joined(tmp_path: Path, prediction_id: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        "prediction_id,text,label,comment\n"
        f"{prediction_id},,spam,really\n"
        ',"lunch, at ""noon""?",ham,\n'
        "48437290-e5fc-11f1-8001-030304050607,,ham,\n",
        "utf-8",
    )
    for _ in range(2):
        done = tamis(tmp_path, "feedback", "import", "labels.csv", "--store", URL)
        assert (done.returncode, done.stdout) == (0, "2 rows of feedback stored\n")
        assert done.stderr == "1 rows skipped, prediction not found: 3\n"
    exported = result(tamis(tmp_path, "feedback", "export", "--store", URL))
    first, second = csv.DictReader(io.StringIO(exported))
    assert (first["label"], first["text"], first["predicted"], first["score"]) == (
        "spam",
        "WIN a phone",
        "ham",
        "0.97",
    )
    assert (first["decision"], first["model_name"], first["model_version"]) == ("spam", "sms", "2")
    assert (first["prediction_id"], first["caller"], first["comment"]) == (prediction_id, "import", "really")
    assert (second["label"], second["text"], second["predicted"]) == ("ham", 'lunch, at "noon"?', "")
    as_json = result(tamis(tmp_path, "feedback", "export", "--json", "--label", "spam", "--store", URL))
    assert json.loads(as_json)["text"] == "WIN a phone"


def test_feedback_list_shows_lines_and_accuracy(tmp_path: Path, prediction_id: str) -> None:
    (tmp_path / "labels.csv").write_text(f"prediction_id,label\n{prediction_id},ham\n", "utf-8")
    tamis(tmp_path, "feedback", "import", "labels.csv", "--store", URL, "--caller", "ann")
    [line] = result(tamis(tmp_path, "feedback", "list", "--store", URL)).splitlines()
    assert len(line) <= 80
    assert "ann" in line and "ham → ham" in line and "WIN a phone" in line
    summary = tamis(tmp_path, "feedback", "list", "--summary", "--store", URL)
    assert summary.stdout == "sms 2: 1 of 1 correct, 100.0% (95 % interval 20.7% to 100.0%)\n"
    assert "not the accuracy on all texts" in summary.stderr
    assert result(tamis(tmp_path, "feedback", "list", "--caller", "bob", "--store", URL)) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,spam\nx,y\n", "expected a column `label` and a column `prediction_id` or `text`"),
        ("text,label\nx,\n", "row 1: the label or what it is about is empty"),
        ('text,label\n"x,ham\n', "invalid CSV in UTF-8"),
    ],
)
def test_invalid_feedback_file_is_one_line(
    tmp_path: Path, prediction_id: str, content: str, message: str
) -> None:
    (tmp_path / "labels.csv").write_text(content, "utf-8")
    done = tamis(tmp_path, "feedback", "import", "labels.csv", "--store", URL)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("tamis: labels.csv") and message in line
    assert result(tamis(tmp_path, "feedback", "list", "--store", URL)) == ""


def test_formulas_are_guarded_in_a_safe_export_only(tmp_path: Path, prediction_id: str) -> None:
    (tmp_path / "labels.csv").write_text("text,label\n=1+1,spam\n", "utf-8")
    tamis(tmp_path, "feedback", "import", "labels.csv", "--store", URL)
    assert "\nspam,=1+1," in result(tamis(tmp_path, "feedback", "export", "--store", URL))
    assert "\nspam,'=1+1," in result(tamis(tmp_path, "feedback", "export", "--safe", "--store", URL))

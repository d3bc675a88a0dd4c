"""Three labels, the whole way: train, report, evaluate, explain, compare, cross-validate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tamis.cli import cli
from tests.support.samples import messages, write_csv

LABELS = ("ham", "question", "spam")


def tamis(*arguments: object) -> str:
    ran = CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    write_csv(messages(360, labels=("ham", "spam", "question")), folder / "messages.csv")
    tamis("train", folder / "messages.csv", "-o", folder / "models", "--set", "bits=16")
    return folder


def test_the_report_and_the_card_speak_of_all_three(folder: Path):
    report = (folder / "models/1/report.html").read_text()
    for label in LABELS:
        assert f"Evidence for {label}" in report
        assert f"as {label}" in report
    assert "ham, question, spam" in (folder / "models/1/MODEL_CARD.md").read_text()
    assert report.count("operating point") == 0


def test_figures_are_those_of_three_classes(folder: Path):
    told = json.loads(tamis("evaluate", folder / "models", folder / "messages.csv", "--json"))
    assert told["evaluation"]["labels"] == [*LABELS]
    assert told["evaluation"]["accuracy"]["value"] > 0.9
    assert told["evaluation"]["operating_point"] is None
    assert told["robustness"][0]["texts"] == told["evaluation"]["rows"]


def test_each_label_can_be_explained_exactly(folder: Path):
    for label in LABELS:
        said = tamis("explain", folder / "models", "how do I return the map?", "--label", label, "--json")
        told = json.loads(said)
        shares = [contribution for *_, contribution in told["tokens"]]
        assert told["base"] + told["whole"] + sum(shares) == pytest.approx(told["logit"], abs=1e-9)
    assert "question" in tamis("predict", folder / "models", "how do I return the map?")


def test_versions_are_compared(folder: Path):
    tamis("train", folder / "messages.csv", "-o", folder / "models", "--set", "bits=16", "--set", "c=0.5")
    model = folder / "models"
    assert "McNemar" in tamis("compare", f"{model}@1", f"{model}@2", folder / "messages.csv")


def test_settings_are_cross_validated_without_an_operating_point(folder: Path):
    page = tamis(
        "cross-validate", folder / "messages.csv", "--folds", 2, "--repeats", 1, "--set", "bits=16", "--json"
    )
    assert [figures["recall"] for figures in json.loads(page)] == [None, None]

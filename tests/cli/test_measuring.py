"""`tamis cross-validate`, `compare`, and what `evaluate` says about disguises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tamis import train
from tamis.cli import cli
from tamis.training.fit import TrainSettings
from tamis.training.prepare import PrepareSettings
from tests.support.artifacts import save_model
from tests.support.samples import messages, write_csv


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(messages(200), tmp_path_factory.mktemp("data") / "messages.csv")


@pytest.fixture(scope="module")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions, trained on two divisions of the same file."""
    folder = tmp_path_factory.mktemp("models") / "spam"
    for seed in (1, 2):
        quick = TrainSettings(folds=2, overrides={"bits": "14"})
        train(data, folder, settings=quick, prepare=PrepareSettings(seed=seed))
    return folder


def tamis(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def test_both_protocols_stand_side_by_side(data: Path):
    ran = tamis("cross-validate", data, "--folds", 2, "--repeats", 1, "--set", "bits=14")
    assert ran.exit_code == 0
    assert "grouped" in ran.stdout
    assert "random" in ran.stdout
    assert "2 × 1" in ran.stdout


def test_cross_validated_figures_are_json_when_asked(data: Path):
    ran = tamis("cross-validate", data, "--folds", 2, "--repeats", 1, "--set", "bits=14", "--json")
    assert [figures["protocol"] for figures in json.loads(ran.stdout)] == ["grouped", "random"]


def test_rows_either_model_has_learned_left_out_of_comparison(models: Path, data: Path):
    told = json.loads(tamis("compare", f"{models}@1", f"{models}@2", data, "--json").stdout)
    alone = json.loads(tamis("evaluate", f"{models}@1", data, "--json").stdout)
    assert told["part"] == "the test part"
    assert 0 < told["comparison"]["rows"] < alone["evaluation"]["rows"]


def test_a_comparison_ends_with_its_verdict(models: Path, data: Path):
    page = tamis("compare", f"{models}@1", f"{models}@1", data).stdout
    assert "p = 1, not statistically significant" in page


def test_models_of_other_labels_are_compared_on_the_common_ones(models: Path, data: Path, tmp_path: Path):
    save_model(tmp_path / "three", labels=("ham", "spam", "question"))
    ran = tamis("compare", models, tmp_path / "three", data)
    assert "compared on their 2 common labels" in ran.stderr
    assert "of common labels" in ran.stdout


def test_an_evaluation_says_what_disguises_cost(models: Path, data: Path):
    assert "homoglyphs" in tamis("evaluate", models, data).stdout
    told = json.loads(tamis("evaluate", models, data, "--json").stdout)
    assert told["robustness"][0].keys() == {"name", "texts", "plain", "disguised"}


def test_measuring_loads_no_training_library(models: Path, data: Path, tmp_path: Path):
    other = write_csv(messages(60, seed=9), tmp_path / "other.csv")
    commands = [
        ["evaluate", str(models), str(data)],
        ["evaluate", str(models), str(other), "--report", str(tmp_path / "report.html")],
        ["compare", f"{models}@1", f"{models}@2", str(data)],
        ["explain", str(models), "WIN a camera now!"],
    ]
    program = f"""
import sys
from tamis.cli import cli
for command in {commands!r}:
    cli.main(command, standalone_mode=False)
print(sorted({{"sklearn", "scipy", "keras", "jax"}} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"

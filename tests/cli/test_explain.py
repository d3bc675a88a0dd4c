"""`tamis explain`: a page for people, numbers for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tamis.cli.predict import explain, show_explanation
from tests.support.artifacts import save_model
from tests.support.fakes import keyword_classifier


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "spam").parent


def test_json_adds_up(model: Path):
    told = json.loads(CliRunner().invoke(explain, [str(model), "WIN a camera now!", "--json"]).stdout)
    tokens = [contribution for *_, contribution in told["tokens"]]
    assert told["base"] + told["whole"] + sum(tokens) == pytest.approx(told["logit"], abs=1e-9)
    assert (told["label"], told["method"]) == ("spam", "exact")


def test_the_page_shows_every_token_with_its_contribution(model: Path):
    page = CliRunner().invoke(explain, [str(model), "WIN a camera now!", "--label", "ham"]).stdout
    assert page.startswith("ham ")
    lines = {line.split()[0]: line for line in page.splitlines() if line.strip()}
    assert "-" in lines["WIN"]
    assert "█" in lines["WIN"]
    assert "sum: the logit" in page


def test_the_page_names_what_occlusion_leaves_out(capsys: pytest.CaptureFixture[str]):
    show_explanation(keyword_classifier().explain("claim the free thing"))
    assert "tokens acting together" in capsys.readouterr().out


def test_weaker_tokens_summed_up_nothing_terminal_obeys_printed(
    model: Path, capsys: pytest.CaptureFixture[str]
):
    from tamis import Classifier

    text = " ".join(f"word{i}" for i in range(40)) + " \x1b[31mred"
    show_explanation(Classifier.load(model).explain(text))
    page = capsys.readouterr().out
    assert "(21 weaker tokens)" in page
    assert "\x1b[31mred" not in page

"""Models that were saved before features fell into blocks answer as they did, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tamis import Classifier
from tamis.artifact import open_artifact
from tamis.models.linear.features import FeatureSettings
from tamis.models.linear.weights import LinearWeights
from tamis.models.scorer import softmax

FOLDER = Path(__file__).parent / "format_1"
CONTENT = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["two", "three"])
def test_a_model_of_format_1_answers_digit_for_digit(name: str):
    found = Classifier.load(FOLDER / name / "1").predict_many(CONTENT["texts"])
    assert [dict(prediction.scores) for prediction in found] == CONTENT["answers"][name]


@pytest.mark.parametrize("name", ["two", "three"])
def test_a_model_of_format_1_answers_in_numpy_too(name: str):
    artifact = open_artifact(FOLDER / name / "1")
    settings = FeatureSettings(**artifact.manifest.model["features"])
    assert settings.format == 1
    data = artifact.read("weights.safetensors")
    weights = LinearWeights.from_bytes(data, settings, n_classes=len(artifact.manifest.labels))
    margins = weights.margins([" ".join(text.split()) for text in CONTENT["texts"]])
    found = softmax(weights.logits_of_margins(margins))
    expected = [[*answer.values()] for answer in CONTENT["answers"][name]]
    assert np.abs(found - np.array(expected)).max() <= 1e-15


def test_a_model_of_format_1_is_explained_completely():
    explanation = Classifier.load(FOLDER / "three" / "1").explain("WIN a camera now", label="spam")
    parts = explanation.base + explanation.whole + sum(token.contribution for token in explanation.tokens)
    assert parts == pytest.approx(explanation.logit, abs=1e-9)

"""Small networks that learn in seconds."""

from __future__ import annotations

import pytest

from tamis.models.lstm.classifier import LstmClassifier
from tests.support.networks import small_lstm


@pytest.fixture(scope="session")
def model() -> LstmClassifier:
    return small_lstm()

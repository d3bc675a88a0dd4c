"""Small networks that learn in seconds."""

from __future__ import annotations

import pytest

from tamis.training.trainers.lstm.trainer import LstmTrainer
from tests.support.networks import small_lstm


@pytest.fixture(scope="session")
def model() -> LstmTrainer:
    return small_lstm()

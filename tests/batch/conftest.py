from __future__ import annotations

from pathlib import Path

import pytest

from tamis.training.train import train
from tests.support.samples import messages, write_csv


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels, a linear model."""
    folder = tmp_path_factory.mktemp("models")
    return _trained(folder, labels=("ham", "spam"), seed=7)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels."""
    folder = tmp_path_factory.mktemp("models")
    return _trained(folder, labels=("ham", "spam", "question"), seed=8)


def _trained(folder: Path, *, labels: tuple[str, ...], seed: int) -> Path:
    train(write_csv(messages(240, labels=labels, seed=seed), folder / "mail.csv"), folder / "m")
    return folder / "m"

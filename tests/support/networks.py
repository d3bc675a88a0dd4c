"""Small networks that learn in seconds, and folders with what they export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tamis.artifact import reserve_version
from tamis.training.trainers.base import Calibration
from tamis.training.trainers.lstm.trainer import LstmTrainer
from tests.support.artifacts import manifest_of
from tests.support.samples import messages

SMALL: dict[str, Any] = {
    "words": 60,
    "max_tokens": 24,
    "embedding": 6,
    "units": 5,
    "buckets": "8",
    "epochs": 2,
    "validation": 0.0,
    "learning_rate": 0.02,
}


def small_lstm(*, labels: tuple[str, ...] = ("ham", "spam"), **changes: Any) -> LstmTrainer:
    """Return a small network that has learned a few messages."""
    data = messages(240, labels=labels)
    return LstmTrainer(**{**SMALL, **changes}).fit(data.texts, data.labels)


def save_network(model: LstmTrainer, folder: Path, calibration: Calibration | None = None) -> Path:
    """Save a trained network as the next version of `folder`."""
    calibration = calibration or Calibration(1.0, (0.0,) * len(model.classes_))
    with reserve_version(folder) as reservation:
        described = model.export(reservation.folder, calibration)
        return reservation.commit(manifest_of(model.classes_, dict(described), kind=model.kind))

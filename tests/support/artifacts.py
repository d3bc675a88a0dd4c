"""Saves a small linear model without the training pipeline."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tamis.artifact import DataFacts, Manifest, OperatingPoint, reserve_version
from tamis.training.trainers.base import Calibration
from tamis.training.trainers.linear.trainer import LinearTrainer
from tests.support.samples import messages

BITS = 12


def save_model(folder: Path, *, labels: tuple[str, ...] = ("ham", "spam"), **changes: object) -> Path:
    """Train on a few messages and save the next version in `folder`; `changes` go to the manifest."""
    data = messages(120, labels=labels)
    model = LinearTrainer(bits=BITS).fit(data.texts, data.labels)
    with reserve_version(folder) as reservation:
        described = model.export(reservation.folder, Calibration(2.0, (0.0,) * len(labels)))
        manifest = manifest_of(model.classes_, dict(described))
        return reservation.commit(msgspec.structs.replace(manifest, **changes))


def manifest_of(labels: tuple[str, ...], model: dict[str, object], *, kind: str = "linear") -> Manifest:
    """Return a manifest that is complete but for its files."""
    point = OperatingPoint("spam", 0.9, 0.005, 0.95, 0.004, "out-of-fold answers")
    return Manifest(
        kind=kind,
        labels=labels,
        model=model,
        training={},
        calibration={},
        operating_point=point if len(labels) == 2 else None,
        data=DataFacts("0" * 64, "grouped", 0.33, 42, {"label": "label"}, 80, 40, {"ham": 40, "spam": 40}),
        metrics={"accuracy": {"value": 0.99}},
        libraries={"numpy": "2"},
    )

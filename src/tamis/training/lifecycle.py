"""Files that retraining, drift and live switches need: learned texts, training profile, self-test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tamis.artifact import Manifest
from tamis.artifact.profile import LEARNED_FILE, PROFILE_FILE, LearnedTexts, TrainingProfile, training_profile
from tamis.models import load_scorer
from tamis.models.scorer import ModelFiles
from tamis.models.self_test import PROBES_FILE, record_probes
from tamis.training.report.diagnostics import TrainingRun


def write_records(
    run: TrainingRun, manifest: Manifest, probabilities: npt.NDArray[np.float64], folder: Path
) -> None:
    """Write digests of the learned texts, the training profile and the probes into the exported `folder`.

    probabilities: [test rows, labels] of the measured model
    """
    learned = LearnedTexts.of([*run.learned_texts], key=manifest.data.sha256)
    (folder / LEARNED_FILE).write_bytes(learned.to_bytes())
    (folder / PROFILE_FILE).write_bytes(_profile(run, manifest, probabilities).to_bytes())
    files = ModelFiles(manifest.model, len(manifest.labels), lambda name: (folder / name).read_bytes())
    probes = record_probes(load_scorer(manifest.kind, files))
    (folder / PROBES_FILE).write_bytes(msgspec.json.encode(probes))


def _profile(run: TrainingRun, manifest: Manifest, probabilities: npt.NDArray[np.float64]) -> TrainingProfile:
    texts, train, test = [*run.test.texts], run.prepared.train, run.prepared.test
    learned = Counter(train.labels)
    if run.saved is not run.measured:
        learned.update(test.labels)
    return training_profile(
        manifest.labels,
        texts,
        probabilities,
        learned=dict(sorted(learned.items())),
        unknown=run.measured.model.unknown_shares(texts),
    )

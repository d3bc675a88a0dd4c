"""Writes the files of a version that scoring does not read: learned texts, training profile, self-test.

`tamis evaluate` leaves out learned texts, drift is measured against the profile, loading runs the self-test.
"""

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
    # the scorer as a server will load it, from the exported files and not from the trained model in memory
    files = ModelFiles(manifest.model, len(manifest.labels), lambda name: (folder / name).read_bytes())
    probes = record_probes(load_scorer(manifest.kind, files))
    (folder / PROBES_FILE).write_bytes(msgspec.json.encode(probes))


def _profile(run: TrainingRun, manifest: Manifest, probabilities: npt.NDArray[np.float64]) -> TrainingProfile:
    texts, learned = [*run.test.texts], Counter(run.prepared.train.labels)
    if run.saved is not run.measured:
        learned.update(run.prepared.test.labels)
    # of the measured model on the test part: the saved one has learned these texts, and is surer of them
    return training_profile(
        manifest.labels,
        texts,
        probabilities,
        learned=dict(sorted(learned.items())),
        unknown=run.measured.model.unknown_shares(texts),
    )

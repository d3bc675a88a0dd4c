"""What training adds to the report: top features, learning curve, the other split, the audit.

Models are trained again for it only if that costs little or the full report was asked for. Handles data and
models; independent of pages.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from tamis.data.audit import AuditReport, audit
from tamis.data.findings import Finding, findings
from tamis.data.near_duplicates import Indices
from tamis.data.reader import Paths
from tamis.data.split import grouped_parts, random_split
from tamis.errors import DataError, TrainingError
from tamis.normalization import canonical
from tamis.training.evaluation import Evaluation
from tamis.training.evaluator import evaluate
from tamis.training.fit import FittedModel, TrainSettings, untrained
from tamis.training.learning_curve import CurvePoint, HeldOutPart, learning_curve
from tamis.training.out_of_fold import LearningPart
from tamis.training.prepare import Prepared, read_for
from tamis.training.prepared_folder import AUDIT, prepared_folder_in
from tamis.training.report.evidence import find_evidence
from tamis.training.report.report_data import Diagnostics
from tamis.training.trainers.base import EncodedTexts
from tamis.types import Dataset

_MAX_FEATURES = 50
_CHEAP_CELLS = 2_000_000  # characters times labels up to which a curve of four more models costs little


@dataclass(frozen=True)
class TrainingRun:
    """The parts of a training, encoded, and the models that it fitted.

    measured:      fitted on the training part
    saved:         the measured one, or one fitted on all rows
    learned_texts: the texts that `saved` was fitted on
    """

    prepared: Prepared
    settings: TrainSettings
    train: LearningPart
    test: HeldOutPart
    measured: FittedModel
    saved: FittedModel
    learned_texts: EncodedTexts


def diagnose(run: TrainingRun, data: Paths, *, full: bool) -> Diagnostics:
    """Name the top features, draw the learning curve, try the other split, and audit the data."""
    is_quick = not run.measured.model.is_slow
    is_cheap = sum(map(len, run.prepared.train.texts)) * len(run.train.classes) <= _CHEAP_CELLS
    curve: tuple[CurvePoint, ...] = ()
    if is_quick and (full or is_cheap):
        curve = learning_curve(run.train, run.test, run.settings, whole=run.measured.model)
    # of the saved model, which will be served, and named from the texts that it has learned
    top = run.saved.model.top_features(run.learned_texts, max_features=_MAX_FEATURES)
    evidence, others = find_evidence(top, run.learned_texts, Counter(run.prepared.train.labels))
    return Diagnostics(
        evidence=evidence,
        other_evidence=others,
        curve=curve,
        other_split=_other_split(run) if is_quick and full else None,
        findings=_findings(data, run.prepared),
    )


def _other_split(run: TrainingRun) -> Evaluation | None:
    """Train the same settings on the other split of the same rows; None if that cannot be done.

    Calibration and operating point stay: they depend on the settings more than on the split.
    """
    try:
        train, test = _divided_otherwise(run.prepared)
        model = untrained(run.settings)
        model.fit([canonical(text) for text in train.texts], list(train.labels))
    except (DataError, TrainingError):  # too few groups to divide, or too little left to learn from
        return None
    if model.classes_ != run.measured.model.classes_:  # the calibration has a bias for each class
        return None
    other = replace(run.measured, model=model)
    point = run.measured.operating_point
    return evaluate(other.probabilities(test.texts), test, model.classes_, operating_point=point)


def _divided_otherwise(prepared: Prepared) -> tuple[Dataset, Dataset]:
    """Return both parts of all rows: at random if groups were kept whole, and the other way round."""
    data, split = prepared.joined, prepared.settings
    if split.split == "grouped":
        train, test = random_split(len(data), test_size=split.test_size, seed=split.seed)
        return data.select(train.tolist()), data.select(test.tolist())
    shares = [1 - split.test_size, split.test_size]
    part_of = grouped_parts(data.groups or (), data.labels, shares, split.seed)
    train_rows, test_rows = (np.flatnonzero(part_of == part).tolist() for part in (0, 1))
    return data.select(train_rows), data.select(test_rows)


def _findings(data: Paths, prepared: Prepared) -> list[Finding]:
    """Audit what was read, or read the audit that `tamis prepare` left in its folder."""
    folder = prepared_folder_in(data)
    if folder is None:
        reading = prepared.reading or read_for(data, prepared.settings)
        # the audit is of the repaired rows, also when the random split took the file as it is
        reading = reading.repaired or reading
        return findings(audit(reading, groups=_near_duplicates(prepared, reading.dataset)))
    file = folder / AUDIT
    if not file.is_file():
        return []
    try:
        return findings(msgspec.json.decode(file.read_bytes(), type=AuditReport))
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise DataError(f"cannot be read ({broken}); run tamis prepare again", file=file) from None


def _near_duplicates(prepared: Prepared, data: Dataset) -> Indices | None:
    """Return the groups that preparing found, None if these are not the texts that it compared."""
    # searching a second time would cost as much as the first: .28 s on the mixed CSV
    known = prepared.joined
    if prepared.settings.reading.columns.group is not None or [*known.texts] != [*data.texts]:
        return None
    return np.array(known.groups, np.intp)

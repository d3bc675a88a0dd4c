"""What training finds out for its report besides the model: how it would have done otherwise.

Slow models are not trained again for it. Knows data and models; does not know pages.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from tamis.data.audit import AuditReport, audit
from tamis.data.findings import Finding, findings
from tamis.data.near_duplicates import Indices
from tamis.data.reader import Paths
from tamis.data.split import grouped_parts, random_split
from tamis.errors import DataError, TrainingError
from tamis.records import Dataset
from tamis.text import canonical
from tamis.training.evaluate import Evaluation, evaluate
from tamis.training.learn import Learned, TrainSettings, untrained
from tamis.training.learning_curve import learning_curve
from tamis.training.prepare import Prepared, read_for
from tamis.training.prepared_folder import AUDIT, prepared_folder_in
from tamis.training.report.facts import Background

_FEATURES = 50


def look_behind(learned: Learned, prepared: Prepared, settings: TrainSettings, data: Paths) -> Background:
    """Name the telling features, draw the learning curve, try the other split, and audit the data."""
    texts = [canonical(text) for text in prepared.train.texts]
    quick = not learned.model.slow
    return Background(
        telling=learned.model.telling_features(texts, most=_FEATURES),
        curve=learning_curve(prepared.train, prepared.test, settings) if quick else (),
        other_split=_other_split(learned, prepared, settings) if quick else None,
        findings=_findings(data, prepared),
    )


def _other_split(learned: Learned, prepared: Prepared, settings: TrainSettings) -> Evaluation | None:
    """Train the same settings on the other split of the same rows; None where that cannot be done.

    Calibration and operating point stay: they hang on the settings more than on the split.
    """
    try:
        train, test = _divided_otherwise(prepared)
        model = untrained(settings).fit([canonical(text) for text in train.texts], list(train.labels))
    except (DataError, TrainingError):
        return None
    if model.classes_ != learned.model.classes_:
        return None
    other = replace(learned, model=model)
    return evaluate(
        other.probabilities(test.texts),
        test.labels,
        model.classes_,
        operating_point=learned.operating_point,
        sources=test.sources,
    )


def _divided_otherwise(prepared: Prepared) -> tuple[Dataset, Dataset]:
    """Return both parts of all rows: at random where groups were kept whole, and the other way round."""
    data, split = _joined(prepared.train, prepared.test), prepared.settings
    if split.split == "grouped":
        train, test = random_split(len(data), test_size=split.test_size, seed=split.seed)
        return data.select(train.tolist()), data.select(test.tolist())
    shares = [1 - split.test_size, split.test_size]
    part_of = grouped_parts(data.groups or (), data.labels, shares, split.seed)
    train_rows, test_rows = (np.flatnonzero(part_of == part).tolist() for part in (0, 1))
    return data.select(train_rows), data.select(test_rows)


def _joined(one: Dataset, other: Dataset) -> Dataset:
    """Return all rows in the order of their file."""

    def column(name: str) -> list[str] | None:
        first, second = getattr(one, name), getattr(other, name)
        return None if first is None or second is None else [*first, *second]

    both = Dataset(
        texts=[*one.texts, *other.texts],
        labels=[*one.labels, *other.labels],
        rows=[*one.rows, *other.rows],
        sources=column("sources"),
        groups=column("groups"),
    )
    return both.select(np.argsort(both.rows, kind="stable").tolist())


def _findings(data: Paths, prepared: Prepared) -> list[Finding]:
    """Audit the files, or read the audit that `tamis prepare` left in its folder."""
    folder = prepared_folder_in(data)
    if folder is None:
        reading = read_for(data, replace(prepared.settings, split="grouped"))
        return findings(audit(reading, groups=_near_duplicates(prepared, reading.dataset)))
    file = folder / AUDIT
    if not file.is_file():
        return []
    try:
        return findings(msgspec.json.decode(file.read_bytes(), type=AuditReport))
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise DataError(f"cannot be read ({broken}); run tamis prepare again", file=file) from None


def _near_duplicates(prepared: Prepared, data: Dataset) -> Indices | None:
    """Return the groups that preparing found, None where it was not these texts that it looked through."""
    known = _joined(prepared.train, prepared.test)
    if prepared.settings.reading.columns.group is not None or [*known.texts] != [*data.texts]:
        return None
    return np.array(known.groups, np.intp)

"""Everything that the report and the model card show, measured once.

Handles predictions and data; independent of pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tamis.artifact import Manifest, OperatingPoint
from tamis.data.findings import Finding
from tamis.training.evaluation import Evaluation
from tamis.training.evaluator import evaluate
from tamis.training.metrics import Floats, Indices, class_indices
from tamis.training.out_of_fold import Misclassification, most_confident_errors
from tamis.training.report.evidence import LabelEvidence
from tamis.training.robustness import Perturbation, has_adversary, robustness
from tamis.types import Dataset

if TYPE_CHECKING:  # measuring needs no training library
    from tamis.training.learning_curve import CurvePoint


@dataclass(frozen=True)
class Measured:
    """One model on one set of rows.

    part:          which rows these are, in words
    probabilities: [rows, classes]
    true:          [rows] index of each row's label among the classes
    lengths:       [rows] characters of each text
    """

    part: str
    evaluation: Evaluation
    probabilities: Floats
    true: Indices
    lengths: Indices
    perturbations: tuple[Perturbation, ...]
    errors: tuple[Misclassification, ...]


@dataclass(frozen=True)
class Diagnostics:
    """Diagnostics that need the training data; a report of `tamis evaluate` has none.

    evidence, other_evidence: the top features of the largest labels; the top words of all others
    other_split: the evaluation on the split that was not chosen
    """

    evidence: Sequence[LabelEvidence] = ()
    other_evidence: Sequence[tuple[str, Sequence[str]]] = ()
    curve: tuple[CurvePoint, ...] = ()
    other_split: Evaluation | None = None
    findings: Sequence[Finding] = ()


@dataclass(frozen=True)
class ReportData:
    """A model, the data it is measured on, and what was found out about both.

    model_name: name and version; empty in training, because the same training must give the same bytes
                under any name (`Artifact.document` adds them)
    """

    manifest: Manifest
    measured: Measured
    data_name: str
    model_name: str = ""
    diagnostics: Diagnostics | None = None


def measure(
    score: Callable[[Sequence[str]], Floats],
    data: Dataset,
    classes: tuple[str, ...],
    *,
    operating_point: OperatingPoint | None,
    part: str,
    probabilities: Floats | None = None,
) -> Measured:
    """Measure the probabilities of `score` on `data`; known `probabilities` are not computed again."""
    # `score` is needed in any case, for the texts of perturbations
    if probabilities is None:
        probabilities = score(data.texts)
    # before the perturbations: labels that the model does not have are reported here
    evaluation = evaluate(probabilities, data, classes, operating_point=operating_point)
    perturbations: tuple[Perturbation, ...] = ()
    if has_adversary(classes):  # it scores the texts five times
        perturbations = robustness(score, data.texts, data.labels, classes, operating_point=operating_point)
    return Measured(
        part=part,
        evaluation=evaluation,
        probabilities=probabilities,
        true=class_indices(data.labels, classes),
        lengths=np.fromiter(map(len, data.texts), np.intp, len(data)),
        perturbations=perturbations,
        errors=most_confident_errors(data, probabilities, classes),
    )


def stored_metrics(manifest: Manifest) -> tuple[Evaluation, tuple[Perturbation, ...]]:
    """Return what training measured, from the manifest."""
    # robustness is beside the fields of Evaluation, which ignores what it does not know
    evaluation = msgspec.convert(manifest.metrics, Evaluation)
    return evaluation, msgspec.convert(manifest.metrics.get("robustness", []), tuple[Perturbation, ...])

"""Texts in, predictions out.

Handles a model's labels and operating point; independent of the texts' origin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tamis.artifact import Artifact, Manifest, open_artifact
from tamis.artifact.manifest import decode_json
from tamis.errors import ArtifactError, InputError
from tamis.models import load_scorer
from tamis.models.scorer import Explanation, MockScorer, Scorer, Scores
from tamis.models.self_test import PROBES_FILE, check_probes, decode_probes
from tamis.normalization import TEXT_FORMS, canonical
from tamis.types import Prediction, Progress, no_progress

_BATCH_TEXTS = 1024
"""Larger lists are scored in parts: the arrays of a batch have some hundred numbers per text."""

_NETWORK_FILE = "network.json"


class Classifier:
    """A model ready to classify.

    >>> classifier = Classifier.load("models/spam")
    >>> classifier.predict("WIN a FREE phone").label
    'spam'

    Safe to call from several threads. A text's answer does not depend on the texts beside it.
    """

    def __init__(  # noqa: PLR0913 - what is known of a model beside its scorer: plain facts, each named
        self,
        scorer: Scorer,
        labels: Sequence[str],
        *,
        name: str,
        version: str,
        identity: str,
        manifest: Manifest | None = None,
        network: Mapping[str, Any] | None = None,
    ):
        self.labels = tuple(labels)
        # for `restored`: a store does not keep the order of labels
        self._label_set = frozenset(labels)
        self.name = name
        self.version = version
        self.identity = identity
        self.manifest = manifest
        self.form = TEXT_FORMS[manifest.text_form] if manifest else canonical
        """Brings a text into the form the model reads it in; texts of one form get one answer."""
        self.network = network
        """A network's configuration, as Keras's `to_json()` gives it; None for other models."""
        self.path: Path | None = None
        """The folder of the version; None for a model that was not loaded from one."""
        self._scorer = scorer
        point = manifest.operating_point if manifest else None
        self._positive = self.labels.index(point.positive) if point else None
        # 1.0 is never compared: without an operating point `_positive` is None
        self._threshold = point.threshold if point else 1.0

    @classmethod
    def load(cls, reference: str | os.PathLike[str]) -> Self:
        """Load `models/spam` (newest version), `models/spam@3` or `models/spam@champion`.

        Raises ArtifactError where the folder is missing, broken or of another format.
        """
        return cls.from_artifact(open_artifact(reference))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Make a classifier of a verified artifact.

        Raises ArtifactError if it cannot be loaded, or if its answers to the probe texts have changed.
        """
        manifest = artifact.manifest
        try:
            scorer = load_scorer(manifest.kind, artifact.model_files)
            if PROBES_FILE in manifest.files:  # artifacts of earlier versions have none
                check_probes(scorer, decode_probes(artifact.read(PROBES_FILE)), len(manifest.labels))
            network = None
            if _NETWORK_FILE in manifest.files:
                network = decode_json(artifact.read(_NETWORK_FILE), dict[str, Any], _NETWORK_FILE)
        except ArtifactError as wrong:
            prefix = "" if str(wrong).startswith(str(artifact.path)) else f"{artifact.path}: "
            raise ArtifactError(f"{prefix}{wrong}") from None
        made = cls(
            scorer,
            manifest.labels,
            name=artifact.name,
            version=artifact.version,
            identity=artifact.identity,
            manifest=manifest,
            network=network,
        )
        made.path = artifact.path
        return made

    @classmethod
    def mock(cls, labels: Sequence[str] = ("ham", "spam")) -> Self:
        """Return a classifier without a model, whose predictions are well-formed and meaningless."""
        return cls(MockScorer(len(labels)), labels, name="mock", version="0", identity="mock")

    def predict(self, text: str) -> Prediction:
        """Classify one text."""
        return self.predict_many([text])[0]

    def predict_many(self, texts: Sequence[str]) -> list[Prediction]:
        """Classify texts; the answers are in the same order."""
        return self.predict_canonical([self.form(text) for text in texts])

    def predict_canonical(self, texts: Sequence[str]) -> list[Prediction]:
        """Classify texts that are in the model's form (see `form`) already."""
        predictions: list[Prediction] = []
        for start in range(0, len(texts), _BATCH_TEXTS):
            rows: list[list[float]] = self._scorer.score(texts[start : start + _BATCH_TEXTS]).tolist()
            # one NaN or infinity makes the sum one: cheaper than asking for each number
            if not isfinite(sum(map(sum, rows))):
                raise ValueError("the model gave scores that are not finite numbers")
            predictions += [self._prediction(row) for row in rows]
        return predictions

    def explain(self, text: str, label: str | None = None) -> Explanation:
        """Return what each token of a text contributes to `label`, by default the most probable one.

        Raises InputError for a label that is none of the model's.
        """
        label = self.predict(text).label if label is None else label
        if label not in self._label_set:
            raise InputError(
                "unknown_label", f"{label!r} is none of the labels {', '.join(self.labels)}", field="label"
            )
        return self._scorer.explain(self.form(text), label, self.labels.index(label))

    def restored(self, scores: Mapping[str, float]) -> Prediction | None:
        """Return the prediction that had these scores; None where they are not of this model's labels."""
        if scores.keys() != self._label_set:
            return None
        return self._prediction([scores[label] for label in self.labels])

    @property
    def is_heavy(self) -> bool:
        """Whether classifying should not be done on the event loop."""
        return self._scorer.is_heavy

    def probabilities(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Scores:
        """Return [texts, classes] probabilities, columns in the order of `labels`."""
        # so that no texts give an array of the right shape
        parts = [np.zeros((0, len(self.labels)))]
        for start in range(0, len(texts), _BATCH_TEXTS):
            batch = [self.form(text) for text in texts[start : start + _BATCH_TEXTS]]
            parts.append(self._scorer.score(batch))
            progress(start + len(batch), len(texts))
        return np.concatenate(parts)

    def score_table(
        self, table: Any, text_column: str = "text", *, scores: bool = False, explain: bool = False
    ) -> Any:
        """Return an Arrow table with the columns label, decision and score of each text appended.

        `table` is anything that `pyarrow.table` takes: an Arrow table, a data frame of pandas or polars.
        With `scores` there is one more column per label, with `explain` the top tokens as JSON. A null
        text gets null predictions. Raises InputError for a table without the column.
        """
        from tamis.inference.tables import score_table

        return score_table(self, table, text_column, scores=scores, explain=explain)

    def decide(self, scores: Scores) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return [texts] indices of the most probable label and of the decision at the operating point."""
        if not np.isfinite(scores).all():
            raise ValueError("the model gave scores that are not finite numbers")
        top = scores.argmax(axis=1) if len(scores) else np.zeros(0, np.intp)
        if self._positive is None:
            return top, top
        is_positive = scores[:, self._positive] >= self._threshold
        return top, np.where(is_positive, self._positive, 1 - self._positive)

    def score_utf8(
        self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> tuple[Scores, npt.NDArray[np.bool_]] | None:
        """Return [texts, classes] probabilities of texts in UTF-8, and which of them it did not score.

        None if the model reads texts in another form or no such arrays; see `Scorer.score_utf8`.
        """
        return self._scorer.score_utf8(data, offsets) if self.form is canonical else None

    def unknown_shares(self, texts: Sequence[str]) -> Scores | None:
        """Return [texts] the share of each text's unknown features; None for a model without features."""
        return self._scorer.unknown_shares([self.form(text) for text in texts])

    def score_canonical(self, texts: Sequence[str]) -> Scores:
        """Return [texts, classes] probabilities of texts that are in the model's form already."""
        return self._scorer.score(texts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a reference: the folder and the model's digest, never its contents."""
        if self.path is None:
            raise TypeError("only a classifier that was loaded from a folder can be pickled")
        return _reopen, (type(self), str(self.path), self.version, self.identity)

    def _prediction(self, row: list[float]) -> Prediction:
        score = max(row)
        top = row.index(score)
        decided = top
        if self._positive is not None:
            decided = self._positive if row[self._positive] >= self._threshold else 1 - self._positive
        labels = self.labels
        # as `Prediction(...)`, without a call in Python
        return tuple.__new__(
            Prediction, (dict(zip(labels, row, strict=True)), labels[top], score, labels[decided])
        )


def _reopen(kind: type[Classifier], path: str, version: str, identity: str) -> Classifier:
    """Load the version that a pickled classifier refers to; raise ArtifactError if it has changed."""
    found = kind.load(path)
    if found.identity != identity:
        raise ArtifactError(f"{path}: version {version} was changed: its digest is not the one referred to")
    return found

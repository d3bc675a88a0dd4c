"""Learns a linear model: TF-IDF over hashed features and a linear support vector machine (liblinear).

Knows scikit-learn, and nobody below `tamis.training` imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.svm import LinearSVC

from tamis.errors import TrainingError
from tamis.models.base import Calibration, Logits, TellingFeature, TrainableClassifier
from tamis.models.linear.compiled import compile_counter
from tamis.models.linear.features import FeatureCounts, FeatureSettings, count_features
from tamis.models.linear.telling import telling_features
from tamis.models.linear.weights import LinearWeights, lengths, raw_values
from tamis.records import Notice, Progress, no_notice, no_progress

_CHUNK_TEXTS = 2048
_MOST_ITERATIONS = 10_000


class LinearClassifier(TrainableClassifier):
    """TF-IDF over hashed words, n-grams and word shapes, and a linear support vector machine on top.

    c:              inverse strength of regularisation
    min_documents:  a feature in fewer training texts than this is dropped
    class_weight:   "balanced" weighs classes by the inverse of their frequency
    """

    kind: ClassVar[str] = "linear"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "scikit-learn")

    weights_: LinearWeights

    def __init__(  # noqa: PLR0913 - hyper-parameters, each by name
        self,
        *,
        ngram_min: int = 2,
        ngram_max: int = 5,
        word_pairs: bool = True,
        shapes: bool = True,
        phrases: bool = False,
        bits: int = 20,
        min_documents: int = 2,
        c: float = 4.0,
        class_weight: Literal["balanced", "none"] = "none",
        seed: int = 42,
    ):
        self.features = FeatureSettings(ngram_min, ngram_max, word_pairs, shapes, bits, phrases)
        self.min_documents = min_documents
        self.c = c
        self.class_weight = class_weight
        self.seed = seed

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        progress: Progress = no_progress,
        notice: Notice = no_notice,
        checkpoints: Path | None = None,
    ) -> Self:
        """Learn; see `TrainableClassifier.fit`. The progress is that of the features, most of the time."""
        self.classes_ = tuple(sorted(set(labels)))
        if len(self.classes_) < 2:
            raise TrainingError(f"training needs at least two classes; there is only {list(self.classes_)}")
        counts = _count_in_chunks(texts, self.features, progress)
        features, idf = self._vocabulary(counts)
        if not features.size:
            raise TrainingError("no word or n-gram is in two texts or more; training needs more data")
        matrix = _matrix(counts, features, idf)
        machine = LinearSVC(
            C=self.c,
            class_weight=None if self.class_weight == "none" else self.class_weight,
            random_state=self.seed,
            max_iter=_MOST_ITERATIONS,
            dual=True,  # the dual solver has no threads and no BLAS in it: the same bits everywhere
        ).fit(matrix, np.asarray(labels))
        self.weights_ = LinearWeights(
            self.features,
            features,
            idf,
            np.ascontiguousarray(machine.coef_.T, np.float32),
            np.asarray(machine.intercept_, np.float64),
        )
        return self

    def logits(self, texts: Sequence[str]) -> Logits:
        """Return [texts, classes] logits."""
        chunks = [self.weights_.logits(chunk) for chunk in _chunks(texts)]
        return np.concatenate(chunks) if chunks else np.zeros((0, len(self.classes_)))

    def export(self, folder: Path, calibration: Calibration) -> Mapping[str, Any]:
        """Write `weights.safetensors`; the manifest keeps the settings of the features."""
        calibrated = self.weights_.scaled(calibration.scale, np.asarray(calibration.bias))
        (folder / "weights.safetensors").write_bytes(calibrated.to_bytes())
        return {"features": asdict(self.features)}

    def telling_features(self, texts: Sequence[str], *, most: int) -> Mapping[str, Sequence[TellingFeature]]:
        """Return the features of largest weight for each class, named from the training `texts`."""
        return telling_features(self.weights_, texts, self.classes_, most=most)

    def _vocabulary(self, counts: FeatureCounts) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        documents = np.bincount(counts.features, minlength=1 << self.features.bits)
        features = np.flatnonzero(documents >= self.min_documents)
        idf = np.log((1 + counts.n_texts) / (1 + documents[features])) + 1
        return features.astype(np.uint32), idf.astype(np.float32)


def _chunks(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + _CHUNK_TEXTS] for start in range(0, len(texts), _CHUNK_TEXTS)]


def _count_in_chunks(texts: Sequence[str], settings: FeatureSettings, progress: Progress) -> FeatureCounts:
    """Count the features of many texts, some thousands at a time: the intermediate arrays are large."""
    count = compile_counter(settings) or partial(count_features, settings=settings)
    parts, done = [], 0
    for chunk in _chunks(texts):
        part = count(chunk)
        parts.append((part.texts + done, part.features, part.counts))
        done += len(chunk)
        progress(done, len(texts))
    owners, features, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return FeatureCounts(owners, features, counts, len(texts))


def _matrix(
    counts: FeatureCounts, features: npt.NDArray[np.uint32], idf: npt.NDArray[np.float32]
) -> csr_matrix:
    """Return [texts, features] TF-IDF values, each computed as the scorer computes it."""
    place_of = np.full(int(counts.features.max()) + 1, -1, np.int32)
    place_of[features] = np.arange(features.size)
    places = place_of[counts.features]
    known = places >= 0
    values = raw_values(counts, np.where(known, idf[places], np.float32(0)))
    values /= lengths(counts, values)[counts.texts]
    sizes = np.bincount(counts.texts[known], minlength=counts.n_texts)
    ends = np.concatenate([[0], sizes.cumsum()]).astype(np.int32)
    return csr_matrix((values[known], places[known], ends), shape=(counts.n_texts, features.size))

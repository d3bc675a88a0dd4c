"""The trainable linear model: weighted, hashed features and a linear support vector machine on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from tamis.errors import TrainingError
from tamis.models.linear.features import FeatureSettings
from tamis.models.linear.weights import LinearWeights
from tamis.training.trainers.base import (
    Calibration,
    EncodedTexts,
    Logits,
    TopFeature,
    Trainer,
    distinct_classes,
)
from tamis.training.trainers.linear.count_table import CountedTexts, CountTable, chunks, count_texts
from tamis.training.trainers.linear.solver import Problem, Solution, solve
from tamis.training.trainers.linear.top_features import top_features
from tamis.types import Notice, Progress, no_notice, no_progress

_UNKNOWN_ROW = 2**32 - 1  # as the compiled library has it, in the unsigned type of its rows

# where phrases are worth trying: beyond, they were no better, or trying them cost .5 s and more
_MAX_PHRASE_LABELS = 3
_MIN_PHRASE_TEXTS = 500
_MAX_PHRASE_CHARACTERS = 400_000


class LinearTrainer(Trainer):
    """Words, character n-grams and word shapes, and a linear support vector machine on top.

    c:               inverse strength of regularisation; ½ and 2 change mean accuracy by less than .001
    min_documents:   a feature in fewer training texts than this is dropped
    feature_weights: "log-ratio" weights features by how well they separate the labels, besides rarity
    ngram_weight:    length of the n-grams' vector; that of the words is 1
    shape_weight:    length of the shapes' vector
    keep:            share of the features that are kept; half of them cost .0002 of mean accuracy
    class_weight:    "balanced" weighs classes by the inverse of their frequency
    format:          1 scales all features together, as models of Tamis 0.1 did; block weights are 1 then
    """

    kind: ClassVar[str] = "linear"
    # the latter two are used without the compiled library only; the manifest lists those that are installed
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
        bits: int = 18,
        min_documents: int = 1,
        feature_weights: Literal["log-ratio", "none"] = "log-ratio",
        ngram_weight: float = 0.75,
        shape_weight: float = 0.2,
        keep: float = 0.5,
        c: float = 1.0,
        class_weight: Literal["balanced", "none"] = "none",
        format: Literal[1, 2] = 2,
        seed: int = 42,
    ):
        self.features = FeatureSettings(ngram_min, ngram_max, word_pairs, shapes, bits, phrases, format)
        self.min_documents = min_documents
        self.feature_weights = feature_weights
        self.ngram_weight, self.shape_weight = ngram_weight, shape_weight
        self.keep = keep
        self.c = c
        self.class_weight = class_weight
        self.seed = seed
        # 0 would keep no feature; `FeatureSettings` checks its own
        if not 0 < keep <= 1:
            raise ValueError(f"keep must be above 0 and at most 1: {keep}")

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        progress: Progress = no_progress,
        notice: Notice = no_notice,
        checkpoints: Path | None = None,
    ) -> Self:
        """Learn; see `Trainer.fit`. Progress is that of counting features."""
        self.classes_ = distinct_classes(labels)
        counted = self._counted(texts) or count_texts(texts, self.features, progress=progress)
        solution = solve(self._problem(counted, np.searchsorted(self.classes_, labels)))
        learned = np.flatnonzero(solution.feature_weights)
        if not learned.size:
            raise TrainingError(
                f"no feature is in {self.min_documents} texts or more; training needs more data"
            )
        self.weights_ = self._weights(solution, self._strongest(solution, learned), counted.table)
        return self

    def alternative(self, texts: Sequence[str], labels: Sequence[str]) -> Mapping[str, str]:
        """Return phrases for few texts of few labels, such as opinions, where the order of words matters."""
        is_default = self.features.format > 1 and not self.features.phrases
        if not is_default or len(set(labels)) > _MAX_PHRASE_LABELS:
            return {}
        n_characters = sum(map(len, texts))
        is_tried = len(texts) >= _MIN_PHRASE_TEXTS and n_characters <= _MAX_PHRASE_CHARACTERS
        return {"phrases": "true"} if is_tried else {}

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Count the features of canonical `texts`."""
        return count_texts(texts, self.features)

    def logits(self, texts: Sequence[str]) -> Logits:
        """Return [texts, classes] logits."""
        counted, native = self._counted(texts), self.weights_.native
        if counted is not None and native is not None:
            row_of_id = _rows_of_ids(self.weights_.features, counted.table)
            margins = native.margins_of_counts(counted.table.parts(), counted.rows, row_of_id)
            return self.weights_.logits_of_margins(margins)
        # in chunks: the arrays of all occurrences of features would take much memory
        parts = [self.weights_.logits(chunk) for chunk in chunks(texts)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes_)))

    def unknown_shares(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return [texts] the share of each text's distinct features that the trained model does not know."""
        return self.weights_.unknown_shares(texts)

    def export(self, folder: Path, calibration: Calibration) -> Mapping[str, Any]:
        """Write `weights.safetensors`; the manifest keeps the settings of the features."""
        calibrated = self.weights_.scaled(calibration.scale, np.asarray(calibration.bias))
        (folder / "weights.safetensors").write_bytes(calibrated.to_bytes())
        return {"features": asdict(self.features)}

    def top_features(self, texts: Sequence[str], *, max_features: int) -> Mapping[str, Sequence[TopFeature]]:
        """Return the features of largest weight for each class, named from the training `texts`."""
        counted = self._counted(texts) or count_texts(texts, self.features)
        return top_features(self.weights_, counted, self.classes_, max_features=max_features)

    def _counted(self, texts: Sequence[str]) -> CountedTexts | None:
        """Return the texts if they were counted with these settings."""
        if isinstance(texts, CountedTexts) and texts.table.settings == self.features:
            return texts
        return None

    def _problem(self, counted: CountedTexts, labels: npt.NDArray[np.intp]) -> Problem:
        block_weights = (1.0, self.ngram_weight, self.shape_weight)
        return Problem(
            table=counted.table,
            rows=counted.rows,
            labels=labels.astype(np.uint32),
            n_labels=len(self.classes_),
            min_documents=self.min_documents,
            log_ratios=self.feature_weights == "log-ratio",
            block_weights=block_weights[: self.features.n_blocks],
            costs=self._costs(labels),
            seed=self.seed,
        )

    def _costs(self, labels: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return [columns, 2] the cost of errors on a label's own texts, and on the others."""
        n = len(self.classes_)
        weights = np.ones(n)
        if self.class_weight == "balanced":
            weights = labels.size / (n * np.bincount(labels, minlength=n))
        if n == 2:  # the single column is that of the second label
            return self.c * weights[None, ::-1]
        return self.c * np.stack([weights, np.ones(n)], axis=1)

    def _strongest(self, solution: Solution, learned: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return those of the `learned` ids that are kept: those of large weights in many texts."""
        n_kept = max(1, round(self.keep * learned.size))
        if n_kept == learned.size:
            return learned
        return learned[np.argsort(-solution.strengths(learned), kind="stable")[:n_kept]]

    def _weights(self, solution: Solution, kept: npt.NDArray[np.intp], table: CountTable) -> LinearWeights:
        kept = kept[np.argsort(table.numbers[kept])]  # an artifact has its features in ascending order
        weights = solution.weights[kept]
        # rounded before anything is measured: out-of-fold predictions are those of weights as they are saved
        if self.features.format > 1:
            weights = weights.astype(np.float16).astype(np.float32)
        return LinearWeights(
            self.features, table.numbers[kept], solution.feature_weights[kept], weights, solution.intercept
        )


def _rows_of_ids(features: npt.NDArray[np.uint32], table: CountTable) -> npt.NDArray[np.uint32]:
    """Return [ids] the row of each id among ascending `features`, 2**32 - 1 if it is not there."""
    # a table of all numbers in place of a search for each id
    rows = np.full(table.settings.n_numbers, _UNKNOWN_ROW, np.uint32)
    rows[features] = np.arange(features.size, dtype=np.uint32)
    return rows[table.numbers]

"""The learned numbers of a linear model, and the arithmetic that turns texts into logits.

Training and serving both compute with this class, in numpy alone, so their answers are the same.
Knows no labels' names: a class is a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from tamis.errors import ArtifactError
from tamis.models.linear.compiled import CompiledWeights, Tensors, compile_weights
from tamis.models.linear.features import (
    FeatureCounts,
    FeatureSettings,
    count_occurrences,
    feature_occurrences,
)

Floats = npt.NDArray[np.float64]

_LARGEST_COUNT = 1024
_SUBLINEAR = np.concatenate([[0.0], 1 + np.log(np.arange(1, _LARGEST_COUNT + 1))])
_TWO_SIDES = np.array([-0.5, 0.5])
_TENSORS = {"features": np.uint32, "idf": np.float32, "weights": np.float32, "intercept": np.float64}


@dataclass(frozen=True)
class LinearWeights:
    """A learned vocabulary of hashed features with a weight for each feature and class.

    features:  [features] numbers of the known features, ascending
    idf:       [features] inverse document frequencies
    weights:   [features, columns] one column a class, or a single one for two classes
    intercept: [columns]
    """

    settings: FeatureSettings
    features: npt.NDArray[np.uint32]
    idf: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    intercept: Floats

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return max(2, self.intercept.size)

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return [texts, classes] logits of canonical texts, each computed from its own features alone."""
        margins = self.margins(texts) if self.compiled is None else self.compiled.margins(texts)
        if margins.shape[1] > 1:
            return margins
        sides: Floats = margins * _TWO_SIDES
        return sides

    def margins(self, texts: Sequence[str]) -> Floats:
        """Return [texts, columns] margins in numpy: what `compiled` returns, for whoever does not have it."""
        owners, numbers = feature_occurrences(texts, self.settings)
        rows = self._known_rows[numbers]
        seen = rows.nonzero()[0]  # what the model does not know adds nothing, and need not be counted
        counts = count_occurrences(owners[seen], rows[seen].astype(np.uint64), n_texts=len(texts))
        known = counts.features
        values = raw_values(counts, self._padded_idf[known])
        norms = lengths(counts, values)
        margins = np.empty((counts.n_texts, self.intercept.size))
        for place, column in enumerate(self._padded_weights):
            sums = np.bincount(counts.texts, values * column[known], minlength=counts.n_texts)
            margins[:, place] = sums / norms + self.intercept[place]
        return margins

    def added(self, counts: FeatureCounts, place: int) -> Floats:
        """Return [entries] what each feature adds to its text's sum in the column at `place`."""
        known = self._known_rows[counts.features]
        values = raw_values(counts, self._padded_idf[known])
        terms: Floats = values * self._padded_weights[place][known] / lengths(counts, values)[counts.texts]
        return terms

    def scaled(self, scale: float, bias: Floats) -> LinearWeights:
        """Return weights with the logits `scale · logits + bias`, up to a shift common to all classes."""
        shift = bias if self.intercept.size > 1 else bias[1:] - bias[:-1]
        return LinearWeights(
            self.settings,
            self.features,
            self.idf,
            (self.weights * scale).astype(np.float32),
            self.intercept * scale + shift,
        )

    def to_bytes(self) -> bytes:
        """Return the tensors in safetensors format; the settings are kept elsewhere."""
        return safetensors.numpy.save({name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS})

    @classmethod
    def from_bytes(cls, data: bytes, settings: FeatureSettings, *, n_classes: int) -> LinearWeights:
        """Read what `to_bytes` wrote; raises ArtifactError for tensors that cannot be such a model."""
        try:
            tensors = safetensors.numpy.load(data)
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as broken:
            raise ArtifactError(f"weights.safetensors is not in safetensors format ({broken})") from None
        weights = cls(settings, **_checked(tensors, settings, n_classes))
        if weights.features.size and (
            (np.diff(weights.features.astype(np.int64)) <= 0).any() or weights.features[-1] >> settings.bits
        ):
            raise ArtifactError("weights.safetensors: feature numbers are not ascending or out of range")
        return weights

    @cached_property
    def compiled(self) -> CompiledWeights | None:
        """The same weights in the compiled library, None where the installation has none."""
        tensors = Tensors(self.features, self.idf, self.weights, self.intercept, _SUBLINEAR)
        return compile_weights(tensors, self.settings)

    @cached_property
    def _known_rows(self) -> npt.NDArray[np.int32]:
        """[2**bits] row of each feature in the padded arrays; row 0 stands for every unknown one."""
        rows = np.zeros(1 << self.settings.bits, np.int32)
        rows[self.features] = np.arange(1, self.features.size + 1, dtype=np.int32)
        return rows

    @cached_property
    def _padded_idf(self) -> npt.NDArray[np.float32]:
        return np.concatenate([np.zeros(1, np.float32), self.idf])

    @cached_property
    def _padded_weights(self) -> list[npt.NDArray[np.float32]]:
        return [np.concatenate([np.zeros(1, np.float32), column]) for column in self.weights.T]


def raw_values(counts: FeatureCounts, idf: npt.NDArray[np.float32]) -> Floats:
    """Return [entries] TF-IDF values before a text's are scaled; `idf` [entries] of 0 drops an entry."""
    values: Floats = _SUBLINEAR[np.minimum(counts.counts, _LARGEST_COUNT)] * idf
    return values


def lengths(counts: FeatureCounts, values: Floats) -> Floats:
    """Return [texts] the Euclidean length of each text's values, 1 where it has none."""
    squares = np.bincount(counts.texts, values * values, minlength=counts.n_texts)
    squares[squares == 0] = 1
    result: Floats = np.sqrt(squares)
    return result


def _checked(
    tensors: dict[str, npt.NDArray[Any]], settings: FeatureSettings, n_classes: int
) -> dict[str, npt.NDArray[Any]]:
    columns = 1 if n_classes == 2 else n_classes
    size = tensors["features"].size if "features" in tensors else 0
    shapes = {"features": (size,), "idf": (size,), "weights": (size, columns), "intercept": (columns,)}
    if tensors.keys() != shapes.keys():
        raise ArtifactError(
            f"weights.safetensors must hold {', '.join(shapes)}; it holds {', '.join(tensors)}"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.dtype != _TENSORS[name] or tensor.shape != shape:
            raise ArtifactError(
                f"weights.safetensors: {name} is {tensor.dtype}{list(tensor.shape)}, "
                f"but {n_classes} labels need {np.dtype(_TENSORS[name])}{list(shape)}"
            )
        if not np.isfinite(tensor).all():
            raise ArtifactError(f"weights.safetensors: {name} has values that are not finite numbers")
    if size > 1 << settings.bits:
        raise ArtifactError(f"weights.safetensors: {size:,} features do not fit into {settings.bits} bits")
    return tensors

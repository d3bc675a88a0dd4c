"""The learned numbers of a linear model, and the arithmetic that turns texts into logits.

Training and serving both compute with this class, in numpy alone, so their results are the same:

    texts ──► features, counts ──► values = (1 + log count) · idf
    margin[column] = scale · Σ blocks (Σ values · weights / ‖values of the block‖) + intercept[column]
    logits = the margins, or with two classes ∓ half of the single margin

Format 1 has a single block. Independent of labels' names: a class is a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from tamis.errors import ArtifactError
from tamis.models.linear.features import (
    FeatureCounts,
    FeatureSettings,
    count_features,
    count_occurrences,
    feature_occurrences,
)
from tamis.models.linear.native import NativeWeights, Tensors, native_counter, native_weights

Floats = npt.NDArray[np.float64]

# larger counts weigh the same: the table stays small, and the logarithm hardly grows
_MAX_COUNT = 1024
# a word that occurs ten times is more evidence than one that occurs once, but not ten times as much
SUBLINEAR = np.concatenate([[0.0], 1 + np.log(np.arange(1, _MAX_COUNT + 1))])
_TWO_SIDES = np.array([-0.5, 0.5])
# half precision from format 2 on, in training too, so that what is learned is what is served
_TENSORS: dict[int, dict[str, Any]] = {
    1: {"features": np.uint32, "idf": np.float32, "weights": np.float32, "intercept": np.float64},
    2: {
        "features": np.uint32,
        "idf": np.float16,
        "weights": np.float16,
        "intercept": np.float64,
        "scale": np.float64,
    },
}
"""The tensors of `weights.safetensors` and their types, by the format of the features."""


@dataclass(frozen=True)
class LinearWeights:
    """A learned vocabulary of hashed features with a weight for each feature and class.

    features:  [features] numbers of the known features, ascending
    idf:       [features] inverse document frequencies, times what each feature's block and labels add
    weights:   [features, columns] one column a class, or a single one for two classes
    intercept: [columns]
    scale:     multiplies the sums; always 1 in format 1

    In format 2 `idf` and `weights` have the precision of float16, so that a file holds them exactly.
    """

    settings: FeatureSettings
    features: npt.NDArray[np.uint32]
    idf: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    intercept: Floats
    scale: float = 1.0

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return max(2, self.intercept.size)

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return [texts, classes] logits of canonical texts, each computed from its own features alone."""
        margins = self.margins(texts) if self.native is None else self.native.margins(texts)
        return self.logits_of_margins(margins)

    def logits_of_margins(self, margins: Floats) -> Floats:
        """Return [texts, classes] logits of [texts, columns] margins."""
        if margins.shape[1] > 1:
            return margins
        sides: Floats = margins * _TWO_SIDES
        return sides

    def margins(self, texts: Sequence[str]) -> Floats:
        """Return [texts, columns] margins in numpy, without the compiled library."""
        owners, numbers = feature_occurrences(texts, self.settings)
        rows = self._known_rows[numbers]
        seen = rows.nonzero()[0]  # unknown features add nothing; left out before the sort, it is shorter
        counts = count_occurrences(owners[seen], rows[seen].astype(np.uint64), n_texts=len(texts))
        known = counts.features
        values = raw_values(counts, self._padded_idf[known])
        blocks = self._block_indices(counts.texts, known)
        norms = self._block_lengths(blocks, values, counts.n_texts)
        margins = np.empty((counts.n_texts, self.intercept.size))
        for index, column in enumerate(self._padded_weights):
            # a block's sum is divided by its length once, and not each of its values
            sums = np.bincount(blocks, values * column[known], minlength=norms.size) / norms
            # block by block, in the order in which the compiled library adds them up
            total = sum(sums.reshape(counts.n_texts, self.settings.n_blocks).T)
            margins[:, index] = total * self.scale + self.intercept[index]
        return margins

    def added(self, counts: FeatureCounts, index: int) -> Floats:
        """Return [entries] what each feature adds to its text's margin in the column at `index`."""
        known = self._known_rows[counts.features]
        values = raw_values(counts, self._padded_idf[known])
        blocks = self._block_indices(counts.texts, known)
        norms = self._block_lengths(blocks, values, counts.n_texts)
        terms: Floats = values * self._padded_weights[index][known] / norms[blocks] * self.scale
        return terms

    def unknown_shares(self, texts: Sequence[str]) -> Floats:
        """Return [texts] the share of each text's distinct features that the model does not know."""
        counts = (native_counter(self.settings) or partial(count_features, settings=self.settings))(texts)
        features = np.bincount(counts.texts, minlength=counts.n_texts)
        known = np.bincount(counts.texts, self._known_rows[counts.features] > 0, minlength=counts.n_texts)
        shares: Floats = 1 - known / np.maximum(features, 1)
        return shares

    def scaled(self, scale: float, bias: Floats) -> LinearWeights:
        """Return weights with the logits `scale · logits + bias`, up to a shift common to all classes."""
        # the margin of two classes is the difference of their logits: what is added is that of their biases
        shift = bias if self.intercept.size > 1 else bias[1:] - bias[:-1]
        intercept = self.intercept * scale + shift
        if self.settings.format > 1:  # the weights stay as they are: rounded again they would change
            return replace(self, intercept=intercept, scale=self.scale * scale)
        return replace(self, weights=(self.weights * scale).astype(np.float32), intercept=intercept)

    def to_bytes(self) -> bytes:
        """Return the tensors in safetensors format; the settings are kept elsewhere."""
        types = _TENSORS[self.settings.format]
        values = {name: np.atleast_1d(getattr(self, name)).astype(kind) for name, kind in types.items()}
        return safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in values.items()})

    @classmethod
    def from_bytes(cls, data: bytes, settings: FeatureSettings, *, n_classes: int) -> LinearWeights:
        """Read what `to_bytes` wrote; raises ArtifactError for tensors that cannot be such a model."""
        try:
            tensors = safetensors.numpy.load(data)
        # safetensors leaves types and shapes that numpy does not know to Python's own errors
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as broken:
            raise ArtifactError(f"weights.safetensors is not in safetensors format ({broken})") from None
        tensors = _checked(tensors, settings, n_classes)
        features = tensors["features"]
        # in 64 bits, because unsigned differences never fall below 0
        if (np.diff(features.astype(np.int64)) <= 0).any() or (features >= settings.n_numbers).any():
            raise ArtifactError("weights.safetensors: feature numbers are not ascending or out of range")
        return cls(
            settings,
            features,
            tensors["idf"].astype(np.float32),
            tensors["weights"].astype(np.float32),
            tensors["intercept"],
            float(tensors["scale"][0]) if "scale" in tensors else 1.0,
        )

    @cached_property
    def native(self) -> NativeWeights | None:
        """The same weights in the compiled library, None if the installation has none."""
        tensors = Tensors(self.features, self.idf, self.weights, self.intercept, SUBLINEAR, self.scale)
        return native_weights(tensors, self.settings)

    def _block_indices(self, texts: npt.NDArray[np.intp], known: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Return [entries] index of the text's block that each entry belongs to."""
        n_blocks = self.settings.n_blocks
        return texts if n_blocks == 1 else texts * n_blocks + self._padded_blocks[known]

    def _block_lengths(self, blocks: npt.NDArray[np.intp], values: Floats, n_texts: int) -> Floats:
        """Return [texts · blocks] the Euclidean length of each block's values, 1 if it has none."""
        squares = np.bincount(blocks, values * values, minlength=n_texts * self.settings.n_blocks)
        squares[squares == 0] = 1  # a block without features has the sum 0, which is divided by it
        norms: Floats = np.sqrt(squares)
        return norms

    @cached_property
    def _known_rows(self) -> npt.NDArray[np.int32]:
        """[numbers] row of each feature in the padded arrays; row 0 is every unknown one."""
        # a table of all numbers in place of a search: a text has hundreds of features to look up
        rows = np.zeros(self.settings.n_numbers, np.int32)
        rows[self.features] = np.arange(1, self.features.size + 1, dtype=np.int32)
        return rows

    @cached_property
    def _padded_idf(self) -> npt.NDArray[np.float32]:
        return np.concatenate([np.zeros(1, np.float32), self.idf])

    @cached_property
    def _padded_blocks(self) -> npt.NDArray[np.intp]:
        blocks = (self.features >> self.settings.bits).astype(np.intp)
        return np.concatenate([np.zeros(1, np.intp), blocks])

    @cached_property
    def _padded_weights(self) -> list[npt.NDArray[np.float32]]:
        return [np.concatenate([np.zeros(1, np.float32), column]) for column in self.weights.T]


def raw_values(counts: FeatureCounts, idf: npt.NDArray[np.float32]) -> Floats:
    """Return [entries] TF-IDF values before a text's are scaled; `idf` [entries] of 0 drops an entry."""
    values: Floats = SUBLINEAR[np.minimum(counts.counts, _MAX_COUNT)] * idf
    return values


def _checked(
    tensors: dict[str, npt.NDArray[Any]], settings: FeatureSettings, n_classes: int
) -> dict[str, npt.NDArray[Any]]:
    columns = 1 if n_classes == 2 else n_classes
    size = tensors["features"].size if "features" in tensors else 0
    types = _TENSORS[settings.format]
    shapes = {
        "features": (size,),
        "idf": (size,),
        "weights": (size, columns),
        "intercept": (columns,),
        "scale": (1,),
    }
    shapes = {name: shapes[name] for name in types}
    if tensors.keys() != shapes.keys():
        raise ArtifactError(
            f"weights.safetensors must hold {', '.join(shapes)}; it holds {', '.join(tensors)}"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.dtype != types[name] or tensor.shape != shape:
            raise ArtifactError(
                f"weights.safetensors: {name} is {tensor.dtype}{list(tensor.shape)}, "
                f"but {n_classes} labels need {np.dtype(types[name])}{list(shape)}"
            )
        if not np.isfinite(tensor).all():
            raise ArtifactError(f"weights.safetensors: {name} has values that are not finite numbers")
    if size > settings.n_numbers:
        raise ArtifactError(f"weights.safetensors: {size:,} features do not fit into {settings.bits} bits")
    return tensors

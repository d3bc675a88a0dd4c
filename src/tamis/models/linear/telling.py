"""Names for the features that a linear model leans on most.

A feature is a hashed number, and the weights alone cannot say which words it stands for. The
training texts can: whatever piece of text a number came from most often is its name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tamis import ngrams
from tamis.models.base import TellingFeature
from tamis.models.linear.features import (
    FAMILIES,
    SHAPE_FAMILIES,
    FeatureSettings,
    locate_features,
    name_sizes,
    shape_of,
)
from tamis.models.linear.weights import LinearWeights

_CHUNK_TEXTS = 2048


def telling_features(
    weights: LinearWeights, texts: Sequence[str], classes: Sequence[str], *, most: int
) -> dict[str, tuple[TellingFeature, ...]]:
    """Return the features of largest weight for each class, heaviest first, named from training texts."""
    columns = weights.weights if weights.intercept.size > 1 else weights.weights * np.array([-1, 1])
    top = {label: _heaviest(columns[:, place], most) for place, label in enumerate(classes)}
    wanted = np.unique(weights.features[np.concatenate([*top.values()])])
    names = _names(texts, wanted, weights.settings)
    return {
        label: tuple(
            TellingFeature(*names[int(weights.features[row])], float(columns[row, place]))
            for row in top[label]
        )
        for place, label in enumerate(classes)
    }


def _heaviest(column: npt.NDArray[np.floating], most: int) -> npt.NDArray[np.intp]:
    order = np.argsort(-column, kind="stable")[:most]
    return order[column[order] > 0]


def _names(
    texts: Sequence[str], wanted: npt.NDArray[np.uint32], settings: FeatureSettings
) -> Mapping[int, tuple[str, str]]:
    """Return family and name of each wanted feature."""
    seen: dict[int, Counter[tuple[int, str]]] = defaultdict(Counter)
    for start in range(0, len(texts), _CHUNK_TEXTS):
        for number, family, piece in _pieces(texts[start : start + _CHUNK_TEXTS], wanted, settings):
            seen[number][family, piece] += 1
    sizes = name_sizes(settings)
    return {number: _name(number, counted, sizes) for number, counted in seen.items()}


def _pieces(
    texts: Sequence[str], wanted: npt.NDArray[np.uint32], settings: FeatureSettings
) -> Iterable[tuple[int, int, str]]:
    joined = ngrams.join_texts(texts)
    located = locate_features(joined, settings)
    hits = np.flatnonzero(np.isin(located.features, wanted))
    lower, whole = _as_text(joined.lower), _as_text(joined.codes)
    columns = (located.features, located.families, located.spans.starts, located.spans.ends)
    for number, family, start, end in zip(*(column[hits].tolist() for column in columns), strict=True):
        yield number, family, (whole if family in SHAPE_FAMILIES else lower)[start:end]


def _as_text(codes: ngrams.Codes) -> str:
    return "".join(map(chr, codes.tolist()))


def _name(number: int, counted: Counter[tuple[int, str]], sizes: Mapping[int, str]) -> tuple[str, str]:
    """Return the most frequent piece, of equally frequent ones the first in order."""
    family, piece = min(counted, key=lambda found: (-counted[found], found))
    if not piece:
        return FAMILIES[family], sizes[number]
    return FAMILIES[family], shape_of(piece) if family in SHAPE_FAMILIES else piece

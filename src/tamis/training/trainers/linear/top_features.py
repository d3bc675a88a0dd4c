"""The features of largest weight of a linear model, with names.

A feature is a hash, so the weights alone do not give its text: its name is the piece of text that most
often hashed to it in some of the training texts that have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tamis import ngrams
from tamis.models.linear.features import (
    CAPITALS,
    DIGITS,
    FAMILIES,
    KEPT_AT_FIRST,
    LENGTH,
    OFFSETS,
    SHAPE_FAMILIES,
    SHAPES_BLOCK,
    SIZE_STEPS,
    FeatureSettings,
    beyond_four,
    locate_features,
    shape_codes,
)
from tamis.models.linear.weights import LinearWeights
from tamis.training.trainers.base import TopFeature
from tamis.training.trainers.linear.count_table import CountedTexts, chunks

_EXAMPLES = 12
"""Texts in which a feature's name is searched: locating it takes six times as long as counting it."""


def top_features(
    weights: LinearWeights, texts: CountedTexts, classes: Sequence[str], *, max_features: int
) -> dict[str, tuple[TopFeature, ...]]:
    """Return the features of largest weight for each class, heaviest first, named from training texts."""
    # the single column of two classes is evidence for the second; its negative is that for the first
    columns = weights.weights if weights.intercept.size > 1 else weights.weights * np.array([-1, 1])
    top = {label: _heaviest(columns[:, index], max_features) for index, label in enumerate(classes)}
    wanted = np.unique(weights.features[np.concatenate([*top.values()])])
    names = _names(_examples(texts, wanted), wanted, weights.settings)
    return {
        label: tuple(
            TopFeature(*names[int(weights.features[row])], float(columns[row, index])) for row in top[label]
        )
        for index, label in enumerate(classes)
    }


def _heaviest(column: npt.NDArray[np.floating], max_features: int) -> npt.NDArray[np.intp]:
    order = np.argsort(-column, kind="stable")[:max_features]
    return order[column[order] > 0]


def _examples(counted: CountedTexts, wanted: npt.NDArray[np.uint32]) -> Sequence[str]:
    """Return the shortest texts that have each of the wanted features."""
    table = counted.table
    # found through the table of counts: no text needs to be read for it
    entries = np.flatnonzero(np.isin(table.numbers, wanted)[table.ids])
    position_of_row = np.full(table.starts.size - 1, -1)
    position_of_row[counted.rows] = np.arange(counted.rows.size)
    positions = position_of_row[np.searchsorted(table.starts, entries, side="right") - 1]
    ids, positions = table.ids[entries][positions >= 0], positions[positions >= 0]
    lengths = np.fromiter(map(len, counted), np.intp, len(counted))
    # by feature, then by length: the rank of a text within its feature's run says how many are shorter
    order = np.lexsort((positions, lengths[positions], ids))
    ids, positions = ids[order], positions[order]
    rank = np.arange(ids.size) - np.searchsorted(ids, ids)
    return [counted[position] for position in np.unique(positions[rank < _EXAMPLES]).tolist()]


def _names(
    texts: Sequence[str], wanted: npt.NDArray[np.uint32], settings: FeatureSettings
) -> Mapping[int, tuple[str, str]]:
    """Return family and name of each wanted feature."""
    seen: Counter[tuple[int, int, str]] = Counter()
    for chunk in chunks(texts):
        seen.update(_pieces(chunk, wanted, settings))
    most_frequent: dict[int, tuple[int, int, str]] = {}
    for (number, family, piece), count in seen.items():
        found = (-count, family, piece)  # of equally frequent pieces the first in order
        most_frequent[number] = min(most_frequent.get(number, found), found)
    sizes = name_sizes(settings)
    return {
        # a feature that covers no characters is that of a size
        number: (FAMILIES[family], sizes.get(number, ""))
        if not piece
        else (FAMILIES[family], shape_of(piece) if family in SHAPE_FAMILIES else piece)
        for number, (_, family, piece) in most_frequent.items()
    }


def _pieces(
    texts: Sequence[str], wanted: npt.NDArray[np.uint32], settings: FeatureSettings
) -> Iterable[tuple[int, int, str]]:
    joined = ngrams.join_texts(texts)
    located = locate_features(joined, settings)
    hits = np.flatnonzero(np.isin(located.features, wanted))
    lower, whole = _as_text(joined.lower), _as_text(joined.codes)
    columns = (located.features, located.families, located.spans.starts, located.spans.ends)
    numbers, families, starts, ends = (column[hits].tolist() for column in columns)
    # lower case for words and n-grams, as they are hashed; a shape is made of the text as it is
    read = [whole if family in SHAPE_FAMILIES else lower for family in families]
    pieces = [text[start:end] for text, start, end in zip(read, starts, ends, strict=True)]
    return zip(numbers, families, pieces, strict=True)


def _as_text(codes: ngrams.Codes) -> str:
    # a text may hold unpaired surrogates, which are features like other characters
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def name_sizes(settings: FeatureSettings) -> dict[int, str]:
    """Return the names of the features of a text's length, capitals and digits, by their numbers."""
    if not settings.shapes:
        return {}
    return {
        _number_of(np.uint64(step) + OFFSETS[family], settings): f"{_size_range(step, added)} {what}"
        for family, what, added in (
            (LENGTH, "characters", 2),  # the spaces around the text are counted
            (CAPITALS, "capitals", 0),
            (DIGITS, "digits", 0),
        )
        for step in range(1, SIZE_STEPS.size + 1)
    }


def shape_of(piece: str) -> str:
    """Return the shape of some tokens, such as `Xxxx dddd`."""
    shapes = shape_codes(ngrams.join_texts([piece]))
    kept = np.concatenate([KEPT_AT_FIRST, ~beyond_four(shapes)])[: shapes.size]
    return "".join(map(chr, shapes[kept].tolist())).strip()


def _number_of(polynomial: np.uint64, settings: FeatureSettings) -> int:
    number = int(ngrams.mix(np.array([polynomial]))[0]) >> (64 - settings.bits)
    return number | (SHAPES_BLOCK << settings.bits if settings.n_blocks > 1 else 0)


def _size_range(step: int, added: int) -> str:
    first = max(0, int(SIZE_STEPS[step - 1]) - added)
    last = int(SIZE_STEPS[step]) - 1 - added if step < SIZE_STEPS.size else first
    return f"{first:,}" if last <= first else f"{first:,}–{last:,}"

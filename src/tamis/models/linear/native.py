"""A linear model's margins and features by the compiled library, if there is one.

The library does for one text at a time what `weights` and `features` do for many in numpy, the same
operations in the same order: its margins are the same bits, sooner. Independent of labels and files.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tamis import ngrams
from tamis.models.linear.features import FAMILIES, SIZE_STEPS, FeatureCounts, FeatureSettings
from tamis.native import Function, Library, ModelParts, address_of, check, contiguous, native_library
from tamis.normalization import character_kinds

_LARGE_BATCH = 128
"""In smaller batches the interpreter's lock is kept: releasing it and waiting for it costs more time."""


class Tensors(NamedTuple):
    """What a model is made of, as `LinearWeights` holds it; `sublinear` is the value of each count."""

    features: npt.NDArray[np.uint32]
    idf: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    intercept: npt.NDArray[np.float64]
    sublinear: npt.NDArray[np.float64]
    scale: float = 1.0


class _NativeModel:
    """A model in the compiled library, which is freed with this object."""

    def __init__(self, library: Library, tensors: Tensors, settings: FeatureSettings):
        self._library = library
        self._model = _new_model(library, tensors, settings)

    def __del__(self) -> None:
        if hasattr(self, "_model"):  # making it may have failed
            self._library.free_model(self._model)


class NativeWeights(_NativeModel):
    """Computes margins and probabilities; several threads may use it."""

    def __init__(self, library: Library, tensors: Tensors, settings: FeatureSettings):
        super().__init__(library, tensors, settings)
        self._columns = tensors.intercept.size
        self._n_classes = max(2, self._columns)

    def margins(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the margins of canonical `texts` in each column."""
        return self._score(self._library.margins, texts, self._columns)

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return [texts, classes] probabilities; numpy's exponential may differ in the last bit."""
        return self._score(self._library.probabilities, texts, self._n_classes)

    def probabilities_of_utf8(
        self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return [texts, classes] probabilities of texts in UTF-8, and [texts] which were not scored.

        The text at i is `data[offsets[i]:offsets[i + 1]]`; it is brought into canonical form. Texts that
        normalisation may change are not scored: their rows mean nothing.
        """
        kinds = character_kinds()
        n_texts = offsets.size - 1
        # UTF-8 has at least one byte a character; each text lies between two spaces
        codes = np.empty(int(offsets[-1] - offsets[0]) + 2 * n_texts, np.uint32)
        lengths, others = np.empty(n_texts, np.uint64), np.empty(n_texts, np.uint8)
        found = np.empty((n_texts, self._n_classes))
        check(
            self._library.canonical_codes(
                address_of(data),
                address_of(offsets),
                n_texts,
                kinds,
                len(kinds),
                address_of(codes),
                address_of(lengths),
                address_of(others),
            )
        )
        call = self._library.probabilities.unlocked
        # declared for the bytes that `_score` passes; an address needs the cast
        codes_address = ctypes.cast(address_of(codes), ctypes.c_char_p)
        check(call(self._model, codes_address, address_of(lengths), n_texts, address_of(found)))
        return found, others.view(np.bool_)

    def margins_of_counts(
        self, counted: ctypes.Structure, rows: npt.NDArray[np.uint32], row_of_id: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.float64]:
        """Return the margins of `rows` of texts whose features are counted, the same bits as of the texts.

        `row_of_id` is the model's row of each counted feature, 2**32 - 1 for those it does not know.
        """
        margins = np.empty((rows.size, self._columns))
        status = self._library.margins_of_counts(
            self._model,
            ctypes.byref(counted),
            address_of(rows),
            rows.size,
            address_of(row_of_id),
            address_of(margins),
        )
        check(status)
        return margins

    def _score(self, functions: Function, texts: Sequence[str], width: int) -> npt.NDArray[np.float64]:
        codes = ngrams.encode_texts(texts)
        # two more each, because texts are joined between spaces; arrays of Python, because asking numpy for
        # an address takes a microsecond
        lengths = array("Q", [len(text) + 2 for text in texts])
        numbers = array("d", bytes(8 * len(texts) * width))
        call = functions.locked if len(texts) <= _LARGE_BATCH else functions.unlocked
        check(call(self._model, codes, lengths.buffer_info()[0], len(texts), numbers.buffer_info()[0]))
        return np.frombuffer(numbers).reshape(len(texts), width)


class NativeCounter(_NativeModel):
    """Counts features as `count_features` does, up to 65,535 of each; it is a model that knows none."""

    def __init__(self, library: Library, settings: FeatureSettings):
        number, none = np.zeros(0, np.float32), np.zeros(0, np.uint32)
        super().__init__(library, Tensors(none, number, number, np.zeros(1), np.zeros(1)), settings)
        # a bound: at each character one feature of each family may begin, and an n-gram of each length
        self._max_at_a_character = len(FAMILIES) + settings.ngram_max - settings.ngram_min

    def __call__(self, texts: Sequence[str]) -> FeatureCounts:
        """Return the features of canonical `texts`; several threads may call this."""
        lengths = np.fromiter((len(text) + 2 for text in texts), np.uint64, len(texts))
        room = int(lengths.sum()) * self._max_at_a_character
        distinct = np.empty(len(texts), np.intp)
        features, counts = np.empty(room, np.uint32), np.empty(room, np.uint16)
        total = ctypes.c_size_t()
        status = self._library.count(
            self._model,
            ngrams.encode_texts(texts),
            address_of(lengths),
            len(texts),
            address_of(distinct),
            address_of(features),
            address_of(counts),
            room,
            ctypes.byref(total),
        )
        check(status)
        found = total.value
        # copies, because views would keep all of the room, many times what is used
        owners = np.arange(len(texts)).repeat(distinct)
        return FeatureCounts(owners, features[:found].copy(), counts[:found].copy(), len(texts))


def native_counter(settings: FeatureSettings) -> NativeCounter | None:
    """Return the compiled library's counter of features; None if there is no such library."""
    library = native_library()
    return None if library is None else NativeCounter(library, settings)


def native_weights(tensors: Tensors, settings: FeatureSettings) -> NativeWeights | None:
    """Return the model for the compiled library; None if there is no such library."""
    library = native_library()
    return None if library is None else NativeWeights(library, tensors, settings)


def _new_model(library: Library, tensors: Tensors, settings: FeatureSettings) -> int | None:
    """Return the handle of a model; the library copies what it needs."""
    classes, lower = ngrams.character_tables()
    # the dictionary keeps converted arrays alive until the library, which gets addresses, has copied them
    arrays = {
        "classes": contiguous(classes, np.uint8),
        "lower": contiguous(lower, np.uint32),
        "size_steps": contiguous(SIZE_STEPS, np.uint64),
        "sublinear": contiguous(tensors.sublinear, np.float64),
        "features": contiguous(tensors.features, np.uint32),
        "idf": contiguous(tensors.idf, np.float32),
        "weights": contiguous(tensors.weights, np.float32),
        "intercept": contiguous(tensors.intercept, np.float64),
    }
    parts = ModelParts(
        **{name: address_of(values) for name, values in arrays.items()},
        n_characters=classes.size,
        n_size_steps=arrays["size_steps"].size,
        n_sublinear=tensors.sublinear.size,
        n_features=tensors.features.size,
        n_columns=tensors.intercept.size,
        bits=settings.bits,
        ngram_min=settings.ngram_min,
        ngram_max=settings.ngram_max,
        word_pairs=settings.word_pairs,
        shapes=settings.shapes,
        phrases=settings.phrases,
        blocks=settings.n_blocks > 1,
        scale=tensors.scale,
    )
    model = ctypes.c_void_p()
    check(library.new_model(ctypes.byref(parts), ctypes.byref(model)))
    return model.value

"""A linear model's answers, and the features it learns from, by the compiled library where there is one.

The library (`native/`, in Rust) does for one text at a time what `weights` and `features` do for many
in numpy, the same operations in the same order: its margins are the same bits, sooner. Knows how to
call it; knows no labels and no files of a model.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tamis import ngrams
from tamis.models.linear.features import FAMILIES, SIZE_STEPS, FeatureCounts, FeatureSettings

_INTERFACE = 3
_FILE = Path(__file__).with_name("compiled_library.so")
_MANY_TEXTS = 128
"""For fewer the interpreter's lock is kept: to let it go and wait for it costs more than the work."""


class Tensors(NamedTuple):
    """What a model is made of, as `LinearWeights` holds it; `sublinear` is what each count counts."""

    features: npt.NDArray[np.uint32]
    idf: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    intercept: npt.NDArray[np.float64]
    sublinear: npt.NDArray[np.float64]


class _Function(NamedTuple):
    """A function of the library: called with the interpreter's lock held, and with it let go."""

    locked: Any
    unlocked: Any


class CompiledWeights:
    """Computes margins and probabilities; several threads may use it."""

    def __init__(self, library: _Library, tensors: Tensors, settings: FeatureSettings):
        self._library, self._columns = library, tensors.intercept.size
        self._n_classes = max(2, self._columns)
        self._model = library.new_model(tensors, settings)

    def __del__(self) -> None:
        self._library.free(self._model)

    def margins(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the margins of canonical `texts` in each column."""
        return self._ask(self._library.margins, texts, self._columns)

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return [texts, classes] probabilities; numpy's exponential may differ in the last bit."""
        return self._ask(self._library.probabilities, texts, self._n_classes)

    def _ask(self, functions: _Function, texts: Sequence[str], width: int) -> npt.NDArray[np.float64]:
        codes = ngrams.encode_texts(texts)
        lengths = array("Q", [len(text) + 2 for text in texts])
        numbers = array("d", bytes(8 * len(texts) * width))  # to ask numpy for an address takes a microsecond
        call = functions.locked if len(texts) <= _MANY_TEXTS else functions.unlocked
        call(self._model, codes, lengths.buffer_info()[0], len(texts), numbers.buffer_info()[0])
        return np.frombuffer(numbers).reshape(len(texts), width)


class CompiledCounter:
    """Counts features as `count_features` does; it is a model that knows none of them."""

    def __init__(self, library: _Library, settings: FeatureSettings):
        number, none = np.zeros(0, np.float32), np.zeros(0, np.uint32)
        nothing = Tensors(none, number, number, np.zeros(1), np.zeros(1))
        self._library, self._model = library, library.new_model(nothing, settings)
        # one of each family, but n-grams of each length: more than there can be
        self._most_at_a_character = len(FAMILIES) + settings.ngram_max - settings.ngram_min

    def __del__(self) -> None:
        self._library.free(self._model)

    def __call__(self, texts: Sequence[str]) -> FeatureCounts:
        """Return the features of canonical `texts`."""
        lengths = np.fromiter((len(text) + 2 for text in texts), np.uint64, len(texts))
        room = int(lengths.sum()) * self._most_at_a_character
        distinct = np.empty(len(texts), np.intp)
        features, counts = np.empty(room, np.uint32), np.empty(room, np.intp)
        found = self._library.count(
            self._model,
            ngrams.encode_texts(texts),
            lengths.ctypes.data,
            len(texts),
            distinct.ctypes.data,
            features.ctypes.data,
            counts.ctypes.data,
            room,
        )
        owners = np.arange(len(texts)).repeat(distinct)
        return FeatureCounts(owners, features[:found].copy(), counts[:found].copy(), len(texts))


def compile_counter(settings: FeatureSettings) -> CompiledCounter | None:
    """Return what counts features by the compiled library; None where there is no such library."""
    library = _library()
    return None if library is None else CompiledCounter(library, settings)


def compile_weights(tensors: Tensors, settings: FeatureSettings) -> CompiledWeights | None:
    """Return the model for the compiled library; None where there is no such library."""
    library = _library()
    return None if library is None else CompiledWeights(library, tensors, settings)


def is_compiled() -> bool:
    """Return whether texts are scored by the compiled library."""
    return _library() is not None


class _Library:
    """The functions of the library; what they take is `native/src/lib.rs`'s to say."""

    def __init__(self, path: Path):
        holding, releasing = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
        self.interface: int = holding.tamis_interface()
        self.margins = _Function(holding.tamis_model_margins, releasing.tamis_model_margins)
        self.probabilities = _Function(holding.tamis_model_probabilities, releasing.tamis_model_probabilities)
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        for function in (*self.margins, *self.probabilities):
            function.argtypes, function.restype = [pointer, ctypes.c_char_p, pointer, size, pointer], None
        self.count = releasing.tamis_model_count
        self.count.argtypes = [pointer, ctypes.c_char_p, pointer, size, pointer, pointer, pointer, size]
        self.count.restype = size
        self._new = holding.tamis_model_new
        self._new.restype = ctypes.c_void_p
        self.free = holding.tamis_model_free
        self.free.argtypes, self.free.restype = [ctypes.c_void_p], None

    def new_model(self, tensors: Tensors, settings: FeatureSettings) -> Any:
        """Return the handle of a model; the library copies what it needs."""
        classes, lower = ngrams.character_tables()
        arrays: dict[str, npt.NDArray[Any]] = {
            "classes": np.ascontiguousarray(classes, np.uint8),
            "lower": np.ascontiguousarray(lower, np.uint32),
            "size_steps": np.ascontiguousarray(SIZE_STEPS, np.uint64),
            "sublinear": np.ascontiguousarray(tensors.sublinear, np.float64),
            "features": np.ascontiguousarray(tensors.features, np.uint32),
            "idf": np.ascontiguousarray(tensors.idf, np.float32),
            "weights": np.ascontiguousarray(tensors.weights, np.float32),
            "intercept": np.ascontiguousarray(tensors.intercept, np.float64),
        }
        parts = _Parts(
            **{name: values.ctypes.data for name, values in arrays.items()},
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
        )
        return self._new(ctypes.byref(parts))


class _Parts(ctypes.Structure):
    """`Parts` of `native/src/lib.rs`."""

    _fields_ = [
        ("classes", ctypes.c_void_p),
        ("lower", ctypes.c_void_p),
        ("n_characters", ctypes.c_size_t),
        ("size_steps", ctypes.c_void_p),
        ("n_size_steps", ctypes.c_size_t),
        ("sublinear", ctypes.c_void_p),
        ("n_sublinear", ctypes.c_size_t),
        ("features", ctypes.c_void_p),
        ("idf", ctypes.c_void_p),
        ("n_features", ctypes.c_size_t),
        ("weights", ctypes.c_void_p),
        ("intercept", ctypes.c_void_p),
        ("n_columns", ctypes.c_size_t),
        ("bits", ctypes.c_uint32),
        ("ngram_min", ctypes.c_uint32),
        ("ngram_max", ctypes.c_uint32),
        ("word_pairs", ctypes.c_uint32),
        ("shapes", ctypes.c_uint32),
        ("phrases", ctypes.c_uint32),
    ]


@cache
def _library() -> _Library | None:
    """Load the library; None where the installation has none, or one of another version of Tamis."""
    if not _FILE.exists():
        return None
    library = _Library(_FILE)
    return library if library.interface == _INTERFACE else None

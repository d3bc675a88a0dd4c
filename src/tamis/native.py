"""Loads the compiled library (`native/`, in Rust) and declares its functions.

What uses it has a second form in numpy or scikit-learn, for installations without Rust. Handles pointers
and sizes; `models.linear` and `data.near_duplicates` know what they mean.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# raised with every change of a signature: a library of an older build must not be called
_INTERFACE = 8
_FILE = Path(__file__).with_name("native_library.so")

_POINTER, _SIZE, _BYTES, _NUMBER = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_uint32

_OUT_OF_MEMORY = 1


class ModelParts(ctypes.Structure):
    """`Parts` of `native/src/lib.rs`."""

    _fields_ = [
        ("classes", _POINTER),
        ("lower", _POINTER),
        ("n_characters", _SIZE),
        ("size_steps", _POINTER),
        ("n_size_steps", _SIZE),
        ("sublinear", _POINTER),
        ("n_sublinear", _SIZE),
        ("features", _POINTER),
        ("idf", _POINTER),
        ("n_features", _SIZE),
        ("weights", _POINTER),
        ("intercept", _POINTER),
        ("n_columns", _SIZE),
        ("bits", _NUMBER),
        ("ngram_min", _NUMBER),
        ("ngram_max", _NUMBER),
        ("word_pairs", _NUMBER),
        ("shapes", _NUMBER),
        ("phrases", _NUMBER),
        ("blocks", _NUMBER),
        ("scale", ctypes.c_double),
    ]


class CountedTextsParts(ctypes.Structure):
    """`CountedTexts` of `native/src/lib.rs`."""

    _fields_ = [
        ("starts", _POINTER),
        ("ids", _POINTER),
        ("counts", _POINTER),
        ("n_texts", _SIZE),
        ("n_entries", _SIZE),
        ("n_features", _SIZE),
    ]


class LabelledRows(ctypes.Structure):
    """`LabelledRows` of `native/src/lib.rs`."""

    _fields_ = [("rows", _POINTER), ("labels", _POINTER), ("n_rows", _SIZE), ("n_labels", _SIZE)]


class SolverOptions(ctypes.Structure):
    """`SolverOptions` of `native/src/lib.rs`."""

    _fields_ = [
        ("feature_weights", _POINTER),
        ("blocks", _POINTER),
        ("block_weights", ctypes.c_double * 3),
        ("sublinear", _POINTER),
        ("n_sublinear", _SIZE),
        ("costs", _POINTER),
        ("n_columns", _SIZE),
        ("epochs", _SIZE),
        ("seed", ctypes.c_uint64),
        ("n_threads", _SIZE),
    ]


class Function(NamedTuple):
    """A function of the library: called with the interpreter's lock held, and with it released."""

    locked: Any
    unlocked: Any


class Library:
    """The functions of the library; `native/src/lib.rs` documents them, `check` checks what they return."""

    def __init__(self, path: Path):
        # a short call is faster with the lock; a long one must not stop the other threads
        holding, releasing = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
        self.interface: int = holding.tamis_interface()
        # its other functions may not exist, or take other arguments
        if self.interface != _INTERFACE:
            return
        scoring = [_POINTER, _BYTES, _POINTER, _SIZE, _POINTER]
        self.margins, self.probabilities = (
            Function(_declared(holding, name, scoring), _declared(releasing, name, scoring))
            for name in ("tamis_model_margins", "tamis_model_probabilities")
        )
        counting = [_POINTER, _BYTES, _POINTER, _SIZE, _POINTER, _POINTER, _POINTER, _SIZE, _POINTER]
        self.count = _declared(releasing, "tamis_model_count", counting)
        self.new_model = _declared(holding, "tamis_model_new", [_POINTER, _POINTER])
        self.free_model = _declared(holding, "tamis_model_free", [_POINTER])
        self.free_model.restype = None
        self.margins_of_counts = _declared(
            releasing,
            "tamis_model_margins_of_counts",
            [_POINTER, _POINTER, _POINTER, _SIZE, _POINTER, _POINTER],
        )
        self.feature_weights = _declared(
            releasing, "tamis_feature_weights", [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER]
        )
        self.solve = _declared(releasing, "tamis_solve", [_POINTER] * 5)
        self.canonical_codes = _declared(
            releasing,
            "tamis_canonical_codes",
            [_POINTER, _POINTER, _SIZE, _BYTES, _SIZE, *[_POINTER] * 3],
        )
        self.last_record = _declared(
            releasing, "tamis_last_record", [_BYTES, _SIZE, ctypes.c_uint8, _POINTER]
        )
        self.near_duplicates = _declared(
            releasing, "tamis_near_duplicates", [_BYTES, _POINTER, _SIZE, ctypes.c_double, _POINTER]
        )


def address_of(array: npt.NDArray[Any]) -> int:
    """Return where a contiguous array's numbers are; the caller keeps the array alive."""
    # the library reads n numbers from this address, whatever the strides say
    assert array.flags.c_contiguous
    return array.ctypes.data


@cache
def native_library() -> Library | None:
    """Load the library; None if the installation has none, or one of another version of Tamis."""
    # an installation without Rust
    if not _FILE.exists():
        return None
    library = Library(_FILE)
    return library if library.interface == _INTERFACE else None


def is_compiled() -> bool:
    """Return whether the compiled library is used."""
    return native_library() is not None


def check(status: int) -> None:
    """Raise MemoryError or RuntimeError unless a function of the library returned 0."""
    if status == _OUT_OF_MEMORY:
        raise MemoryError("the native library could not allocate memory")
    if status:
        raise RuntimeError("internal error in the native library; see standard error")


def _declared(library: Any, name: str, arguments: list[Any]) -> Any:
    """Return a function that returns a status, for `check`."""
    function = getattr(library, name)
    function.argtypes, function.restype = arguments, ctypes.c_int
    return function


def contiguous(array: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return a contiguous array of the type that the library reads, the same one if it is that already."""
    return np.ascontiguousarray(array, dtype)

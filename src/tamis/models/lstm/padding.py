"""Sequences of different length as one array: the only padding there is, in training and in serving.

Knows lengths and zeros; does not know what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
"""[texts, steps] numbers of words; 0 where there is none."""


def pad(sequences: Sequence[npt.NDArray[np.int32]], *, width: int, left: bool = False) -> Tokens:
    """Return [texts, width] numbers, zeros after each sequence, or before it with `left`."""
    tokens = np.zeros((len(sequences), width), np.int32)
    for row, sequence in zip(tokens, sequences, strict=True):
        if left:
            row[width - sequence.size :] = sequence
        else:
            row[: sequence.size] = sequence
    return tokens


def lengths_of(sequences: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    """Return [texts] the number of words in each."""
    return np.fromiter((sequence.size for sequence in sequences), np.int32, len(sequences))


def batches_of_like_length(lengths: npt.NDArray[np.int32], *, most: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the places of at most `most` texts each, shortest texts first, so that little is padded."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, order.size, most):
        yield order[start : start + most]

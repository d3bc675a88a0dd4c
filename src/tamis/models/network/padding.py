"""Padding of token sequences to one array, the same in training and in serving."""

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


def batches_of_like_length(
    lengths: npt.NDArray[np.int32], *, max_texts: int
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the indices of at most `max_texts` texts each, shortest first, to keep padding low."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, order.size, max_texts):
        yield order[start : start + max_texts]
